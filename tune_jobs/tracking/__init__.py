"""Tracking: dashboards beside the run folder, fed by the run's journal in the driver."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from trainers.settings import ScoreSettings
from tune_jobs.errors import ResourceError
from tune_jobs.events import Event
from tune_jobs.folder import RunFolder
from tune_jobs.job import Job
from tune_jobs.job_sections import TrackingSettings
from tune_jobs.tracking.base import Guest as Guest
from tune_jobs.tracking.base import Tracker as Tracker


def open_trackers(job: Job, folder: RunFolder, events: Sequence[Event] = ()) -> list[Guest]:
    """The trackers that `job` asks for, as listeners for the run's journal; the caller closes them.

    Args:
        job: of the run.
        folder: of the run.
        events: see `make_trackers`.

    Raises:
        ResourceError: the package of a tracker is missing.
    """
    trackers = make_trackers(job.tracking, job.selection, folder, events)
    return [Guest(tracker, name) for name, tracker in trackers.items()]


def make_trackers(
    tracking: TrackingSettings, score: ScoreSettings, folder: RunFolder, events: Sequence[Event] = ()
) -> dict[str, Tracker]:
    """The trackers that `tracking` asks for, by the names that messages have for them.

    Args:
        tracking: of the job.
        score: which number judges an epoch.
        folder: of the run.
        events: of the run so far, without those that were taken back (`in_force`). They have been tracked: what
            comes later is added to that.

    Raises:
        ResourceError: the package of a tracker is missing.
    """
    trackers: dict[str, Tracker] = {}
    if tracking.wandb is not None:
        with _importing("wandb", "tracking.wandb"):
            from tune_jobs.tracking.wandb import WandbTracker  # noqa: PLC0415 (a second, and seldom needed)
        trackers["W&B"] = WandbTracker(tracking.wandb, folder, score, events)
    if tracking.tensorboard:
        with _importing("tensorboardX", "tracking.tensorboard"):
            from tune_jobs.tracking.tensorboard import TensorboardTracker  # noqa: PLC0415 (imports torch)
        trackers["TensorBoard"] = TensorboardTracker(folder, score, events)
    return trackers


@contextmanager
def _importing(package: str, key: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ResourceError(
            f"{key}: the package {package} cannot be imported ({error}); "
            f"install it with `pip install {package}`, or leave {key} out of the job"
        ) from error
