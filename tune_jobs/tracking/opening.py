"""Open the trackers that a job asks for, and say what they leave to the user."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec

from tune_jobs.errors import ResourceError
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal
from tune_jobs.tracking.base import Guest, LateTracker, MakeTracker, TrackedRun, Tracker
from tune_jobs.tracking.wandb_files import upload_line
from tune_jobs.trainers.references import load_reference

_LOG = logging.getLogger(__name__)


def open_trackers(run: TrackedRun) -> list[Guest]:
    """Open the trackers that the job of `run` asks for, as listeners of its journal; the caller closes them.

    They write what an earlier driver left unwritten, at the first event or when they are closed. The packages that
    they need are imported here and not in their threads: Ray imports W&B too, and two threads that import a package
    at the same time may each find it half loaded.

    Args:
        run: The tracked run; the job's own modules can be imported.

    Raises:
        ResourceError: The package of a tracker is missing.
    """
    makers = file_trackers(run)
    for name in run.job.tracking.trackers:
        makers[f"tracker {name}"] = _user_tracker(name, run)
    return [Guest(LateTracker(make), name) for name, make in makers.items()]


@contextmanager
def feed_trackers(journal: Journal, run: TrackedRun, lost: str) -> Iterator[None]:
    """Let the trackers of a run that is over follow its journal inside the block.

    A run needs no tracker: if the package of one is missing, a warning says so and begins with what is `lost`.
    """
    with ExitStack() as guests:
        try:
            for guest in open_trackers(run):
                journal.follow(guests.enter_context(guest))
        except ResourceError as error:
            _LOG.warning("%s: %s", lost, error)
        yield


def reminders(folder: RunFolder) -> list[str]:
    """Return what the built-in trackers of a run leave to the user, such as data to upload, a line each."""
    line = upload_line(folder.wandb)
    return [] if line is None else [line]


def file_trackers(run: TrackedRun) -> dict[str, Callable[[], Tracker]]:
    """Return the functions that make the built-in trackers of a job, by the names that messages use.

    The trackers write only into `run.path`.

    Raises:
        ResourceError: The package of a tracker is missing.
    """
    tracking = run.job.tracking
    makers: dict[str, Callable[[], Tracker]] = {}
    if tracking.wandb is not None:
        _require("wandb", "tracking.wandb")
        from tune_jobs.tracking.wandb_tracker import WandbTracker  # noqa: PLC0415 (a second, and seldom needed)

        makers["W&B"] = partial(WandbTracker, run)
    if tracking.tensorboard:
        _require("tensorboardX", "tracking.tensorboard")
        from tune_jobs.tracking.tensorboard import TensorboardTracker  # noqa: PLC0415 (imports torch)

        makers["TensorBoard"] = partial(TensorboardTracker, run)
    return makers


def _user_tracker(name: str, run: TrackedRun) -> Callable[[], Tracker]:
    """Return the function that makes a user's tracker. If its module cannot be imported, its guest is switched off."""
    try:
        make: MakeTracker = load_reference(name)
    except Exception as error:  # a user's module may raise anything
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
