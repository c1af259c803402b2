"""Turn what Ray Tune says about trials into events of the run's journal."""

from collections.abc import Callable, Sequence
from typing import Any

from ray.tune.experiment import Trial

from tune_jobs.job.settings import LimitSettings
from tune_jobs.record.codes import Cause, Ending
from tune_jobs.record.events import (
    TrialEnded,
    TrialStarted,
    WorkerLost,
)
from tune_jobs.record.like_failures import like_failures
from tune_jobs.record.live import LiveRun
from tune_jobs.scheduling.rungs import RungTables
from tune_jobs.tuning.components import Components
from tune_jobs.tuning.ray_patches import ProgressCallback, dead_server, last_error_of, trial_id_of
from tune_jobs.tuning.silent_workers import SilentWorkers
from tune_jobs.tuning.worker_loss import WorkerLoss, failure_after, loss_by
from tune_jobs.worker.reporting import Report

Watch = Callable[[Sequence[Trial]], None]


class RunIsOver(Exception):
    """The run must end: Ray Tune ends all workers, and `tune_trials` catches this.

    Args:
        ending: How the run ends; None if a signal or a dead process of Ray ends it.
    """

    def __init__(self, ending: Ending | None = None) -> None:
        super().__init__(ending)
        self.ending = ending


class JournalCallback(ProgressCallback):
    """Writes what happens to trials to the journal, and ends workers that hang.

    Args:
        run: The run whose journal gets the events.
        components: The objects that write the reports that the scheduler did not get, know which trials are paused,
            and say whether the run must end.
        limits: Limits on the time without a report, and on the number of lost workers.
        watches: Called with all trials of Ray Tune at each of its steps.
        seconds_to_start: Additional seconds that a trial may take before its first report.
    """

    def __init__(
        self,
        run: LiveRun,
        components: Components,
        limits: LimitSettings,
        watches: Sequence[Watch] = (),
        seconds_to_start: float = 0.0,
    ) -> None:
        self._run = run
        self._retries = limits.retries_per_trial
        self._control = components.control
        self._tables = components.tables
        self._reports = components.reports
        self._silent = SilentWorkers(limits.minutes_per_epoch, seconds_to_start)
        self._watches = watches
        self._earlier = {each.trial_id for each in run.record.trials.values() if each.cause is not None}
        self._failed_alike = False

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """End the run if it is interrupted, and workers that hang; their trials continue in other workers."""
        if self._run_is_over():
            raise RunIsOver
        if self._failed_alike:
            raise RunIsOver(Ending.LIKE_FAILURES)
        for trial in trials:
            if trial.status == Trial.ERROR and not self._has_ended(trial):
                loss = loss_by(last_error_of(trial))  # Ray Tune could not hand it to a worker
                self._fail(trial, loss.cause, loss.reason)
        for watch in self._watches:
            watch(trials)
        self._silent.end_overdue()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Write that a worker has the trial."""
        self._silent.start(trial)
        self._run.append(TrialStarted(trial_id=trial_id_of(trial)))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Write the epochs and checkpoints of a report."""
        self._silent.report(trial)
        self._reports.write(trial_id_of(trial), result)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Write the end of a trial that ended by itself or was stopped by the scheduler."""
        self._silent.leave(trial)
        if trial_id_of(trial) not in self._tables.open:  # it waits at a rung, or had lost its last worker
            return
        cause, reason, details = trial_ending(Report.of_result(trial.last_result))
        self._run.append(TrialEnded.by(trial_id_of(trial), cause, reason, details))
        if cause is Cause.TRAINING_FAILED:
            self._failed_alike = like_failures(self._run.record.trials.values(), self._earlier) is not None

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Write that the trial's worker died, or that the trial fails over it."""
        self._silent.leave(trial)
        if self._run_is_over():
            return
        loss = self._loss_of(trial)
        known = self._run.record.trials[trial_id_of(trial)]
        failure = failure_after(
            loss, workers_lost=known.workers_lost, machines_lost=known.machines_lost, retries=self._retries
        )
        if failure is not None:
            self._fail(trial, loss.cause, failure)
            return
        self._run.append(WorkerLost(trial_id=trial_id_of(trial), reason=loss.reason, node_lost=loss.of_node))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Write the failure of a trial that Ray Tune does not retry."""
        self._silent.leave(trial)
        if not self._has_ended(trial) and not self._run_is_over():
            loss = self._loss_of(trial)
            self._fail(trial, loss.cause, loss.reason)

    def _run_is_over(self) -> bool:
        """Return whether the run is being cut off; a worker that dies then is no loss of its trial."""
        return self._control.interrupted() or dead_server() is not None

    def _has_ended(self, trial: Trial) -> bool:
        return self._run.record.trials[trial_id_of(trial)].status.ended

    def _fail(self, trial: Trial, cause: Cause, reason: str) -> None:
        self._run.append(TrialEnded.by(trial_id_of(trial), cause, reason))

    def _loss_of(self, trial: Trial) -> WorkerLoss:
        return self._silent.take_loss(trial) or loss_by(last_error_of(trial))


def find_unplaced(trials: Sequence[Trial], tables: RungTables) -> set[str]:
    """Return the ids of the trials that should be trained now and have no worker."""
    waiting = (trial_id_of(trial) for trial in trials if trial.status in {Trial.PENDING, Trial.PAUSED})
    return {trial_id for trial_id in waiting if trial_id in tables.open}


def trial_ending(report: Report | None) -> tuple[Cause, str, str]:
    """Return cause, reason and details of the end of a trial whose last report is `report`: one place decides.

    Args:
        report: The last report; None if there was none.
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
