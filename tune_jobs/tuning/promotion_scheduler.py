"""A scheduler for Ray Tune that pauses trials at their rungs: ASHA as published (see `scheduling.rungs`).

Nothing is decided here. `scheduling.rungs` decides which trial is promoted: `RungTables.decide` when a trial reports
a rung, and `RungTables.choose_promotion` when a worker is free. The scheduler asks for the first, and the searcher for
the second; both write the decision to the journal, and let Ray Tune act. The tables follow the journal, so a scheduler
on replayed tables continues as this one would.
"""

from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from tune_jobs.scheduling.journaled_tables import JournaledTables
from tune_jobs.scheduling.rungs import Decision, Promotion
from tune_jobs.tuning.control import RunControl
from tune_jobs.tuning.ray_patches import first_to_run, forget_ended, mend_handover, trial_id_of
from tune_jobs.tuning.report_recorder import ReportRecorder


class PromotionScheduler(TrialScheduler):
    """Pauses trials at their rungs; the searcher resumes each when it is among the best there.

    A trial that pauses has ended for Ray Tune. The trainable writes its own checkpoint before it reports a rung, and
    any worker can continue from it.

    Args:
        tables: The tables of the run's rungs, to which each decision is applied.
        reports: The recorder that writes a report before the decision on it.
        control: The time limit, after which no trial is promoted.
    """

    def __init__(self, tables: JournaledTables, reports: ReportRecorder, control: RunControl) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Ray is typed in parts
        self._journaled = tables
        self._tables = tables.tables
        self._reports = reports
        self._control = control

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
                return self.STOP
            case Decision.STOP:
                return self.STOP

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return a trial that lost its worker while it was handed over, else the first one that has none yet."""
        forget_ended(tune_controller, self._tables.has_ended)
        return first_to_run(tune_controller)

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Recover a trial whose worker died while it was handed over."""
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
