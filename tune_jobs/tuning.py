"""Ray Tune runs the trials: its callbacks become the events of the run's journal."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback

from tune_jobs.events import Ending, Event, Status, TrialEnded, TrialStarted, WorkerLost
from tune_jobs.folder import RunFolder
from tune_jobs.job import Job
from tune_jobs.journal import Journal
from tune_jobs.ray_connection import environment
from tune_jobs.records import RunRecord
from tune_jobs.reports import Report
from tune_jobs.steering import Steering, SteeringPlan, steering
from tune_jobs.storage import storage_failures
from tune_jobs.trainable import TrialTask, train_trial
from tune_jobs.waiting_scheduler import trial_id_of

if TYPE_CHECKING:
    from trainers.data import TrainingData

WORKER_START_SECONDS = 60.0
"""Before its first report, a trial's worker may take this long to start and to import torch."""
STOPPED_BY_SCHEDULER = "stopped by the scheduler at epoch {epoch}"
NOT_PROMOTED = "waited at epoch {epoch}: no place among the best 1/{factor} of its rung"


Trainable = Callable[[dict[str, Any]], None]


def share(task: TrialTask, data: "TrainingData") -> Trainable:
    """The trainable function of a run; `data` go into Ray's object store once, for all trials of a node."""
    trainable: Trainable = tune.with_parameters(train_trial, task=task, data=data)
    return trainable


def tune_trials(
    job: Job,
    task: TrialTask,
    trainable: Trainable,
    concurrent: int,
    folder: RunFolder,
    journal: Journal,
    record: RunRecord,
    past: Sequence[Event] = (),
    interrupted: Callable[[], bool] = lambda: False,
) -> Ending:
    """Trains `concurrent` trials at a time until the search has no more; every event goes into the journal.

    It goes on from the events of the `past`, which are those in force. As soon as `interrupted` says so, it ends
    all workers and returns.

    Raises:
        StorageFailed: the run folder cannot be written to any more.
    """
    plan = SteeringPlan(
        search=job.search,
        scheduler=job.scheduler,
        score=job.selection,
        max_epochs=job.training.max_epochs,
        trials=job.trials,
        seed=job.seed,
        concurrent=concurrent,
    )
    # As many workers as there is room for are started at once; Ray Tune would start one after the other.
    pending = environment({"TUNE_MAX_PENDING_TRIALS_PG": str(concurrent)})
    with (
        steering(plan, journal, record, folder, lambda: task.out_of_time, past) as steers,
        storage_failures(folder.path, journal, steers.reports),
        pending,
    ):
        try:
            tune.run(
                trainable,
                name=folder.ray.name,
                storage_path=str(folder.path),
                trial_dirname_creator=lambda trial: str(trial.config["trial_id"]),
                num_samples=-1,  # until the searcher says that it has finished
                search_alg=steers.searcher,
                scheduler=steers.scheduler,
                callbacks=[JournalCallback(steers, journal, job.limits.minutes_per_epoch, interrupted)],
                resources_per_trial={
                    "cpu": job.resources.cpus_per_trial,
                    "gpu": job.resources.gpus_per_trial,
                },
                max_failures=job.limits.retries_per_trial,
                reuse_actors=True,
                raise_on_failed_trial=False,
                verbose=0,
            )
        except _Interrupted:
            return Ending.INTERRUPTED
        unfinished = steers.searcher.has_open_trials or not steers.searcher.exhausted
    if unfinished:  # by Ray Tune's own signal, SIGUSR1
        return Ending.INTERRUPTED
    return Ending.TIME_LIMIT if task.out_of_time else Ending.ALL_TRIALS


class _Interrupted(Exception):
    """Has Ray Tune end all workers, and does not leave this module."""


