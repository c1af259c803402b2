"""Ray Tune runs the trials: its callbacks become the events of the run's journal."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.tune.experiment import Trial

from tune_jobs.cluster.capacity import Node
from tune_jobs.cluster.joining_nodes import JoiningNodes
from tune_jobs.cluster.node_checks import check_nodes, check_storage, refuse_unfit
from tune_jobs.cluster.placement import PlacementWatch
from tune_jobs.cluster.view import ClusterView, free_resources
from tune_jobs.job.job import Job
from tune_jobs.job.settings import LimitSettings, ResourceSettings
from tune_jobs.job.user_modules import ModulesArrived, user_modules
from tune_jobs.record.events import (
    Cause,
    Ending,
    Noticed,
    TrialEnded,
    TrialStarted,
    TrialUnplaced,
    WorkerLost,
)
from tune_jobs.record.live import LiveRun
from tune_jobs.record.storage_failures import storage_failures
from tune_jobs.tuning.components import Components, TuningPlan, open_components
from tune_jobs.tuning.control import RunControl
from tune_jobs.tuning.ray_patches import (
    ProgressCallback,
    actor_of,
    dead_server,
    last_error_of,
    memory_kills_end_actors,
    trainables_remembered,
    trial_id_of,
)
from tune_jobs.tuning.ray_session import environment
from tune_jobs.tuning.worker_loss import WorkerLoss, failure_after, loss_by
from tune_jobs.worker.group import SECONDS_TO_START, train_data_parallel
from tune_jobs.worker.reporting import Report
from tune_jobs.worker.trial import TrialTask, train_trial

if TYPE_CHECKING:
    from tune_jobs.trainers.data import TrainingData

WORKER_START_SECONDS = 60.0
"""Before its first report, a trial's worker may take this long to start and to import torch."""
MOST_PENDING = 100_000
"""Trials that may wait for a worker: no limit."""


@dataclass(frozen=True)
class SharedTask:
    """What workers do, in a form that Ray sends to them once."""

    task: TrialTask
    trainable: Callable[[dict[str, Any]], None]


def share(task: TrialTask, data: "TrainingData") -> SharedTask:
    """Put `data` into Ray's object store once, for all trials of a node."""
    if task.resources.workers_per_trial == 1:
        return SharedTask(task, tune.with_parameters(train_trial, task=task, data=data))
    # A trial's process passes the rows on, and fetches none.
    return SharedTask(task, tune.with_parameters(train_data_parallel, task=task, rows=[ray.put(data)]))


def seconds_to_start(resources: ResourceSettings) -> float:
    """How long a trial's workers may take before its limits count."""
    return WORKER_START_SECONDS if resources.workers_per_trial == 1 else SECONDS_TO_START


def _check_joining_nodes(job: Job, task: TrialTask, nodes: Sequence[Node], over: Callable[[], bool]) -> None:
    modules = ModulesArrived(tuple(module.path.stem for module in user_modules(job)), task.module_path)
    refuse_unfit(check_nodes(nodes, modules, over))
    check_storage(nodes, task.checkpoints, over)


