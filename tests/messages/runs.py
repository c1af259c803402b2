"""Runs that were recorded: journals event by event, with what a driver leaves beside them."""

import os
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.messages import product
from tests.messages.jobs import JOB, write_job
from tests.messages.product import Ending, Event, Status
from tests.tune_jobs.causes import CAUSE_OF
from tests.tune_jobs.rows import with_divergence

BEGUN = 1_760_000_000.0
"""Unix time of the first event."""

HERE = f"{socket.gethostname()}:7"
"""A process of this machine: it is seen at once that it has gone."""

CONFIGURATIONS: Sequence[dict[str, Any]] = (
    {"lr": 0.1, "batch_size": 8, "optimizer": "sgd", "momentum": 0.5},
    {"lr": 0.025, "batch_size": "full", "optimizer": "adam"},
    {"lr": 0.003, "batch_size": 8, "optimizer": "adam"},
    {"lr": 0.4, "batch_size": 8, "optimizer": "sgd", "momentum": 0.875},
)


def started(job: product.Job, *, notices: Sequence[str] = (), driver: str = HERE) -> Event:
    return product.RunStarted(
        name=job.name,
        job_folder=str(job.folder),
        trials=job.trials,
        rows={"train": 30, "validation": 10, "test": 10},
        fingerprints={"data": "d" * 64, "split": "e" * 64, "space": "f" * 64},
        versions={"python": "3.11.1", "torch": "2.0"},
        notices=notices,
        driver=driver,
    )


def created(number: int) -> Event:
    return product.TrialCreated(
        trial_id=f"{number:04d}", number=number, configuration=CONFIGURATIONS[number % len(CONFIGURATIONS)]
    )


def begun(number: int) -> Event:
    return product.TrialStarted(trial_id=f"{number:04d}")


def epochs(number: int, *losses: float, first: int = 1) -> Event:
    results = [
        with_divergence(
            {
                "epoch": epoch,
                "train_loss": loss,
                "val_loss": loss,
                "mae": loss / 2,
                "lr": 0.1,
                "seconds": 0.25,
            }
        )
        for epoch, loss in enumerate(losses, start=first)
    ]
    return product.EpochsReported(trial_id=f"{number:04d}", results=results, worker="node-1:77")


def kept(number: int, epoch: int) -> Event:
    file = f"checkpoints/{number:04d}/epoch-{epoch:06d}.pt"
    return product.CheckpointWritten(trial_id=f"{number:04d}", epoch=epoch, file=file)


def waits(number: int, epoch: int) -> Event:
    return product.TrialPaused(trial_id=f"{number:04d}", epoch=epoch)


def promoted(number: int, epoch: int) -> Event:
    return product.TrialPromoted(trial_id=f"{number:04d}", epoch=epoch)


def lost(number: int, reason: str) -> Event:
    return product.WorkerLost(trial_id=f"{number:04d}", reason=reason)


def unplaced(number: int, reason: str) -> Event:
    return product.TrialUnplaceable(trial_id=f"{number:04d}", reason=reason)


def damaged(number: int) -> Event:
    return product.CheckpointDamaged(
        trial_id=f"{number:04d}", file=f"checkpoints/{number:04d}/epoch-000002.pt", reason="it is empty"
    )


def ended(number: int, status: Status, reason: str, details: str = "", *, resumable: bool = False) -> Event:
    return product.TrialEnded(
        trial_id=f"{number:04d}",
        status=status,
        cause=CAUSE_OF[status],
        reason=reason,
        details=details,
        resumable=resumable,
    )


def noticed(text: str) -> Event:
    return product.NoticeAdded(text=text)


def over(ending: Ending, winner: str | None = "0000") -> list[Event]:
    return [product.RunEnded(ending=ending), product.WinnerSelected(winner=winner)]


