"""A small run, told event by event, for what shows a run in progress."""

from typing import Any

from tests.tune_jobs.causes import CAUSE_OF
from tests.tune_jobs.rows import with_divergence
from tune_jobs.cli.progress import RunProgress
from tune_jobs.job.job import Job
from tune_jobs.record.events import (
    EpochsReported,
    Event,
    RunStarted,
    Status,
    TrialCreated,
    TrialEnded,
    TrialStarted,
)

BEGUN = 1_000_000.0


class Clock:
    """The time that a `RunProgress` sees; events carry their own."""

    def __init__(self) -> None:
        self.now = BEGUN

    def __call__(self) -> float:
        return self.now


STARTED = RunStarted(
    time=BEGUN + 1, name="small", job_folder="", trials=6, rows={}, fingerprints={}, versions={}
)


def created(number: int, **configuration: Any) -> TrialCreated:
    return TrialCreated(
        time=BEGUN + 2, trial_id=f"{number:04d}", number=number, configuration=configuration or {"lr": 0.1}
    )


def begun(number: int, second: float = 4) -> TrialStarted:
    return TrialStarted(time=BEGUN + second, trial_id=f"{number:04d}")


def epochs(number: int, *losses: float) -> EpochsReported:
    """They began at second 4, whenever they are reported."""
    results = [
        with_divergence({"epoch": epoch, "train_loss": loss, "val_loss": loss, "seconds": 0.001})
        for epoch, loss in enumerate(losses, start=1)
    ]
    seconds = sum(result["seconds"] for result in results)
    time = BEGUN + 4 + seconds
    return EpochsReported(time=time, trial_id=f"{number:04d}", results=results, worker="node:1")


def ended(number: int, status: Status) -> TrialEnded:
    return TrialEnded(
        time=BEGUN + 6,
        trial_id=f"{number:04d}",
        status=status,
        cause=CAUSE_OF[status],
        reason="its course is run",
    )


ALL_STATES: list[Event] = [
    STARTED,
    *(created(number) for number in range(5)),
    *(begun(number) for number in range(4)),
    epochs(0, 0.5, 0.123456, 0.25),
    ended(0, Status.COMPLETED),
    epochs(1, 0.75),
    ended(1, Status.STOPPED_EARLY),
    epochs(2, float("nan")),
    ended(2, Status.FAILED),
    epochs(3, 0.9),
]


def progress_after(job: Job, events: list[Event], clock: Clock) -> RunProgress:
    progress = RunProgress(job, asked_at=BEGUN, clock=clock)
    for event in events:
        progress.apply(event)
    return progress
