"""Runs in separate processes that are really killed, and checks of them afterwards."""

import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tests.processes import start
from tests.trainers.slope_command import COMMAND, with_repository
from tune_jobs import Run
from tune_jobs.record.events import EpochsReported, Event
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import read_journal

Results = Mapping[tuple[str, int], float]
"""Validation losses by trial and epoch."""
LOSSES = ("val_loss", "error")
"""The validation loss of each kind."""
KEYS = ["trial_id", "epoch"]


@dataclass(frozen=True)
class CommandLine:
    """Calls `tune-jobs`, with the small kind, in separate processes.

    Args:
        folder: The folder with the job file and the user's modules.
        storage: The folder for runs.
        ray: The folder of Ray's own files. Its path is short since it holds sockets.
    """

    folder: Path
    storage: Path
    ray: Path

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        with (self.storage.parent / f"{self.storage.name}.log").open("a") as log:
            return start(
                [*COMMAND, *arguments],
                cwd=self.folder,
                env=with_repository({**os.environ, "RAY_TMPDIR": str(self.ray)}),
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def run(self) -> "subprocess.Popen[str]":
        return self.start("run", "job.yaml", "--storage", str(self.storage))

    def resume(self) -> "subprocess.Popen[str]":
        return self.start("resume", str(self.made()))

    def made(self) -> Path | None:
        """Return the run folder once the run has begun."""
        begun = [path for path in self.storage.glob("*") if begun_at(path)]
        return begun[0] if begun else None

    @property
    def events(self) -> int:
        """Return the number of lines in the run's journal."""
        made = self.made()
        return 0 if made is None else RunFolder(made).journal.read_bytes().count(b"\n")

    @property
    def said(self) -> str:
        return (self.storage.parent / f"{self.storage.name}.log").read_text()


@dataclass(frozen=True)
class Undisturbed:
    """The result of a run and its time."""

    made: Run
    seconds: float


def begun_at(path: Path) -> bool:
    """Return whether the run in this folder has written the first line of its journal."""
    journal = RunFolder(path).journal
    return journal.is_file() and b"\n" in journal.read_bytes()


def kill_after(process: "subprocess.Popen[str]", seconds: float) -> bool:
    """Kill `process` after `seconds` and return True, or return False if it has ended by then."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def results_of(events: list[Event]) -> Results:
    """Return all reported results, each as it was reported first."""
    results: dict[tuple[str, int], float] = {}
    for event in events:
        for result in event.results if isinstance(event, EpochsReported) else ():
            (name,) = (name for name in LOSSES if name in result)
            results.setdefault((event.trial_id, int(result["epoch"])), float(result[name]))
    return results


def reported(path: Path | None) -> Results:
    """Return the results in the journal of a killed run."""
    return {} if path is None else results_of(read_journal(RunFolder(path).journal))


def count_lost(before: Results, made: Run) -> int:
    """Return the number of reported results that the run's table lacks or holds differently."""
    (name,) = (name for name in LOSSES if name in made.epochs)
    rows = made.epochs[[*KEYS, name]].itertuples(index=False)
    now = {(str(trial), int(epoch)): float(loss) for trial, epoch, loss in rows}
    return sum(now.get(key) != loss for key, loss in before.items())


def same_tables(made: Run, expected: Run) -> bool:
    """Return whether both tables agree bit for bit except for times, and the winner is the same."""
    trials = [frame.trials.drop(columns=["seconds", "node"]) for frame in (made, expected)]
    epochs = [frame.epochs.drop(columns="seconds") for frame in (made, expected)]
    winners = [
        (run.winner.trial_id, run.winner.epoch, run.winner.score, run.winner.checkpoint.name)
        for run in (made, expected)
        if run.winner.checkpoint.is_file()
    ]
    return trials[0].equals(trials[1]) and epochs[0].equals(epochs[1]) and winners == [winners[0]] * 2


def same_curves(made: Run, expected: Run) -> bool:
    """Return whether the losses of common trials agree in all common epochs."""
    names = expected.epochs.columns.difference([*KEYS, "seconds"])
    common = pd.merge(made.epochs, expected.epochs, on=KEYS)
    return all(bool((common[f"{name}_x"] == common[f"{name}_y"]).all()) for name in names)


def processes_of(ray: Path) -> list[int]:
    """Return the processes of a Ray with its files in this folder, by their environment and command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            text = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
        except OSError:
            continue
        if str(ray).encode() in text and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


def wait_until_gone(ray: Path, seconds: float = 60.0) -> list[int]:
    """Wait at most `seconds` for the end of that Ray's processes, and return those that are left."""
    until = time.monotonic() + seconds
    while (left := processes_of(ray)) and time.monotonic() < until:
        time.sleep(0.2)
    return left
