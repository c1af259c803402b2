"""A scheduler for Ray Tune that pauses trials at their rungs: ASHA as published (see `scheduling.rungs`).

Nothing is decided here. `scheduling.rungs` decides which trial is promoted: `RungTables.decide` when a trial reports
a rung, and `RungTables.choose_promotion` when a worker is free. The scheduler asks these tables, writes their decision
to the journal, and lets Ray Tune act. The tables follow the journal, so a scheduler on replayed tables continues as
this one would.
"""

from typing import Any, Protocol

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from tune_jobs.scheduling.journaled_tables import JournaledTables
from tune_jobs.scheduling.rungs import Decision, Promotion
from tune_jobs.tuning.control import RunControl
from tune_jobs.tuning.ray_patches import mend_handover, stop_ended, trial_id_of
from tune_jobs.tuning.report_recorder import ReportRecorder


class TrialSupply(Protocol):
    """The source of new trials: the searcher."""

    @property
    def exhausted(self) -> bool:
        """Return whether no trial will be created any more."""


class PromotionScheduler(TrialScheduler):
    """Pauses trials at their rungs, and resumes each when it is among the best there.

    A trial is paused without a checkpoint of Ray Tune. The trainable writes its own before it reports a rung, and any
    worker can continue from it.

    Args:
        tables: The tables of the run's rungs, to which each decision is applied.
        reports: The recorder that writes a report before the decision on it.
        control: The limit on running trials, and the time limit, after which no trial is promoted.
        supply: The source of new trials.
    """

    def __init__(
        self, tables: JournaledTables, reports: ReportRecorder, control: RunControl, supply: TrialSupply
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Ray is typed in parts
        self._journaled = tables
        self._tables = tables.tables
        self._reports = reports
        self._control = control
        self._supply = supply

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Write the report; at a rung, continue, pause or stop the trial."""
        trial_id = trial_id_of(trial)
        report = self._reports.write(trial_id, result)
        if report is None or not report.rung:
            return self.CONTINUE
        match self._tables.decide(trial_id, report.epoch, out_of_time=self._control.out_of_time()):
            case Decision.CONTINUE:
                return self.CONTINUE
            case Decision.PROMOTE:
                self._journaled.promote(Promotion(trial_id, report.epoch))
                return self.CONTINUE
            case Decision.PAUSE:
                self._journaled.pause(trial_id, report.epoch)
                tune_controller.pause_trial(trial, should_checkpoint=False)
                return self.NOOP
            case Decision.STOP:
                return self.STOP

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return a promoted trial, else one that is new or has lost its worker.

        Paused trials are stopped if nothing can promote them any more.
        """
        stop_ended(tune_controller, self._tables.has_ended)
        trials: list[Trial] = tune_controller.get_trials()
        promotion = self._tables.choose_promotion(
            self._control.max_running(), out_of_time=self._control.out_of_time()
        )
        if promotion is not None:
            self._journaled.promote(promotion)
        for trial in trials:
            if trial.status == Trial.PAUSED and trial_id_of(trial) in self._tables.open:
                return trial
        if self._tables.promotions_are_over(exhausted=self._supply.exhausted):
            for trial in [trial for trial in trials if trial.status == Trial.PAUSED]:
                tune_controller.stop_trial(trial)
        return next((trial for trial in trials if trial.status == Trial.PENDING), None)

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Keep a paused trial paused after a resume, and recover one whose worker died while it was handed over."""
        if trial_id_of(trial) in self._tables.waiting:
            trial.set_status(Trial.PAUSED)  # type: ignore[no-untyped-call]  # Ray is typed in parts
            return
        mend_handover(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Do nothing: the tables follow the journal."""

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Do nothing; see `on_trial_error`."""

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Do nothing; see `on_trial_error`."""

    def debug_string(self) -> str:
        """Return how full the rungs are, in one line."""
        rungs = (
            f"epoch {rung.epoch}: {rung.waiting} of {rung.entries} wait, {rung.promoted} promoted"
            for rung in self._tables.summary()
        )
        return "Waiting at rungs: " + "; ".join(rungs)

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing; see `save`."""
