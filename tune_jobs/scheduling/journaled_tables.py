"""The rung tables of a run in progress, and the decisions that change them and go into its journal."""

from tune_jobs.record.codes import Cause
from tune_jobs.record.events import TrialCreated, TrialEnded, TrialPaused, TrialPromoted
from tune_jobs.record.live import LiveRun
from tune_jobs.scheduling.rungs import Promotion, RungTables


class JournaledTables:
    """Rung tables that follow the journal of a run. Each decision is written there and so applied to the tables.

    Args:
        run: The run whose journal the tables follow from now on.
        tables: Empty tables. The events of the run's past are applied to them here.
    """

    def __init__(self, run: LiveRun, tables: RungTables) -> None:
        self.tables = tables
        self._run = run
        run.follow_from_start(tables.apply)

    def create(self, trial: TrialCreated) -> None:
        """Add a new trial, which takes a worker as soon as one is free."""
        self._run.append(trial)

    def promote(self, promotion: Promotion) -> None:
        """Let a trial advance beyond its rung."""
        self._run.append(TrialPromoted(trial_id=promotion.trial_id, epoch=promotion.epoch))

    def pause(self, trial_id: str, epoch: int) -> None:
        """Keep a trial at the rung that it has reached, without a worker."""
        self._run.append(TrialPaused(trial_id=trial_id, epoch=epoch))

    def end_waiting(self, *, out_of_time: bool) -> None:
        """End all trials that wait, in the order of their creation and in one pass.

        Args:
            out_of_time: Whether they end because the time limit of the run has passed.
        """
        cause = Cause.TIME_LIMIT if out_of_time else Cause.NOT_PROMOTED
        factor, waiting = self.tables.factor, self.tables.waiting
        in_order = sorted(waiting, key=lambda trial_id: self._run.record.trials[trial_id].number)
        self._run.append(
            *[
                TrialEnded.by(id_, cause, cause.sentence.format(epoch=waiting[id_], factor=factor))
                for id_ in in_order
            ]
        )
