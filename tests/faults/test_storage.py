"""Full or read-only disks and damaged checkpoints, under a real Ray: no reported epoch is lost."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from tests.faults.injection import CHAOS, Tally
from tests.faults.killing import LOSSES
from tests.tune_jobs.runs import assert_curves_are_those_of_training_alone, copy_run, job_in, line_in
from tune_jobs import Job, Run, open_run, resume, run
from tune_jobs.cli.main import main
from tune_jobs.cli.summary import print_tuned
from tune_jobs.errors import RunFolderError, StorageFailed
from tune_jobs.holdout.ledger import read_ledger
from tune_jobs.record.codes import Ending, Status
from tune_jobs.record.events import (
    CheckpointDamaged,
    CheckpointWritten,
    EpochsReported,
    Event,
    RunEnded,
    TrialCreated,
    TrialPaused,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import read_journal

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("slope_kind", "ray_running")]

FULL_DISKS = Tally("disk that fills up during a run")
DAMAGED_CHECKPOINTS = Tally("checkpoints cut, with flipped bits or of another trial, then resumed")


@pytest.fixture(scope="module", autouse=True)
def report() -> Iterator[None]:
    yield
    FULL_DISKS.report()
    DAMAGED_CHECKPOINTS.report()


class Disk:
    """A small separate disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.filler = path / "filler"
        path.mkdir()
        self._mount("-t", "tmpfs", "-o", "size=6m", "tmpfs")

    def fill(self, leave: int = 0) -> None:
        """Fill the disk and leave `leave` bytes free, in whole pages."""
        with self.filler.open("ab") as file:
            free = shutil.disk_usage(self.path).free
            os.posix_fallocate(file.fileno(), file.tell(), max(free - leave, 1))

    def grow(self) -> None:
        self._mount("-o", "remount,size=64m")

    def make_read_only(self) -> None:
        self._mount("-o", "remount,ro")

    def _mount(self, *arguments: str) -> None:
        done = subprocess.run(
            ["mount", *arguments, str(self.path)], check=False, capture_output=True, text=True
        )
        if done.returncode:
            raise OSError(f"mount {' '.join(arguments)}: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    try:
        made = Disk(tmp_path / "disk")
    except OSError as error:
        pytest.skip(f"a disk of its own cannot be mounted here: {error}")
    yield made
    subprocess.run(["umount", "--lazy", str(made.path)], check=True)  # idle workers may still be in there


def job_on(storage: Path, **changes: Any) -> Job:
    """Return a job of six trials, one at a time, with checkpoints of about 150 kB."""
    return line_in(
        storage.parent, {"search/trials": 6, "slope/ballast": 150_000, "storage": str(storage), **changes}
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("undisturbed")


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> Run:
    """Return a run that was copied in the middle of a trial with two checkpoints."""

    def copy() -> None:
        (made,) = (folder / "runs").iterdir()
        copy_run(made, folder / "killed")

    return run(job_on(folder / "runs"), listeners=[after_second_checkpoint(copy)])


def assert_the_same(made: Run, expected: Run) -> None:
    """Check that both tables agree bit for bit except for times, and the winner with its weights."""
    for mine, other in ((made.trials, expected.trials), (made.epochs, expected.epochs)):
        frames = [frame.drop(columns=["seconds", "node"], errors="ignore") for frame in (mine, other)]
        pd.testing.assert_frame_equal(*frames, check_exact=True)
    assert (made.winner_id, made.winner.epoch) == (expected.winner_id, expected.winner.epoch)
    assert made.load_model() == expected.load_model()


def losses(finished: Run) -> dict[tuple[str, int], float]:
    """By trial and epoch."""
    frame = finished.epochs
    if not len(frame):
        return {}
    (name,) = (name for name in LOSSES if name in frame)
    return dict(zip(zip(frame["trial_id"], frame["epoch"], strict=True), frame[name], strict=True))


def lost(before: Run, after: Run) -> int:
    """Return the number of epochs that were reported before and are missing or different now."""
    now = losses(after)
    return sum(now.get(key) != loss for key, loss in losses(before).items())


def events_in(path: Path) -> list[Event]:
    return read_journal(RunFolder(path).journal)


def after(kind: type[Event], number: int, do: Callable[[], None]) -> Callable[[Event], None]:
    """Return a listener that calls `do` after a number of events of a kind. They are on disk by then."""
    received: list[Event] = []

    def listen(event: Event) -> None:
        if isinstance(event, kind):
            received.append(event)
            if len(received) == number:
                do()

    return listen


# Before a run


def full(disk: Disk) -> str:
    disk.fill()
    return r"\(No space left on device; 0\.0 MB free\)"


def nearly_full(disk: Disk) -> str:
    disk.fill(leave=500_000)
    return r"\(No space left on device; 0\.\d MB free\)"


def read_only(disk: Disk) -> str:
    disk.make_read_only()
    return r"\(Read-only file system\)"


@pytest.mark.parametrize("spoil", [full, nearly_full, read_only])
@pytest.mark.parametrize("inside", ["runs", "some/where"])
def test_a_full_disk_is_noticed_before_the_run(
    disk: Disk, capsys: pytest.CaptureFixture[str], spoil: Callable[[Disk], str], inside: str
) -> None:
    expected = spoil(disk)
    before = sorted(disk.path.rglob("*"))
    with pytest.raises(
        RunFolderError, match=f"storage: cannot write to .*{inside} {expected}; give a folder"
    ):
        run(job_on(disk.path / inside))
    assert sorted(disk.path.rglob("*")) == before
    job_file = disk.path.parent / "job.yaml"
    job_file.write_text(job_on(disk.path / inside).to_yaml())
    assert main(["run", str(job_file)]) == 2
    assert "cannot write to" in capsys.readouterr().err
    assert sorted(disk.path.rglob("*")) == before


def test_a_disk_without_room_for_the_sealed_rows_is_left_as_it_was(disk: Disk, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(20_000, 40)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=rows, y=rows[:, 0])
    disk.fill(leave=2_000_000)
    source = {"source": str(tmp_path / "rows.npz"), "split": {"test": 0.9, "train": 0.05, "validation": 0.05}}
    job = job_in(tmp_path, {"data": source, "storage": str(disk.path / "runs")})
    with pytest.raises(RunFolderError, match=r"\(No space left on device; "):
        run(job)
    assert list(disk.path.iterdir()) == [disk.filler]


# During a run


MOMENTS = [
    (TrialCreated, 3, 0),
    (CheckpointWritten, 3, 80_000),  # room for the journal but not for a checkpoint
    *([(kind, number, leave) for kind in (TrialCreated, EpochsReported, CheckpointWritten, TrialPaused)
       for number in (1, 2, 5) for leave in (0, 80_000)] if CHAOS else []),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "number", "leave"), MOMENTS)
def test_a_disk_that_fills_up_stops_the_run_and_costs_nothing(
    disk: Disk, undisturbed: Run, kind: type[Event], number: int, leave: int
) -> None:
    FULL_DISKS.injected += 1
    stopped = stop_by_filling(disk, job_on(disk.path / "runs"), kind, number, leave)
    before = RunFolder(stopped.path).journal.read_bytes()
    with pytest.raises(StorageFailed, match="No space left on device"):
        resume(stopped.path)
    assert RunFolder(stopped.path).journal.read_bytes() == before
    disk.grow()
    made = resume(stopped.path)
    FULL_DISKS.results_lost += lost(stopped, made)
    assert_the_same(made, undisturbed)
    FULL_DISKS.outcomes["resumed to the same tables"] += 1


@pytest.mark.skipif(not CHAOS, reason="with one worker in the short form")
@pytest.mark.parametrize("leave", [0, 80_000])
@pytest.mark.parametrize("number", [2, 4, 6])
def test_with_two_workers_every_curve_is_what_it_would_have_been(disk: Disk, number: int, leave: int) -> None:
    FULL_DISKS.injected += 1
    job = job_on(disk.path / "runs", **{"resources/max_concurrent": 2})
    stopped = stop_by_filling(disk, job, EpochsReported, number, leave)
    disk.grow()
    made = resume(stopped.path)
    FULL_DISKS.results_lost += lost(stopped, made)
    assert made.ending is Ending.ALL_TRIALS
    assert len(made.trials) == job.trials
    assert_curves_are_those_of_training_alone(made)
    FULL_DISKS.outcomes["resumed to the same curves"] += 1


def stop_by_filling(disk: Disk, job: Job, kind: type[Event], number: int, leave: int) -> Run:
    """Return the run that a full disk stopped, and check its reported epochs."""
    fill = after(kind, number, lambda: disk.fill(leave))
    with pytest.raises(StorageFailed, match=r"cannot be written to \(No space left on device; ") as caught:
        run(job, listeners=[fill])
    path = caught.value.path
    assert f"continue with `tune-jobs resume {path}`" in str(caught.value)
    assert caught.value.exit_code == 130
    stopped = open_run(path)
    assert Status.FAILED not in {trial.status for trial in stopped.record.trials.values()}
    if leave:
        assert str(path / "checkpoints") in str(caught.value)
        assert stopped.ending is Ending.STORAGE
    return stopped


def test_tables_that_cannot_be_written_are_written_when_the_run_is_resumed(
    disk: Disk, undisturbed: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    def tune() -> Path:
        return run(job_on(disk.path / "runs"), listeners=[after(RunEnded, 1, disk.fill)]).path

    with pytest.raises(
        StorageFailed, match=r"parquet: cannot be written to \(No space left on device; "
    ) as caught:
        print_tuned(tune, Console(soft_wrap=True))
    *_, last = capsys.readouterr().out.splitlines()
    assert last == f"run: {caught.value.path}", "although nothing is selected"
    path = caught.value.path
    assert open_run(path).ending is Ending.ALL_TRIALS
    assert not RunFolder(path).trials.exists()
    disk.grow()
    before = len(events_in(path))
    assert_the_same(resume(path), undisturbed)
    assert len(events_in(path)) == before
    assert RunFolder(path).trials.is_file()


def test_a_run_on_a_read_only_disk_is_read_and_not_resumed(disk: Disk, undisturbed: Run) -> None:
    path = disk.path / "run"
    shutil.copytree(undisturbed.path, path)
    disk.make_read_only()
    assert_the_same(open_run(path), undisturbed)
    with pytest.raises(StorageFailed, match=r"cannot be written to \(Read-only file system\)"):
        resume(path)
    assert main(["resume", str(path)]) == 130
    assert main(["show", str(path)]) == 0
    with pytest.raises(RunFolderError, match="so the opening of the holdout could not be recorded"):
        open_run(path).test()
    assert read_ledger(RunFolder(path)) == []


def test_a_run_folder_that_is_gone_stops_the_run(tmp_path: Path) -> None:
    """The run exists in memory alone by then, and its folder is not created again."""
    storage = tmp_path / "runs"
    gone = after(CheckpointWritten, 3, lambda: shutil.rmtree(storage, ignore_errors=True))
    with pytest.raises(StorageFailed, match="was removed while the run was at work") as caught:
        run(line_in(tmp_path, {}), listeners=[gone])
    assert not storage.exists()
    (kept,) = re.findall(r"recorded before is in (\S+)\. Restore", str(caught.value))
    assert b'"type":"trial_created"' in Path(kept).read_bytes()
    Path(kept).unlink()


def save(journal: Path) -> None:
    journal.with_name("new").write_bytes(journal.read_bytes())
    journal.with_name("new").replace(journal)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (save, "was replaced by another file"),
        (lambda path: os.truncate(path, 99), "was shortened by another"),
    ],
)
def test_a_journal_that_an_editor_saves_stops_the_run_which_continues_once_it_is_put_back(
    tmp_path: Path, change: Callable[[Path], None], what: str
) -> None:
    def change_it() -> None:
        (journal,) = (tmp_path / "runs").glob("*/journal/events.jsonl")
        change(journal)

    with pytest.raises(StorageFailed, match=what) as caught:
        run(line_in(tmp_path, {"search/trials": 3}), listeners=[after(CheckpointWritten, 2, change_it)])
    (kept,) = re.findall(r"recorded before is in (\S+)\. Put", str(caught.value))
    (path,) = (tmp_path / "runs").iterdir()
    Path(kept).replace(RunFolder(path).journal)
    assert resume(path).ending is Ending.ALL_TRIALS


