"""Run the trials of a run with Ray Tune."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray import tune

from tune_jobs.cluster.capacity import Node
from tune_jobs.cluster.joining_nodes import JoiningNodes
from tune_jobs.cluster.node_checks import check_nodes, check_storage, refuse_unfit
from tune_jobs.cluster.placement import PlacementWatch
from tune_jobs.cluster.view import ClusterView, free_resources
from tune_jobs.job.job import Job
from tune_jobs.job.settings import ResourceSettings
from tune_jobs.job.user_modules import ModulesArrived, user_modules
from tune_jobs.record.codes import Ending
from tune_jobs.record.events import (
    NoticeAdded,
    TrialUnplaceable,
)
from tune_jobs.record.live import LiveRun
from tune_jobs.record.storage_failures import storage_failures
from tune_jobs.tuning.callback import JournalCallback, RunIsOver, find_unplaced
from tune_jobs.tuning.components import Components, TuningPlan, open_components
from tune_jobs.tuning.control import RunControl
from tune_jobs.tuning.ray_patches import (
    ask_without_waiting,
    dead_server,
    keep_environment_out_of_files,
    memory_kills_end_actors,
    remember_trainables,
    trial_id_of,
)
from tune_jobs.tuning.ray_session import environment
from tune_jobs.worker.group import SECONDS_TO_START, train_data_parallel
from tune_jobs.worker.trial import TrialTask, train_trial

if TYPE_CHECKING:
    from tune_jobs.trainers.data import TrainingData

WORKER_START_SECONDS = 60.0
"""Seconds before its first report in which a trial's worker may start and import what its kind of training needs."""
MOST_PENDING = 100_000
"""The number of trials that Ray Tune lets wait for a worker: in effect, no limit."""
_SETTINGS = {
    "TUNE_MAX_PENDING_TRIALS_PG": str(MOST_PENDING),
    # The journal is the state. Ray Tune would write and copy its own again and again.
    "TUNE_GLOBAL_CHECKPOINT_S": "inf",
    # Our own watch reports trials without a place. Ray Tune's fails if it has no trial at all.
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "inf",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S_AUTOSCALER": "inf",
}
"""Ray Tune's settings, as variables of the environment."""


@dataclass(frozen=True)
class SharedTask:
    """The task of the workers, in a form that Ray sends to each node once."""

    task: TrialTask
    trainable: Callable[[dict[str, Any]], None]


def share(task: TrialTask, data: "TrainingData | None") -> SharedTask:
    """Put `data` into Ray's object store once, for all trials of a node; None if trainings read their own."""
    if task.resources.workers_per_trial == 1:
        return SharedTask(task, tune.with_parameters(train_trial, task=task, data=data))
    # A trial's process passes the rows on, and fetches none.
    return SharedTask(task, tune.with_parameters(train_data_parallel, task=task, rows=[ray.put(data)]))


def seconds_to_start(resources: ResourceSettings) -> float:
    """Return how long a trial's workers may take to start before its limits count."""
    return WORKER_START_SECONDS if resources.workers_per_trial == 1 else SECONDS_TO_START


def tune_trials(job: Job, run: LiveRun, shared: SharedTask, control: RunControl, view: ClusterView) -> Ending:
    """Train as many trials at a time as there is room for, until the search has no more configurations.

    It continues from the run's past and writes every event to the journal. It ends all workers and returns as soon as
    the run is interrupted.

    Args:
        job: The job of the run.
        run: The run in progress.
        shared: The task of the workers.
        control: The present limits.
        view: The view of the cluster.

    Returns:
        How the tuning has ended.

    Raises:
        StorageFailed: The run folder cannot be written to any more.
        LaterVersion: A later version of tune-jobs wrote the checkpoint of a trial.
    """
    plan = TuningPlan.of(job, control.max_running())
    with (
        open_components(plan, run, control) as components,
        storage_failures(run.folder.path, run.journal, components.reports),
        _mend_ray_tune(),
        _joining_nodes(job, run, shared.task, view) as joining,
    ):
        placement = PlacementWatch(
            job.resources.bundles,
            free_resources,
            lambda trial_id, reason: run.append(TrialUnplaceable(trial_id=trial_id, reason=reason)),
        )
        watches = (
            lambda _: joining.check(),
            lambda trials: placement.check(lambda: find_unplaced(trials, components.tables)),
        )
        callback = JournalCallback(run, components, job.limits, watches, seconds_to_start(job.resources))
        try:
            _run_ray_tune(job, run, shared, components, callback)
        except RunIsOver as over:
            if over.ending is not None:
                return over.ending
            # A signal to the whole process group also ends Ray's servers; the user knows of the signal.
            return Ending.INTERRUPTED if control.interrupted() or dead_server() is None else Ending.RAY
        unfinished = components.searcher.has_open_trials or not components.searcher.exhausted
    if unfinished:  # by Ray Tune's own signal, SIGUSR1
        return Ending.INTERRUPTED
    return Ending.TIME_LIMIT if control.out_of_time() else Ending.ALL_TRIALS


@contextmanager
def _mend_ray_tune() -> Iterator[None]:
    """Change the behaviour of Ray Tune inside the block.

    Workers are started at once while there is room, of which the searcher knows the present limit. Ray Tune itself
    would start one after the other, or only as many as there was room for at the beginning.
    """
    with (
        environment(_SETTINGS),
        memory_kills_end_actors(),
        keep_environment_out_of_files(),
        remember_trainables(),
        ask_without_waiting(),
    ):
        yield


def _joining_nodes(job: Job, run: LiveRun, task: TrialTask, view: ClusterView) -> JoiningNodes:
    """Return the checks of machines that join later; they are those of the first machines."""

    def check(nodes: Sequence[Node], over: Callable[[], bool]) -> None:
        modules = ModulesArrived(tuple(module.path.stem for module in user_modules(job)), task.module_path)
        refuse_unfit(check_nodes(nodes, modules, over, job.facts.packages))
        check_storage(nodes, task.checkpoints, over)

    return JoiningNodes(view.asked, view, check, lambda text: run.append(NoticeAdded(text=text)))


def _run_ray_tune(
    job: Job, run: LiveRun, shared: SharedTask, components: Components, callback: JournalCallback
) -> None:
    tune.run(
        shared.trainable,
        name=run.folder.ray.name,
        storage_path=str(run.folder.path),
        trial_dirname_creator=trial_id_of,
        num_samples=-1,  # until the searcher says that it has finished
        search_alg=components.searcher,
        scheduler=components.scheduler,
        callbacks=[callback],
        resources_per_trial=tune.PlacementGroupFactory(list(job.resources.bundles)),
        max_failures=-1,  # the callback counts, since Ray Tune counts machines that were lost too
        reuse_actors=True,
        raise_on_failed_trial=False,
        verbose=0,
    )
