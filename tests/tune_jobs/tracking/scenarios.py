"""Courses of a run, and the values that every tracker must have afterwards.

A scenario is a list of drivers, each with the events that it wrote. A driver with `died` was killed: its trackers
do not receive the end of the run and are not closed.
"""

import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.tune_jobs.tracking.conftest import interrupted, run_events
from tune_jobs.job.job import Job
from tune_jobs.record.codes import Status
from tune_jobs.record.curve import numbers
from tune_jobs.record.events import (
    Event,
    RunResumed,
    in_force,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal, read_journal
from tune_jobs.record.run_record import RunRecord
from tune_jobs.tracking import Guest, TrackedRun, Tracker

MakeTrackers = Callable[[TrackedRun], dict[str, Tracker]]


@dataclass(frozen=True)
class Driver:
    """The events of one driver."""

    events: Sequence[Event]
    died: bool = False
    unwritten: int = 0
    """The number of last events that its trackers had not received when it was killed."""


Scenario = Sequence[Driver]


def scenarios() -> Iterator[tuple[str, Scenario]]:
    """Yield all scenarios by name: the made-up run undisturbed, interrupted at any place, and killed at any place."""
    events = run_events()
    yield "straight", [Driver(events)]
    for place in range(1, len(events) - 1):
        yield f"interrupted-{place}", [Driver(part) for part in interrupted(events, place)]
    for place in range(1, len(events)):
        rest = [RunResumed(trials=4, versions={}), *events[place:]]
        for unwritten in (0, 3):
            yield (
                f"killed-{place}-{unwritten}",
                [Driver(events[:place], died=True, unwritten=unwritten), Driver(rest)],
            )
    again = [RunResumed(trials=4, versions={}), *events[10:16]]
    last = [RunResumed(trials=4, versions={}), *events[16:]]
    yield (
        "killed-twice",
        [Driver(events[:10], died=True), Driver(again, died=True, unwritten=2), Driver(last)],
    )
    yield "killed-at-the-end", [Driver(events, died=True, unwritten=8), Driver([])]


def play(job: Job, folder: RunFolder, scenario: Scenario, make: MakeTrackers) -> None:
    """Let the trackers follow the drivers of the scenario, one after the other."""
    for driver in scenario:
        past = read_journal(folder.journal) if folder.journal.exists() else []
        known = in_force([*past, *driver.events[:1]]) if past else []
        making = partial(make, TrackedRun(job, folder.path, known))
        if driver.died:
            in_child_process(partial(_die, folder, driver, making))
            assert len(read_journal(folder.journal)) == len(past) + len(driver.events)
            continue
        with ExitStack() as stack, Journal(folder.journal) as journal:
            for name, tracker in making().items():
                journal.follow(stack.enter_context(Guest(tracker, name)))
            for event in driver.events:
                journal.append(event)


def in_child_process(call: Callable[[], None]) -> None:
    """Run `call` in a child process, which exits without writing its buffers."""
    child = os.fork()
    if child == 0:
        try:
            call()
        except BaseException:
            traceback.print_exc()
        os._exit(1)  # buffered data stay unwritten
    os.waitpid(child, 0)


def _die(folder: RunFolder, driver: Driver, make: Callable[[], dict[str, Tracker]]) -> None:
    """Follow the driver's events and be killed."""
    trackers = make()
    with Journal(folder.journal) as journal:
        for number, event in enumerate(driver.events):
            journal.append(event)
            if number < len(driver.events) - driver.unwritten:
                for tracker in trackers.values():
                    tracker(event)
        os.kill(os.getpid(), signal.SIGKILL)


def expected_epochs(folder: RunFolder, job: Job) -> dict[str, dict[int, dict[str, float]]]:
    """Return the epochs by trial from the run's own records."""
    record = _record(folder, job)
    return {
        trial.trial_id: {
            epoch: {name: float(value) for name, value in numbers(row).items()}
            for epoch, row in trial.epochs.items()
        }
        for trial in record.trials.values()
    }


def expected_statuses(folder: RunFolder, job: Job) -> dict[str, str]:
    """Return the statuses of the trials that have ended."""
    trials = _record(folder, job).trials.values()
    return {trial.trial_id: str(trial.status) for trial in trials if trial.status.ended}


def succeeded(status: str) -> bool:
    return Status(status).selectable


def _record(folder: RunFolder, job: Job) -> RunRecord:
    return RunRecord.replay(in_force(read_journal(folder.journal)), job.selection)


def folder_of(root: Path, name: str) -> RunFolder:
    """Return a run folder named after a scenario."""
    folder = RunFolder(root / name)
    folder.journal.parent.mkdir(parents=True)
    return folder