def test_a_run_folder_that_is_renamed_stops_the_run_and_the_message_names_its_new_place(
    tmp_path: Path,
) -> None:
    moved = tmp_path / "moved"

    def rename() -> None:
        (path,) = (tmp_path / "runs").iterdir()
        path.rename(moved)

    with pytest.raises(StorageFailed, match=f"was moved to {moved} while .*`tune-jobs resume {moved}`"):
        run(line_in(tmp_path, {"search/trials": 3}), listeners=[after(CheckpointWritten, 2, rename)])
    assert list((tmp_path / "runs").iterdir()) == []
    assert resume(moved).ending is Ending.ALL_TRIALS


# Damaged checkpoints


def flip(file: Path, draw: Random) -> None:
    content = bytearray(file.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(content)


def cut(file: Path, draw: Random) -> None:
    file.write_bytes(file.read_bytes()[: draw.randrange(1000, file.stat().st_size - 1000)])


def empty(file: Path, draw: Random) -> None:
    file.write_bytes(b"")


def replace_by_another(file: Path, draw: Random) -> None:
    """Put a checkpoint of another trial there, as if the two were swapped."""
    others = [one for one in file.parents[1].glob("*/*.pt") if one.parent != file.parent]
    shutil.copyfile(draw.choice(sorted(others)), file)


@pytest.mark.parametrize("seed", range(10 if CHAOS else 1))
@pytest.mark.parametrize(
    ("how", "number"),
    [(replace_by_another, 2), (cut, 1), (flip, 2), *([(empty, 1), (flip, 1), (cut, 2)] if CHAOS else [])],
)
def test_a_run_continues_from_the_checkpoint_before_a_damaged_one_and_says_so(
    tmp_path: Path, folder: Path, undisturbed: Run, how: Callable[[Path, Random], None], number: int, seed: int,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Damage one or both checkpoints of a trial in the middle of its training."""
    copy = tmp_path / "killed"
    shutil.copytree(folder / "killed", copy)
    before = open_run(copy)
    trial_id, files = in_the_middle(copy)
    for file in files[:number]:
        how(file, Random(seed))
        DAMAGED_CHECKPOINTS.injected += 1
    made = resume(copy)
    DAMAGED_CHECKPOINTS.results_lost += lost(before, made)
    assert_the_same(made, undisturbed)
    told = [event for event in events_in(copy) if isinstance(event, CheckpointDamaged)]
    names = [f"checkpoints/{trial_id}/{file.name}" for file in files[:number]]
    assert [event.file for event in told] == names
    assert main(["show", str(copy), "--trial", trial_id]) == 0
    assert f"{names[0]} was damaged" in capsys.readouterr().out
    DAMAGED_CHECKPOINTS.outcomes["resumed to the same tables"] += number


def after_second_checkpoint(do: Callable[[], None]) -> Callable[[Event], None]:
    """Return a listener that calls `do` when a trial has written two checkpoints."""
    last: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, CheckpointWritten) and "" not in last:
            if event.trial_id in last:
                do()
                last.append("")
            last.append(event.trial_id)

    return listen


def in_the_middle(path: Path) -> tuple[str, list[Path]]:
    """Return the trial of a killed run that has two checkpoints, and these, the latest first."""
    record = open_run(path).record
    (trial,) = [
        trial
        for trial in record.trials.values()
        if not trial.status.ended and len(list((path / "checkpoints" / trial.trial_id).glob("*.pt"))) == 2
    ]
    return trial.trial_id, sorted((path / "checkpoints" / trial.trial_id).glob("*.pt"), reverse=True)
