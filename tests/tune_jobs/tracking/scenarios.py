"""Ways in which a run may come about, and what every tracker must have of it then.

A scenario is a list of drivers, each with the events that it wrote; `died` are those that were killed: their trackers
are not told that the run ends, and are not closed.
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
from tune_jobs.record.curve import numbers
from tune_jobs.record.events import Event, RunResumed, Status, in_force
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal, read_journal
from tune_jobs.record.run_record import RunRecord
from tune_jobs.tracking import Guest, TrackedRun, Tracker

MakeTrackers = Callable[[TrackedRun], dict[str, Tracker]]


@dataclass(frozen=True)
class Driver:
    """What one driver wrote."""

    events: Sequence[Event]
    died: bool = False
    unwritten: int = 0
    """So many of its last events its trackers had not come to when it was killed."""


Scenario = Sequence[Driver]


def scenarios() -> Iterator[tuple[str, Scenario]]:
    """All of them by name: the made-up run straight through, interrupted at any place, and killed at any place."""
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
    """Has the trackers follow the scenario's drivers, one after the other."""
    for driver in scenario:
        past = read_journal(folder.journal) if folder.journal.exists() else []
        known = in_force([*past, *driver.events[:1]]) if past else []
        making = partial(make, TrackedRun(job, folder.path, known))
        if driver.died:
            in_process_of_its_own(partial(_die, folder, driver, making))
            assert len(read_journal(folder.journal)) == len(past) + len(driver.events)
            continue
        with ExitStack() as stack, Journal(folder.journal) as journal:
            for name, tracker in making().items():
                journal.follow(stack.enter_context(Guest(tracker, name)))
            for event in driver.events:
                journal.append(event)


def in_process_of_its_own(call: Callable[[], None]) -> None:
    """Has `call` end its process in the way that it does."""
    child = os.fork()
    if child == 0:
        try:
            call()
        except BaseException:
            traceback.print_exc()
        os._exit(1)  # what is buffered stays unwritten
    os.waitpid(child, 0)


def _die(folder: RunFolder, driver: Driver, make: Callable[[], dict[str, Tracker]]) -> None:
    """Follows the driver's events and is killed."""
    trackers = make()
    with Journal(folder.journal) as journal:
        for number, event in enumerate(driver.events):
            journal.append(event)
            if number < len(driver.events) - driver.unwritten:
                for tracker in trackers.values():
                    tracker(event)
        os.kill(os.getpid(), signal.SIGKILL)


def expected_epochs(folder: RunFolder, job: Job) -> dict[str, dict[int, dict[str, float]]]:
    """Epochs by trial, as the run's own records have them."""
    record = _record(folder, job)
    return {
        trial.trial_id: {
            epoch: {name: float(value) for name, value in numbers(row).items()}
            for epoch, row in trial.epochs.items()
        }
        for trial in record.trials.values()
    }


def expected_statuses(folder: RunFolder, job: Job) -> dict[str, str]:
    """Statuses of the trials that have ended."""
    trials = _record(folder, job).trials.values()
    return {trial.trial_id: str(trial.status) for trial in trials if trial.status.ended}


def succeeded(status: str) -> bool:
    return Status(status).selectable


def _record(folder: RunFolder, job: Job) -> RunRecord:
    return RunRecord.replay(in_force(read_journal(folder.journal)), job.selection)


def folder_of(root: Path, name: str) -> RunFolder:
    """A run folder named after a scenario."""
    folder = RunFolder(root / name)
    folder.journal.parent.mkdir(parents=True)
    return folder
