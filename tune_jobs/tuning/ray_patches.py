"""The private and undocumented parts of Ray (2.60) on which the driver rests, and what is changed in them.

Each has one test in `tests/tune_jobs/tuning/test_ray_patches.py` that fails if another version of Ray changes the part.
Workers and clusters rest on others: see `worker.train_group` and `cluster.ray_internals`.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray._private import ray_constants, serialization, worker
from ray._private.node import Node
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.train.constants import RAY_CHDIR_TO_TRIAL_DIR
from ray.tune import registry as ray_registry
from ray.tune.execution import class_cache
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback

_SERVERS = ("gcs_server", "raylet")
"""Names of the processes of Ray that a run cannot continue without."""


_UNNEEDED = ("start_monitor", "start_api_server", "start_log_monitor")
"""Methods of a node that start processes which a run on one machine does not need."""
_SETS_OF_TRIALS = ("_live_trials", "_stopped_trials", "_failed_trials", "_trials_to_cache")
"""Attributes of Ray Tune's controller that keep trials which have ended."""
_SECONDS_BETWEEN_QUESTIONS = 0.1
"""Seconds between two steps of Ray Tune if it has no trial: without any worker, it would take no pause."""


_ENDED = frozenset({Trial.TERMINATED, Trial.ERROR})


class ProgressCallback(TrialProgressCallback):
    """Replaces Ray Tune's own progress callback, which would print trials that it has no result of."""


def trial_id_of(trial: Trial) -> str:
    """Return the id that the journal has for a trial of Ray Tune, which makes its own ids."""
    return str(trial.config["trial_id"])


def actor_of(trial: Trial) -> Any:
    """Return the actor that trains a trial; None if it has none."""
    return trial.temporary_state.ray_actor


def last_error_of(trial: Trial) -> Exception | str | None:
    """Return the error of a trial's last failure, or its text; None if nothing is known.

    Ray Tune keeps it in files. It copies them to the run folder much later.
    """
    with suppress(Exception):  # the error may need code that is missing here
        error: Exception = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
        return error
    return trial.error_file and Path(trial.error_file).read_text(errors="replace")


def dead_server() -> str | None:
    """Return the name of a server of this process's own Ray that has died; Ray would end the process for it."""
    node = worker._global_node
    dead: list[str] = [] if node is None else [name for name, _ in node.dead_processes()]
    return next((name for name in _SERVERS if name in dead), None)


@contextmanager
def needed_processes_alone() -> Iterator[None]:
    """Leave out the processes of a Ray that starts inside the block which a run on one machine does not need.

    They add machines, serve pages, and bring the output of workers to the driver. Each takes half a second to start.
    """
    before = {name: getattr(Node, name) for name in _UNNEEDED}
    for name in _UNNEEDED:
        setattr(Node, name, lambda *_, **__: None)
    try:
        yield
    finally:
        for name, method in before.items():
            setattr(Node, name, method)


@contextmanager
def workers_run_this_python() -> Iterator[None]:
    """Keep Ray from starting workers with the `uv run` that has started this process.

    It would send them the current folder, in which a project must be that has Ray. The workers of an own Ray run this
    process's Python, and the nodes of a cluster have their own.
    """
    before = ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV
    ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = False
    try:
        yield
    finally:
        ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = before


def was_forked_with_ray() -> bool:
    """Return whether this process is a copy, made by a fork, of one that was connected to Ray and is no more.

    A fork copies the connection, but none of the threads that serve it: each question to Ray would wait for ever.
    """
    listener = getattr(worker.global_worker, "listener_thread", None)
    return worker.global_worker.connected and listener is not None and not listener.is_alive()


def mend_handover(tune_controller: Any, trial: Trial) -> None:
    """Make a trial available again that Ray Tune handed to an idle worker which had died in the meantime.

    Ray Tune takes the trial back and continues to count it among those that are being handed over, so no other worker
    would get it. It is also notified of the death a second time. That notice fails a pending trial and spares a
    paused one.
    """
    handed_over: set[Trial] = getattr(tune_controller, "_resetting_trials", set())
    if trial in handed_over:
        handed_over.discard(trial)
        tune_controller._set_trial_status(trial, Trial.PAUSED)


