"""Runs in a store, made without Ray, and simulated machines with different folders of copies."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.processes import PATIENCE
from tests.tune_jobs.remote.object_stores import environment
from tune_jobs.location import Location
from tune_jobs.record.events import Event, TrialCreated
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal
from tune_jobs.remote.mirror import mirrored
from tune_jobs.remote.working_copy import copies_folder

Machine = Callable[[str], AbstractContextManager[None]]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Let the block use the copies of runs of another machine with this name."""
    return lambda name: environment({"TUNE_JOBS_CACHE": str(tmp_path / name)})


@pytest.fixture(autouse=True)
def on_the_first(machine: Machine) -> Iterator[None]:
    with machine("first"):
        yield


def keep(folder: RunFolder, place: Location) -> RunFolder:
    """Move the run in `folder` to `place`; return this machine's copy of it."""
    copy = RunFolder(copies_folder(place) / folder.name)
    shutil.copytree(folder.path, copy.path)
    shutil.rmtree(copy.checkpoints)
    (copy.holdout / "rows.npz").write_bytes(b"rows")
    with Journal(copy.journal) as journal, mirrored(copy, journal):
        pass
    return copy


def created(number: int) -> Event:
    return TrialCreated(trial_id=f"{number:04d}", number=number, configuration={"lr": 0.1})


def append(folder: RunFolder, *events: Event) -> None:
    """Append events like a driver whose machine dies before they reach the store."""
    with Journal(folder.journal) as journal:
        for event in events:
            journal.append(event)


def wait_for(what: Callable[[], bool]) -> None:
    """Return once `what` holds, and fail if it does not within PATIENCE."""
    until = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)
