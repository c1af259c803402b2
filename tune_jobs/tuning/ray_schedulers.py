"""Run Ray Tune's own schedulers with the run's journal as their only source.

A scheduler of Ray Tune keeps its comparisons only in its object, under ids that Ray Tune makes for each `tune.run`. A
resumed run would compare its trials with nothing. So the scheduler is shown only what the journal says: trials under
our ids, and their scores at rungs. After the events of an interrupted run it has the same state as then, bit for bit.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from tune_jobs.job.settings import SchedulerSettings
from tune_jobs.record.codes import Status
from tune_jobs.record.curve import EpochRow, TrialCurve
from tune_jobs.record.events import (
    EpochsReported,
    Event,
    TrialCreated,
    TrialEnded,
)
from tune_jobs.record.live import LiveRun
from tune_jobs.scheduling.rungs import RungTables
from tune_jobs.trainers.settings import ScoreSettings
from tune_jobs.tuning.ray_patches import first_to_run, forget_ended, mend_handover, trial_id_of
from tune_jobs.tuning.report_recorder import ReportRecorder
from tune_jobs.worker.reporting import SCORE, TIME


@dataclass(frozen=True)
class ShownTrial:
    """A trial as Ray Tune's schedulers see it, with the same id after a resume."""

    trial_id: str


class ShownController:
    """The controller as these schedulers see it: no trial waits for a worker, so none is paused to make room."""

    def get_live_trials(self) -> Collection[Trial]:
        return ()


class JournaledRule:
    """A scheduler of Ray Tune as a function of the run's events; `apply` takes them one by one.

    The scheduler is shown what Ray Tune would have shown it: each rung once, at its first report, and the last epoch of
    a trial that ended well. An interruption ends a run and decides nothing about a trial.

    Args:
        scheduler: A new scheduler, which reads the results of `worker.reporting.Report`.
        rungs: Epochs at which trials are compared before the last one.
        score: The selection metric and its direction.
    """

    def __init__(self, scheduler: TrialScheduler, rungs: Sequence[int], score: ScoreSettings) -> None:
        self.stopped: set[str] = set()
        """Ids of the trials that the scheduler has stopped, including those that have not ended yet."""
        self._scheduler: Any = scheduler  # its methods want Ray Tune's own trials and controller
        self._controller = ShownController()
        self._rungs = frozenset(rungs)
        self._score = score
        self._curves: dict[str, TrialCurve] = {}

    @classmethod
    def replay(
        cls, scheduler: TrialScheduler, rungs: Sequence[int], score: ScoreSettings, events: Iterable[Event]
    ) -> Self:
        """Return `scheduler` as a rule to which `events` were applied, which are those in force (`in_force`)."""
        rule = cls(scheduler, rungs, score)
        for event in events:
            rule.apply(event)
        return rule

    def apply(self, event: Event) -> None:
        """Apply one event."""
        match event:
            case TrialCreated():
                self._curves[event.trial_id] = TrialCurve(self._score)
                self._scheduler.on_trial_add(self._controller, ShownTrial(event.trial_id))
            case EpochsReported():
                for result in event.results:
                    self._take(event.trial_id, result)
            case TrialEnded(status=Status.COMPLETED | Status.STOPPED_EARLY):
                self._show(event.trial_id, self._scheduler.on_trial_complete)

    def _take(self, trial_id: str, row: EpochRow) -> None:
        curve = self._curves[trial_id]
        if not curve.add(row):
            return
        if curve.last_epoch in self._rungs and not curve.diverged and trial_id not in self.stopped:
            decision = self._show(trial_id, self._scheduler.on_trial_result)
            if decision == TrialScheduler.STOP:
                self.stopped.add(trial_id)

    def _show(self, trial_id: str, method: Any) -> Any:
        """Call a method of the scheduler with the epoch and the score of the trial, if it has a score."""
        curve = self._curves[trial_id]
        score = curve.best_cost
        if score is None:
            return None
        with np.errstate(over="ignore"):  # means of scores that are finite and huge
            return method(self._controller, ShownTrial(trial_id), {TIME: curve.last_epoch, SCORE: score})


class JournaledScheduler(FIFOScheduler):
    """Stops the trials that a rule stops; the others run in the order of their creation.

    Args:
        run: The run whose journal the rule follows from now on.
        rule: A new rule. The events of the run's past are applied to it here.
        reports: The recorder that writes a report to the journal, and so to the rule, before the decision on it.
        tables: The tables that know which trials have ended; those get no further worker.
    """

    def __init__(
        self, run: LiveRun, rule: JournaledRule, reports: ReportRecorder, tables: RungTables
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Ray is typed in parts
        run.follow_from_start(rule.apply)
        self._rule = rule
        self._reports = reports
        self._tables = tables

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return the first trial that is new or has lost its worker."""
        forget_ended(tune_controller, self._tables.has_ended)
        return first_to_run(tune_controller)

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Recover a trial whose worker died while it was handed over."""
        mend_handover(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Write the report, and stop the trial if this report or an earlier one was not good enough.

        An earlier one may decide: if the driver died before the trial had ended, its worker reports the rung again.
        """
        trial_id = trial_id_of(trial)
        self._reports.write(trial_id, result)
        return self.STOP if trial_id in self._rule.stopped else self.CONTINUE

    def debug_string(self) -> str:
        """Return how many trials were stopped, in one line."""
        return f"Stopped at rungs: {len(self._rule.stopped)}"

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing; see `save`."""


def ray_scheduler(settings: SchedulerSettings, max_epochs: int) -> TrialScheduler:
    """Return Ray Tune's own scheduler for `settings`, which reads the results of `worker.reporting.Report`.

    It has one bracket: Ray's ASHA chooses further brackets by an unseeded generator, and they may have no rung.
    """
    match settings.method:
        case "asha_stopping":
            return ASHAScheduler(
                time_attr=TIME,
                metric=SCORE,
                mode="min",
                max_t=max_epochs,
                grace_period=min(settings.grace_epochs, max_epochs),
                reduction_factor=settings.reduction_factor,
                brackets=1,
            )
        case "median":
            return MedianStoppingRule(
                time_attr=TIME, metric=SCORE, mode="min", grace_period=settings.grace_epochs
            )
        case "none":
            return FIFOScheduler()  # type: ignore[no-untyped-call]  # Ray is typed in parts
        case "asha":
            raise ValueError("`asha` is not a scheduler of Ray Tune; use PromotionScheduler")
