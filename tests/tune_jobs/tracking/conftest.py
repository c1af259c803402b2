"""A made-up run for the trackers, undisturbed or in two parts."""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.tune_jobs.rows import with_divergence
from tune_jobs import Job
from tune_jobs.record.codes import Cause, Ending, Status
from tune_jobs.record.curve import numbers
from tune_jobs.record.events import (
    CheckpointWritten,
    EpochsReported,
    Event,
    RunEnded,
    RunResumed,
    RunStarted,
    TrialCreated,
    TrialEnded,
    TrialStarted,
    WinnerSelected,
    WorkerLost,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal
from tune_jobs.record.run_record import RunRecord
from tune_jobs.tracking import Guest

CONFIGURATIONS = {
    "0000": {"lr": 0.1, "optimizer": "sgd", "model.hidden": [64, 32], "nesterov": True},
    "0001": {"lr": 1e-3, "optimizer": "adam", "model.hidden": [], "model.activation": None},
    "0002": {"lr": 10.0, "optimizer": "adam", "model.hidden": [8]},
    "0003": {"lr": 0.5, "optimizer": "adam", "model.hidden": [8]},
}
WAIT_SECONDS = 60.0
"""Seconds to wait for an event that comes at once if it comes at all."""


def result(epoch: int, val_loss: float) -> dict[str, float]:
    return with_divergence(
        {
            "epoch": epoch,
            "train_loss": 2.0 / epoch,
            "val_loss": val_loss,
            "accuracy": 1 - 1 / (epoch + 1),
            "lr": 0.1 / epoch,
            "seconds": 0.25 * epoch,
        }
    )


def reported(trial_id: str, *val_losses: float, first: int = 1) -> EpochsReported:
    results = [result(epoch, loss) for epoch, loss in enumerate(val_losses, start=first)]
    return EpochsReported(trial_id=trial_id, results=results, worker="host:1")


def run_events() -> list[Event]:
    """Return a run with a trial of every kind. The first loses its worker, the last has no end."""
    created = [
        TrialCreated(trial_id=trial_id, number=number, configuration=configuration)
        for number, (trial_id, configuration) in enumerate(CONFIGURATIONS.items())
    ]
    first, second, third, last = (TrialStarted(trial_id=trial_id) for trial_id in CONFIGURATIONS)
    return [
        RunStarted(name="demo", job_folder=".", trials=4, rows={"train": 3}, fingerprints={}, versions={}),
        *created[:2],
        first,
        second,
        reported("0000", 0.9, 0.7),
        CheckpointWritten(trial_id="0000", epoch=2, file="checkpoints/0000/2.pt"),
        reported("0000", 0.4, first=3),
        reported("0001", 0.8),
        WorkerLost(trial_id="0000", reason="the worker died"),
        first,
        reported("0000", 0.4, 0.6, 0.65, first=3),
        TrialEnded(
            trial_id="0000", status=Status.COMPLETED, cause=Cause.MAX_EPOCHS, reason="reached max_epochs"
        ),
        reported("0001", math.nan, first=2),
        TrialEnded(
            trial_id="0001",
            status=Status.STOPPED_EARLY,
            cause=Cause.STOPPED_BY_SCHEDULER,
            reason="stopped by the scheduler at epoch 2",
        ),
        *created[2:],
        third,
        TrialEnded(
            trial_id="0002",
            status=Status.FAILED,
            cause=Cause.TRAINING_FAILED,
            reason="the loss is not finite",
            details="…",
        ),
        last,
        reported("0003", 0.5),
        RunEnded(ending=Ending.ALL_TRIALS),
        WinnerSelected(winner="0000"),
    ]


def make_job(**tracking: object) -> Job:
    return Job.from_mapping(
        {
            "name": "demo",
            "data": {"source": "digits"},
            "model": {"name": "mlp"},
            "training": {"max_epochs": 5, "loss": "cross_entropy", "metrics": ["accuracy"]},
            "search": {
                "space": {
                    "lr": {"low": 1e-4, "high": 10.0, "log": True},
                    "optimizer": {"values": ["sgd", "adam"]},
                    "nesterov": {"values": [True, False], "when": {"optimizer": "sgd"}},
                    "model.hidden": {"values": [[64, 32], [8], []]},
                    "model.activation": {"values": ["relu", "tanh"], "when": {"optimizer": "adam"}},
                }
            },
            "tracking": tracking,
        }
    )


def make_folder(path: Path) -> RunFolder:
    return RunFolder.create(path, "demo")


def track(folder: RunFolder, events: Sequence[Event], guests: Sequence[Guest]) -> None:
    with ExitStack() as stack:
        listeners = [stack.enter_context(guest) for guest in guests]
        with Journal(folder.journal, *listeners) as journal:
            for event in events:
                journal.append(event)


def trial_records(events: Sequence[Event]) -> dict[str, dict[int, dict[str, float]]]:
    """Return the epochs by trial from the run's own records, as trackers show them."""
    record = RunRecord.replay(events, make_job().selection)
    return {
        trial.trial_id: {epoch: numbers(values) for epoch, values in trial.epochs.items()}
        for trial in record.trials.values()
    }


def interrupted(events: Sequence[Event], place: int) -> tuple[list[Event], list[Event]]:
    """Return the events of both drivers of a run that is interrupted before the event at `place` and resumed."""
    record = RunRecord.replay(events[:place], make_job().selection)
    resumable = [
        TrialEnded(
            trial_id=trial.trial_id,
            status=Status.INTERRUPTED,
            cause=Cause.RUN_ENDED,
            reason=Ending.INTERRUPTED.sentence,
            resumable=True,
        )
        for trial in record.with_status(Status.PENDING, Status.RUNNING, Status.WAITING)
    ]
    ended = [*resumable, RunEnded(ending=Ending.INTERRUPTED), WinnerSelected(winner=None)]
    return [*events[:place], *ended], [RunResumed(trials=4, versions={}), *events[place:]]
