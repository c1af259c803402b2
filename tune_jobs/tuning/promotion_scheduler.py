"""A scheduler for Ray Tune whose trials wait at their rungs: ASHA as published (see `rungs`).

It decides nothing by itself: it asks the rung tables, writes what they say to the journal, and has Ray Tune do it.
The tables follow the journal, so that a scheduler which is made on replayed tables goes on as this one would.
"""

from collections.abc import Callable
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from tune_jobs.record.events import Event, TrialPromoted, TrialWaits
from tune_jobs.scheduling.rungs import Decision, RungTables
from tune_jobs.tuning.ray_patches import mend_handover, stop_ended, trial_id_of
from tune_jobs.tuning.report_recorder import ReportLog


class PromotionScheduler(TrialScheduler):
    """Pauses trials at their rungs, and has them go on when they are among the best there.

    Checkpoints are the trainable's own: it has written one before it reports a rung, and goes on from it in
    whatever worker takes the trial up. So a trial is paused without Ray Tune's.

    Args:
        tables: of the run's rungs; they follow the journal.
        reports: writes a report before the decision on it.
        append: of the journal.
        max_running: so many trials take a worker at a time, from moment to moment.
        exhausted: no new trial will come.
        out_of_time: no trial is promoted any more.
        ended: whether a trial has ended; such a one takes no further worker.
    """

    def __init__(
        self,
        tables: RungTables,
        reports: ReportLog,
        append: Callable[[Event], None],
        *,
        max_running: Callable[[], int],
        exhausted: Callable[[], bool],
        out_of_time: Callable[[], bool] = lambda: False,
        ended: Callable[[str], bool] = lambda _: False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Ray is typed in parts
        self._tables = tables
        self._reports = reports
        self._append = append
        self._max_running = max_running
        self._exhausted = exhausted
        self._out_of_time = out_of_time
        self._ended = ended

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Writes the report; at a rung the trial goes on, waits, or is stopped."""
        trial_id = trial_id_of(trial)
        report = self._reports.write(trial_id, result)
        if report is None or not report.rung:
            return self.CONTINUE
        decision = self._tables.decide(trial_id, report.epoch)
        if decision is Decision.PROMOTE and self._out_of_time():
            decision = Decision.PAUSE
        match decision:
            case Decision.CONTINUE:
                return self.CONTINUE
            case Decision.PROMOTE:
                self._append(TrialPromoted(trial_id=trial_id, epoch=report.epoch))
                return self.CONTINUE
            case Decision.PAUSE:
                self._append(TrialWaits(trial_id=trial_id, epoch=report.epoch))
                tune_controller.pause_trial(trial, should_checkpoint=False)
                return self.NOOP
            case Decision.STOP:
                return self.STOP

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """A promoted trial, else one that is new or has lost its worker; where none can come, waiting ends."""
        stop_ended(tune_controller, self._ended)
        trials: list[Trial] = tune_controller.get_trials()
        promotion = None if self._out_of_time() else self._tables.may_promote(self._max_running())
        if promotion is not None:
            self._append(TrialPromoted(trial_id=promotion.trial_id, epoch=promotion.epoch))
        for trial in trials:
            if trial.status == Trial.PAUSED and trial_id_of(trial) in self._tables.open:
                return trial
        if not self._tables.open and self._exhausted():
            for trial in [trial for trial in trials if trial.status == Trial.PAUSED]:
                tune_controller.stop_trial(trial)
        return next((trial for trial in trials if trial.status == Trial.PENDING), None)

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Has a trial that waited before the run was resumed wait on, and mends one whose worker was dead."""
        if trial_id_of(trial) in self._tables.waiting:
            trial.set_status(Trial.PAUSED)  # type: ignore[no-untyped-call]  # Ray is typed in parts
            return
        mend_handover(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Does nothing: what becomes of a trial is known from the journal."""

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Does nothing; see `on_trial_error`."""

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Does nothing; see `on_trial_error`."""

    def debug_string(self) -> str:
        """How full the rungs are, in one line."""
        rungs = (
            f"epoch {rung.epoch}: {rung.waiting} of {rung.entries} wait, {rung.promoted} went on"
            for rung in self._tables.summary()
        )
        return "Waiting at rungs: " + "; ".join(rungs)

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Does nothing; see `save`."""
