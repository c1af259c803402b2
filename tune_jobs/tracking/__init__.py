"""Tracking: dashboards beside the run folder, fed by the run's journal in the driver."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

from trainers.references import load_reference
from tune_jobs.errors import ResourceError
from tune_jobs.events import Event
from tune_jobs.folder import RunFolder
from tune_jobs.job import Job
from tune_jobs.tracking.base import Guest as Guest
from tune_jobs.tracking.base import LateTracker
from tune_jobs.tracking.base import MakeTracker as MakeTracker
from tune_jobs.tracking.base import TrackedRun as TrackedRun
from tune_jobs.tracking.base import Tracker as Tracker
from tune_jobs.tracking.base import new_results as new_results


def preload(job: Job) -> None:
    """Begins to import, in a thread, what trackers of `job` take seconds for: while Ray starts there is time."""
    if job.tracking.wandb is not None:
        Thread(target=_import_for_wandb, name="imports for W&B", daemon=True).start()


def open_trackers(job: Job, folder: RunFolder, events: Sequence[Event] = ()) -> list[Guest]:
    """The trackers that `job` asks for, as listeners for the run's journal; the caller closes them.

    What an earlier driver left undone, they make good: at the first event, or when they are closed.

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
        makers[f"tracker {name}"] = partial(_make_own, name, run)
    return [Guest(LateTracker(make), name) for name, make in makers.items()]


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
        makers["W&B"] = partial(_make_wandb, run, home)
    if tracking.tensorboard:
        _require("tensorboardX", "tracking.tensorboard")
        makers["TensorBoard"] = partial(_make_tensorboard, run)
    return makers


def _import_for_wandb() -> None:
    with suppress(Exception):  # what is wrong is said where it is needed
        import tune_jobs.report  # noqa: PLC0415
        import tune_jobs.tracking.wandb  # noqa: F401, PLC0415


def _make_wandb(run: TrackedRun, home: Path | None) -> Tracker:
    from tune_jobs.tracking.wandb import WandbTracker  # noqa: PLC0415 (a second, beside the run and seldom needed)

    return WandbTracker(run, home=home)


def _make_tensorboard(run: TrackedRun) -> Tracker:
    from tune_jobs.tracking.tensorboard import TensorboardTracker  # noqa: PLC0415 (imports torch)

    return TensorboardTracker(run)


def _make_own(name: str, run: TrackedRun) -> Tracker:
    make: MakeTracker = load_reference(name)
    return make(run)


def _require(package: str, key: str) -> None:
    if find_spec(package) is None:
        raise ResourceError(
            f"{key}: the package {package} is not installed; install it with `pip install {package}`, or leave "
            f"{key} out of the job"
        )
