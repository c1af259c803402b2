"""The events of a small run, for tests of everything that shows a run in progress."""

from typing import Any

from tests.tune_jobs.causes import CAUSE_OF
from tests.tune_jobs.rows import with_divergence
from tune_jobs.cli.progress import RunProgress
from tune_jobs.job.job import Job
from tune_jobs.record.codes import Status
from tune_jobs.record.events import (
    EpochsReported,
    Event,
    RunStarted,
    TrialCreated,
    TrialEnded,
    TrialStarted,
)

START_TIME = 1_000_000.0


class Clock:
    """The clock of a `RunProgress`. Events carry their own times."""

    def __init__(self) -> None:
        self.now = START_TIME

    def __call__(self) -> float:
        return self.now


RUN_STARTED = RunStarted(
    time=START_TIME + 1, name="small", job_folder="", trials=6, rows={}, fingerprints={}, versions={}
)


def created(number: int, **configuration: Any) -> TrialCreated:
    return TrialCreated(
        time=START_TIME + 2,
        trial_id=f"{number:04d}",
        number=number,
        configuration=configuration or {"lr": 0.1},
    )


def started(number: int, second: float = 4) -> TrialStarted:
    return TrialStarted(time=START_TIME + second, trial_id=f"{number:04d}")


def reported(number: int, *losses: float) -> EpochsReported:
    """Return a report of epochs that began at second 4."""
    results = [
        with_divergence({"epoch": epoch, "train_loss": loss, "val_loss": loss, "seconds": 0.001})
        for epoch, loss in enumerate(losses, start=1)
    ]
    seconds = sum(result["seconds"] for result in results)
    time = START_TIME + 4 + seconds
    return EpochsReported(time=time, trial_id=f"{number:04d}", results=results, worker="node:1")


def ended(number: int, status: Status) -> TrialEnded:
    return TrialEnded(
        time=START_TIME + 6,
        trial_id=f"{number:04d}",
        status=status,
        cause=CAUSE_OF[status],
        reason="it ended",
    )


ALL_STATES: list[Event] = [
    RUN_STARTED,
    *(created(number) for number in range(5)),
    *(started(number) for number in range(4)),
    reported(0, 0.5, 0.123456, 0.25),
    ended(0, Status.COMPLETED),
    reported(1, 0.75),
    ended(1, Status.STOPPED_EARLY),
    reported(2, float("nan")),
    ended(2, Status.FAILED),
    reported(3, 0.9),
]


def progress_after(job: Job, events: list[Event], clock: Clock) -> RunProgress:
    progress = RunProgress(job, asked_at=START_TIME, clock=clock)
    for event in events:
        progress.apply(event)
    return progress