def whole(job: product.Job) -> list[Event]:
    """A run with a trial of every fate, from its start to before its end."""
    return [
        started(job, notices=["a notice of the start"]),
        *(created(number) for number in range(6)),
        *(begun(number) for number in range(4)),
        epochs(0, 0.5, 0.25),
        kept(0, 2),
        waits(0, 2),
        epochs(1, 0.75, 0.375),
        kept(1, 2),
        waits(1, 2),
        epochs(2, 0.625, 0.5),
        waits(2, 2),
        noticed("one of two machines has joined"),
        promoted(0, 2),
        begun(0),
        lost(0, "the worker died"),
        begun(0),
        damaged(0),
        epochs(0, 0.125, 0.0625, 0.09375, 0.078125, first=3),
        kept(0, 6),
        promoted(0, 6),
        epochs(0, 0.0703125, 0.06640625, 0.06640625, first=7),
        kept(0, 9),
        ended(0, Status.COMPLETED, "all epochs"),
        epochs(3, float("nan")),
        ended(3, Status.FAILED, "the training loss is nan at epoch 1", "Traceback: the place in the code"),
        unplaced(4, "has waited"),
    ]


def finished(job: product.Job, ending: Ending = Ending.ALL_TRIALS) -> list[Event]:
    """The same to its end."""
    return [
        *whole(job),
        begun(4),
        begun(5),
        ended(4, Status.FAILED, "the training loss is nan at epoch 1"),
        ended(5, Status.FAILED, "the user's code called sys.exit(1)"),
        ended(1, Status.STOPPED_EARLY, "waited at epoch 2"),
        ended(2, Status.STOPPED_EARLY, "waited at epoch 2"),
        *over(ending),
    ]


def interrupted(job: product.Job, ending: Ending) -> list[Event]:
    """The same, cut off in its middle."""
    return [
        *whole(job),
        *(ended(n, Status.INTERRUPTED, ending.sentence, resumable=True) for n in (1, 2)),
        *over(ending),
    ]


def without_waiting(events: Iterable[Event]) -> list[Event]:
    """The same under a scheduler that lets no trial wait."""
    return [event for event in events if not isinstance(event, product.TrialPaused | product.TrialPromoted)]


def without_success(job: product.Job, ending: Ending = Ending.ALL_TRIALS) -> list[Event]:
    return [
        started(job),
        created(0),
        begun(0),
        *([ended(0, Status.FAILED, "out of memory")] if ending is Ending.ALL_TRIALS else []),
        *over(ending, None),
    ]


def failed_alike(job: product.Job) -> list[Event]:
    trace = 'Traceback:\n  File "/home/me/nets.py", line 7, in forward\n    return x @ y\nRuntimeError: no 4 columns\n'
    trials = [
        (created(n), begun(n), ended(n, Status.FAILED, "RuntimeError: no 4 columns", trace)) for n in range(5)
    ]
    return [started(job), *(event for trial in trials for event in trial), *over(Ending.LIKE_FAILURES, None)]


def record(place: Path, name: str, events: Iterable[Event], job: str = JOB) -> Path:
    """Write the folder `runs/NAME` of a run with these events, a second apart."""
    write_job(place, job)
    read = product.Job.from_file(place / "job.yaml")
    with product.RunFolder.making(place / "runs", read.name, name) as folder:
        folder.job.write_text(read.to_yaml(), encoding="utf-8")
    with product.Journal(folder.journal) as journal:
        for event in timed(product.with_job_file(folder, events)):
            journal.append(event)
    return Path(folder.path)


def in_order(place: Path) -> None:
    """Give the runs times of change in the order of their names, for a list of them."""
    for number, path in enumerate(sorted((place / "runs").iterdir())):
        os.utime(path, (BEGUN + number, BEGUN + number))


def timed(events: Iterable[Event]) -> list[Event]:
    """The events, a second apart."""
    return [type(event)(**{**vars(event), "time": BEGUN + second}) for second, event in enumerate(events)]


def job_in(place: Path, text: str = JOB) -> product.Job:
    write_job(place, text)
    return product.Job.from_file(place / "job.yaml")
