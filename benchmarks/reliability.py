"""What reliability costs: the journal, by record and as a share of a run, and the time until a resumed run trains."""

import os
import signal
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.runs import (
    DIGITS_JOB,
    FinishedRun,
    journal_so_far,
    private_folder,
    run_tune_jobs,
    started,
    tune_jobs_command,
)
from benchmarks.timing import ratio_table, side_by_side
from tune_jobs.record.events import EpochsReported, Event, RunResumed, TrialEnded
from tune_jobs.record.journal import Journal

TARGET_MILLISECONDS = 1.0
TARGET_SHARE = 0.02
LENGTHS = (1_000, 10_000, 100_000)
"""Records in a journal, after which the cost of one more is told."""
SEEN = 1_000
"""So many records before each of these lengths are timed."""
ENDED_BEFORE_THE_KILL = 20


def time_appends(events: Sequence[Event], path: Path) -> list[float]:
    """Seconds that each of `events` takes to be appended to a new journal at `path`."""
    seconds = []
    with Journal(path) as journal:
        for event in events:
            began = time.perf_counter()
            journal.append(event)
            seconds.append(time.perf_counter() - began)
    return seconds


def repeated(events: Sequence[Event], length: int) -> list[Event]:
    """So many events, those of a run over and over."""
    return [replace(events[number % len(events)]) for number in range(length)]


def seconds_to_first_epoch(events: Sequence[Event], since: float) -> float:
    """From `since` to the first epoch that was done after it, as its worker began with it.

    Raises:
        ValueError: No epoch was reported after it.
    """
    for event in events:
        if isinstance(event, EpochsReported) and event.time > since:
            return event.time - sum(float(result["seconds"]) for result in event.results) - since
    raise ValueError(f"No epoch was reported after {since}, in {len(events)} events.")


def resumed_run() -> float:
    """Kills a run in its middle, resumes it, and returns the seconds from the start of the process to an epoch."""
    with private_folder() as folder:
        storage = folder / "runs"
        with started(["-c", _KILLED.format(command=tune_jobs_command(DIGITS_JOB, storage))], folder):
            while (
                sum(isinstance(event, TrialEnded) for event in journal_so_far(storage))
                < ENDED_BEFORE_THE_KILL
            ):
                time.sleep(0.1)
            (run,) = storage.iterdir()
            os.kill(int(Path(folder, "pid").read_text()), signal.SIGKILL)
        began = time.time()
        with started(["-m", "tune_jobs", "resume", str(run)], folder):
            pass
        events = journal_so_far(storage)
    place = next(number for number, event in enumerate(events) if isinstance(event, RunResumed))
    return seconds_to_first_epoch(events[place:], began)


_KILLED = """
import os, pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, *{command!r}])
pathlib.Path(os.environ["TMPDIR"], "pid").write_text(str(child.pid))
child.wait()
"""
"""A process that outlives the run, so that the run's being killed is no failure of the measurement."""


def fresh_run() -> float:
    """Seconds from the start of the process to the first epoch of a new run."""
    run = run_tune_jobs(DIGITS_JOB)
    return seconds_to_first_epoch(run.events, run.started)


def journal_table(run: FinishedRun, folder: Path) -> str:
    """The cost of one more record at several lengths, and the share of the run that its own records take."""
    rows = ["| Records | bytes a record | ms for one more, median | 95th percentile |", "|---|---|---|---|"]
    seconds = time_appends(repeated(run.events, max(LENGTHS)), folder / "long.jsonl")
    size = (folder / "long.jsonl").stat().st_size / max(LENGTHS)
    for length in LENGTHS:
        last = sorted(seconds[length - SEEN : length])
        rows.append(
            f"| {length:,} | {size:.0f} | {1e3 * statistics.median(last):.3f} | "
            f"{1e3 * last[int(0.95 * SEEN)]:.3f} |"
        )
    own = sum(time_appends(run.events, folder / "own.jsonl"))
    rows.append(
        f"\nThe {len(run.events)} records of a run of 64 trials take {own:.3f} s of its {run.wall_seconds:.1f} s: "
        f"{100 * own / run.wall_seconds:.2f} % (bar {100 * TARGET_SHARE:.0f} %)."
    )
    return "\n".join(rows)


def report(repeats: int) -> str:
    """Measures, and formats what was measured as Markdown."""
    run = run_tune_jobs(DIGITS_JOB)
    with private_folder() as folder:
        journal = journal_table(run, folder)
    times = side_by_side({"a new run": fresh_run, "a resumed run": resumed_run}, repeats)
    return (
        f"## Reliability\n\n### The journal (bar: {TARGET_MILLISECONDS:g} ms a record)\n\n{journal}\n\n"
        "### From the start of the process to the first new epoch\n\n"
        + ratio_table(times, baseline="a new run", unit="seconds")
    )
