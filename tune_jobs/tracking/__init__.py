"""Tracking: dashboards beside the run folder, fed by the run's journal in the driver."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from tune_jobs.errors import ResourceError
from tune_jobs.job.job import Job
from tune_jobs.record.events import Event
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal
from tune_jobs.tracking.base import Guest as Guest
from tune_jobs.tracking.base import LateTracker
from tune_jobs.tracking.base import MakeTracker as MakeTracker
from tune_jobs.tracking.base import TrackedRun as TrackedRun
from tune_jobs.tracking.base import Tracker as Tracker
from tune_jobs.tracking.base import new_results as new_results
from tune_jobs.trainers.references import load_reference

_LOG = logging.getLogger(__name__)


def open_trackers(job: Job, folder: RunFolder, events: Sequence[Event] = ()) -> list[Guest]:
    """The trackers that `job` asks for, as listeners for the run's journal; the caller closes them.

    What an earlier driver left undone, they make good: at the first event, or when they are closed. What they need
    is imported here and not in their threads: Ray imports W&B too, and two threads that import it at once may each
    find it half made.

    Args:
        job: of the run; its own modules can be imported.
        folder: of the run.
        events: of the run so far, without those that were taken back (`in_force`).

    Raises:
        ResourceError: the package of a tracker is missing.
    """
    run = TrackedRun(job, folder.path, events)
    makers = file_trackers(run)
    for name in job.tracking.trackers:
        makers[f"tracker {name}"] = _own(name, run)
    return [Guest(LateTracker(make), name) for name, make in makers.items()]


def follow(
    journal: Journal, job: Job, folder: RunFolder, events: Sequence[Event], guests: ExitStack, lost: str
) -> None:
    """Has the trackers of a run that is over follow its journal until `guests` is closed.

    Where the package of one is missing, a warning begins with what is `lost`: the run itself needs no tracker.
    """
    try:
        for guest in open_trackers(job, folder, events):
            journal.follow(guests.enter_context(guest))
    except ResourceError as error:
        _LOG.warning("%s: %s", lost, error)


def file_trackers(run: TrackedRun, home: Path | None = None) -> dict[str, Callable[[], Tracker]]:
    """What makes the trackers of this package that a job asks for, by the names that messages have for them.

    They write into `run.path` alone.

    Args:
        run: what is tracked.
        home: the run folder, where `run.path` only stands in for it.

    Raises:
        ResourceError: the package of a tracker is missing.
    """
    tracking = run.job.tracking
    makers: dict[str, Callable[[], Tracker]] = {}
    if tracking.wandb is not None:
        _require("wandb", "tracking.wandb")
        from tune_jobs.tracking.wandb import WandbTracker  # noqa: PLC0415 (a second, and seldom needed)

        makers["W&B"] = partial(WandbTracker, run, home=home)
    if tracking.tensorboard:
        _require("tensorboardX", "tracking.tensorboard")
        from tune_jobs.tracking.tensorboard import TensorboardTracker  # noqa: PLC0415 (imports torch)

        makers["TensorBoard"] = partial(TensorboardTracker, run)
    return makers


def _own(name: str, run: TrackedRun) -> Callable[[], Tracker]:
    """What makes a tracker of the user's; where its module cannot be imported, its guest is switched off."""
    try:
        make: MakeTracker = load_reference(name)
    except Exception as error:  # whatever a module of the user's raises
        return partial(_raise, error)
    return partial(make, run)


def _raise(error: Exception) -> Tracker:
    raise error


def _require(package: str, key: str) -> None:
    if find_spec(package) is None:
        raise ResourceError(
            f"{key}: the package {package} is not installed; install it with `pip install {package}`, or leave "
            f"{key} out of the job"
        )