class JournalCallback(TrialProgressCallback):
    """Writes what Ray Tune tells of trials into the journal, and ends trials that hang.

    It takes the place of Ray Tune's own progress callback, which would print trials that it has no result of.

    Args:
        steers: writes the reports that the scheduler was not told of, and knows which trials wait.
        journal: of the run.
        minutes_per_epoch: a trial that reports nothing for this long loses its worker; None waits for ever.
        interrupted: the run is to end.
    """

    def __init__(
        self,
        steers: Steering,
        journal: Journal,
        minutes_per_epoch: float | None,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        self._journal = journal
        self._interrupted = interrupted
        self._tables = steers.tables
        self._reports = steers.reports
        self._out_of_time = steers.out_of_time
        self._patience = None if minutes_per_epoch is None else 60 * minutes_per_epoch
        self._heard: dict[Trial, float] = {}
        self._hung: set[Trial] = set()

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Ends the workers of trials that hang, which Ray Tune then retries; and the run, if it is interrupted."""
        if self._interrupted():
            raise _Interrupted
        if self._patience is None:
            return
        for trial, heard in self._heard.items():
            actor = trial.temporary_state.ray_actor
            hangs = trial.status == Trial.RUNNING and time.monotonic() > heard + self._patience
            if hangs and actor is not None and trial not in self._hung:
                self._hung.add(trial)
                ray.kill(actor)

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A worker takes the trial up."""
        self._heard[trial] = time.monotonic() + WORKER_START_SECONDS
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
        waiting_ended = self._why_waiting_ended(trial)
        status, reason, details = trial_ending(Report.of_result(trial.last_result), waiting_ended)
        self._journal.append(
            TrialEnded(
                trial_id=trial_id_of(trial),
                status=status,
                reason=reason,
                details=details,
                resumable=waiting_ended is not None or reason == Ending.TIME_LIMIT.value,
            )
        )

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The trial's worker died; Ray Tune starts it again."""
        self._journal.append(WorkerLost(trial_id=trial_id_of(trial), reason=self._why_lost(trial)))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The trial's worker died once too often."""
        self._heard.pop(trial, None)
        reason = self._why_lost(trial)
        self._journal.append(TrialEnded(trial_id=trial_id_of(trial), status=Status.FAILED, reason=reason))

    def _why_waiting_ended(self, trial: Trial) -> str | None:
        epoch = self._tables.waiting.get(trial_id_of(trial))
        if epoch is None:
            return None
        if self._out_of_time():
            return Ending.TIME_LIMIT.value
        return NOT_PROMOTED.format(epoch=epoch, factor=self._tables.factor)

    def _why_lost(self, trial: Trial) -> str:
        if trial in self._hung:
            self._hung.discard(trial)
            return f"no epoch for {self._patience:g} s (`limits.minutes_per_epoch`), so its worker was ended"
        return worker_failure(trial)


def trial_ending(report: Report | None, waiting_ended: str | None = None) -> tuple[Status, str, str]:
    """Status, reason and details of a trial whose last report is `report`: one place decides.

    Args:
        report: None where there was none.
        waiting_ended: why a trial that waited goes on no more; None for all others.
    """
    if waiting_ended is not None:  # it has a score, and may have reported it to an earlier driver
        return Status.STOPPED_EARLY, waiting_ended, ""
    if report is None:
        return Status.FAILED, "ended before its first report", ""
    if report.failure is not None:
        return Status.FAILED, report.failure, report.details
    if report.score is None:
        return Status.FAILED, "no epoch had a finite score", ""
    if report.outcome is None:
        return Status.STOPPED_EARLY, STOPPED_BY_SCHEDULER.format(epoch=report.epoch), ""
    return (Status.COMPLETED if report.full_length else Status.STOPPED_EARLY), report.outcome, ""


def worker_failure(trial: Trial) -> str:
    """Why Ray says that the worker died, in one line."""
    error = trial.get_pickled_error()
    text = str(error if error is not None else trial.get_error() or "no reason known")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if "memory" in text.lower() and "killed" in text.lower():
        return "the worker was killed since the machine ran out of memory"
    return f"the worker died: {lines[0] if lines else text}"