def tune_trials(job: Job, run: LiveRun, shared: SharedTask, control: RunControl, view: ClusterView) -> Ending:
    """Train as many trials at a time as there is room for, until the search has no more.

    It continues from the run's past and writes every event to the journal. It ends all workers and returns as soon as
    the run is interrupted.

    Args:
        job: What the run is to do.
        run: In progress.
        shared: What workers do.
        control: The present limits.
        view: Of the cluster.

    Returns:
        How the tuning has ended.

    Raises:
        StorageFailed: the run folder cannot be written to any more.
    """
    plan = TuningPlan(
        search=job.search,
        scheduler=job.scheduler,
        score=job.selection,
        max_epochs=job.max_epochs,
        trials=job.trials,
        seed=job.seed,
        max_running=control.max_running(),
    )
    placement = PlacementWatch(
        job.resources.bundles,
        free_resources,
        lambda trial_id, reason: run.journal.append(TrialUnplaced(trial_id=trial_id, reason=reason)),
    )
    joining = JoiningNodes(
        view.asked,
        view,
        partial(_check_joining_nodes, job, shared.task),
        lambda text: run.journal.append(Noticed(text=text)),
    )
    # As many workers as there is room for are started at once, and the searcher knows how many those are now.
    # Ray Tune would start one after the other, or not more than there was room for at the beginning.
    pending = environment({"TUNE_MAX_PENDING_TRIALS_PG": str(MOST_PENDING)})
    with (
        open_components(plan, run, control) as components,
        storage_failures(run.folder.path, run.journal, components.reports),
        pending,
        memory_kills_end_actors(),
        trainables_remembered(),
        joining,
    ):
        callback = JournalCallback(
            run,
            components,
            job.limits,
            placement,
            joining,
            seconds_to_start=seconds_to_start(job.resources),
        )
        try:
            tune.run(
                shared.trainable,
                name=run.folder.ray.name,
                storage_path=str(run.folder.path),
                trial_dirname_creator=lambda trial: str(trial.config["trial_id"]),
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
        except _Interrupted:
            # A signal to the whole process group ends Ray's servers too, and is what the user knows of.
            return Ending.INTERRUPTED if control.interrupted() or dead_server() is None else Ending.RAY
        unfinished = components.searcher.has_open_trials or not components.searcher.exhausted
    if unfinished:  # by Ray Tune's own signal, SIGUSR1
        return Ending.INTERRUPTED
    return Ending.TIME_LIMIT if control.out_of_time() else Ending.ALL_TRIALS


class _Interrupted(Exception):
    """Has Ray Tune end all workers, and does not leave this module."""


class JournalCallback(ProgressCallback):
    """Writes what Ray Tune tells of trials into the journal, and ends trials that hang.

    Args:
        run: whose record follows the journal.
        components: write the reports that the scheduler did not get, know which trials wait, and say whether
            the run is to end.
        limits: how long a trial may report nothing, and how often it may lose its worker.
        placement: is told of the trials that have no worker; None where all find one.
        joining: looks at machines that join; None where none do.
        seconds_to_start: before its first report, a trial may take so much longer.
    """

    def __init__(
        self,
        run: LiveRun,
        components: Components,
        limits: LimitSettings,
        placement: PlacementWatch | None = None,
        joining: JoiningNodes | None = None,
        *,
        seconds_to_start: float = WORKER_START_SECONDS,
    ) -> None:
        self._journal = run.journal
        self._record = run.record
        self._retries = limits.retries_per_trial
        self._control = components.control
        self._tables = components.tables
        self._reports = components.reports
        self._patience = None if limits.minutes_per_epoch is None else 60 * limits.minutes_per_epoch
        self._seconds_to_start = seconds_to_start
        self._heard: dict[Trial, float] = {}
        self._hung: set[Trial] = set()
        self._placement = placement
        self._joining = joining

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Ends the workers of trials that hang, which then go on in others; and the run, if it is interrupted."""
        if self._run_is_over():
            raise _Interrupted
        for trial in trials:
            if trial.status == Trial.ERROR and not self._has_ended(trial):
                loss = loss_by(last_error_of(trial))  # Ray Tune could not hand it to a worker
                self._fail(trial, loss.cause, loss.reason)
        if self._joining is not None:
            self._joining.check()
        if self._placement is not None:
            self._placement.check(lambda: self._unplaced(trials))
        if self._patience is None:
            return
        for trial, heard in self._heard.items():
            actor = actor_of(trial)
            hangs = trial.status == Trial.RUNNING and time.monotonic() > heard + self._patience
            if hangs and actor is not None and trial not in self._hung:
                self._hung.add(trial)
                ray.kill(actor)

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A worker takes the trial up."""
        self._heard[trial] = time.monotonic() + self._seconds_to_start
        self._journal.append(TrialStarted(trial_id=trial_id_of(trial)))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Epochs and checkpoints of a report."""
        self._heard[trial] = time.monotonic()
        self._reports.write(trial_id_of(trial), result)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The trial ended by itself, or the scheduler stopped it."""
        self._heard.pop(trial, None)
        if self._has_ended(trial):  # it had lost its last worker
            return
        cause, reason, details = self._why_waiting_ended(trial) or trial_ending(
            Report.of_result(trial.last_result)
        )
        self._journal.append(
            TrialEnded(
                trial_id=trial_id_of(trial),
                status=cause.status,
                cause=cause,
                reason=reason,
                details=details,
                resumable=cause.resumable,
            )
        )

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The trial's worker died; the trial goes on in another one, or the scheduler stops it."""
        self._heard.pop(trial, None)
        if self._run_is_over():
            return
        loss = self._loss_of(trial)
        known = self._record.trials[trial_id_of(trial)]
        failure = failure_after(
            loss, workers_lost=known.workers_lost, machines_lost=known.machines_lost, retries=self._retries
        )
        if failure is not None:
            self._fail(trial, loss.cause, failure)
            return
        self._journal.append(
            WorkerLost(trial_id=trial_id_of(trial), reason=loss.reason, node_lost=loss.of_node)
        )

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Ray Tune gives the trial up."""
        self._heard.pop(trial, None)
        if not self._has_ended(trial) and not self._run_is_over():
            loss = self._loss_of(trial)
            self._fail(trial, loss.cause, loss.reason)

    def _unplaced(self, trials: list[Trial]) -> set[str]:
        """Trials that are to be trained now, and have no worker."""
        waiting = (trial_id_of(trial) for trial in trials if trial.status in {Trial.PENDING, Trial.PAUSED})
        return {trial_id for trial_id in waiting if trial_id in self._tables.open}

    def _run_is_over(self) -> bool:
        """Whether the run ends in its middle: then a worker that dies does so for it, and not for its trial."""
        return self._control.interrupted() or dead_server() is not None

    def _has_ended(self, trial: Trial) -> bool:
        return self._record.trials[trial_id_of(trial)].status.ended

    def _fail(self, trial: Trial, cause: Cause, reason: str) -> None:
        self._journal.append(
            TrialEnded(trial_id=trial_id_of(trial), status=cause.status, cause=cause, reason=reason)
        )

    def _why_waiting_ended(self, trial: Trial) -> tuple[Cause, str, str] | None:
        """Like `trial_ending`, for a trial that waited at a rung; None for all others.

        Such a trial has a score, and may have reported it to an earlier driver.
        """
        epoch = self._tables.waiting.get(trial_id_of(trial))
        if epoch is None:
            return None
        if self._control.out_of_time():
            return Cause.TIME_LIMIT, Cause.TIME_LIMIT.sentence, ""
        sentence = Cause.NOT_PROMOTED.sentence.format(epoch=epoch, factor=self._tables.factor)
        return Cause.NOT_PROMOTED, sentence, ""

    def _loss_of(self, trial: Trial) -> WorkerLoss:
        if trial in self._hung:
            self._hung.discard(trial)
            limit = f"{self._patience:g} s (`limits.minutes_per_epoch`)"
            return WorkerLoss(f"no epoch for {limit}, so its worker was ended")
        return loss_by(last_error_of(trial))


def trial_ending(report: Report | None) -> tuple[Cause, str, str]:
    """Cause, reason and details of the end of a trial whose last report is `report`: one place decides.

    Args:
        report: None if there was none.
    """
    if report is None:
        return Cause.NO_REPORT, Cause.NO_REPORT.sentence, ""
    if report.cause is not None and report.failed:
        return report.cause, report.reason, report.details
    if report.score is None:
        return Cause.NO_FINITE_SCORE, Cause.NO_FINITE_SCORE.sentence, ""
    if report.cause is None:
        return Cause.STOPPED_BY_SCHEDULER, Cause.STOPPED_BY_SCHEDULER.sentence.format(epoch=report.epoch), ""
    return report.cause, report.reason, ""