def forget_ended(tune_controller: Any, ended: Callable[[str], bool]) -> None:
    """Take the trials out of Ray Tune's hands that need no worker any more, with all that it keeps of them.

    Ray Tune goes through all of its trials several times a step. It would also retry trials that have lost their last
    worker, so those are stopped first.
    """
    trials: list[Trial] = tune_controller.get_trials()
    for trial in trials:
        if trial.status in {Trial.PENDING, Trial.PAUSED} and ended(trial_id_of(trial)):
            tune_controller.stop_trial(trial)
    gone = [trial for trial in trials if trial.status in _ENDED]
    if not gone:
        return
    trials[:] = [trial for trial in trials if trial.status not in _ENDED]
    # Schedulers get a wrapper, which would warn about each of these.
    controller = getattr(tune_controller, "_tune_controller", tune_controller)
    for trial in gone:
        for name in _SETS_OF_TRIALS:
            getattr(controller, name, set()).discard(trial)
        getattr(controller, "_trial_metadata", {}).pop(trial.trial_id, None)
        if trial.storage is not None and trial.storage.trial_dir_name:
            shutil.rmtree(trial.storage.trial_driver_staging_path, ignore_errors=True)


def first_to_run(tune_controller: Any) -> Trial | None:
    """Return the trial that the next free worker gets: one that `mend_handover` made available, else the first new."""
    trials: list[Trial] = tune_controller.get_trials()
    mended = next((trial for trial in trials if trial.status == Trial.PAUSED), None)
    return mended or next((trial for trial in trials if trial.status == Trial.PENDING), None)


class WorkerOutOfMemory(OutOfMemoryError, RayActorError):
    """Ray's memory monitor has ended a worker: an error of its actor, like any other death."""

    def __init__(self, message: str) -> None:
        RayActorError.__init__(self, error_msg=message)
        self.message = message


@contextmanager
def memory_kills_end_actors() -> Iterator[None]:
    """Let Ray Tune retry a trial whose worker was ended by Ray's memory monitor.

    Ray raises its own kind of error for that. Ray Tune does not know the kind and would end the run.
    """
    raised_by_ray = vars(serialization)
    raised_by_ray["OutOfMemoryError"] = WorkerOutOfMemory
    try:
        yield
    finally:
        raised_by_ray["OutOfMemoryError"] = OutOfMemoryError


@contextmanager
def keep_environment_out_of_files() -> Iterator[None]:
    """Keep Ray Tune from passing variables of the driver's environment, such as `AWS_SECRET_ACCESS_KEY`, to workers.

    It would put them into the runtime environment of each trial, which Ray writes to its logs in clear text. The
    workers of an own Ray inherit them. The nodes of a cluster have credentials of their own.
    """
    propagated = class_cache.ENV_VARS_TO_PROPAGATE
    class_cache.ENV_VARS_TO_PROPAGATE = propagated & {RAY_CHDIR_TO_TRIAL_DIR}
    try:
        yield
    finally:
        class_cache.ENV_VARS_TO_PROPAGATE = propagated


@contextmanager
def ask_without_waiting() -> Iterator[None]:
    """Keep Ray Tune's steps going while it has no trial.

    Ray Tune knows no trial while all trials wait at a rung. It would then ask for the next one for up to ten minutes,
    and notice no signal and no new machine in that time.
    """
    ask = TuneController._update_trial_queue

    @wraps(ask)
    def ask_once(self: TuneController, blocking: bool = False, timeout: int = 600) -> bool:
        found: bool = ask(self, blocking=False, timeout=timeout)
        if blocking and not found:
            time.sleep(_SECONDS_BETWEEN_QUESTIONS)
        return found

    TuneController._update_trial_queue = ask_once  # type: ignore[method-assign]
    try:
        yield
    finally:
        TuneController._update_trial_queue = ask  # type: ignore[method-assign]


@contextmanager
def remember_trainables() -> Iterator[None]:
    """Fetch each trainable once from Ray Tune's register; a Ray that keeps its register elsewhere stays as it is.

    Ray Tune asks a server for the trainable about three times a trial and unpickles it each time: with many short
    trials that is a fifth of the driver's time. A run has one trainable, and it does not change.
    """
    registry: Any = getattr(ray_registry, "_global_registry", None)
    if registry is None:
        yield
        return
    fetch, is_registered = registry.get, registry.contains
    fetched: dict[tuple[str, str], Any] = {}

    def get(category: str, key: str) -> Any:
        if (category, key) not in fetched:
            fetched[category, key] = fetch(category, key)
        return fetched[category, key]

    def contains(category: str, key: str) -> bool:
        return (category, key) in fetched or bool(is_registered(category, key))

    registry.get, registry.contains = get, contains
    try:
        yield
    finally:
        del registry.get, registry.contains
