"""The search as a `Searcher` of Ray Tune.

It decides when the next configuration is needed; the proposals decide which one it is. It ignores the results that Ray
Tune passes to it: the proposals follow the journal, which has them.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any

from ray.tune.search import Searcher

from tune_jobs.record.events import TrialCreated
from tune_jobs.record.live import LiveRun
from tune_jobs.scheduling.journaled_tables import JournaledTables
from tune_jobs.search.proposals import Proposals
from tune_jobs.tuning.control import RunControl
from tune_jobs.worker.reporting import SCORE


class JournaledSearcher(Searcher):
    """Gives Ray Tune each trial that needs a worker: a new one, or one that is promoted.

    Ray Tune does not know the trials that wait at a rung, so its work does not grow with their number. When a trial
    pauses, it ends for Ray Tune; when it is promoted, Ray Tune receives it again.

    Args:
        run: The run whose journal the proposals follow from now on. Its trials that were in progress come first.
        proposals: The source of the configurations, to which the events of the run's past were applied.
        tables: The tables of the run's rungs, to which each new trial is added.
        control: The limit on running trials, and the time limit, after which no trial is created.
        trials: The largest number of trials to create.
    """

    def __init__(
        self,
        run: LiveRun,
        proposals: Proposals,
        tables: JournaledTables,
        control: RunControl,
        trials: int,
    ) -> None:
        super().__init__(metric=SCORE, mode="min")
        self._proposals = proposals
        self._journaled = tables
        self._tables = tables.tables
        self._control = control
        self._trials = trials
        created = [event for event in run.past if isinstance(event, TrialCreated)]
        run.follow(proposals.apply)
        self._created = len(created)
        self._none_left = False
        self._record = run.record
        self._unfinished = deque(trial.trial_id for trial in created if trial.trial_id in self._tables.open)
        self._handed_out: set[str] = set()

    @property
    def exhausted(self) -> bool:
        """Return whether no trial will be created any more."""
        return self._none_left or self._created >= self._trials or self._control.out_of_time()

    @property
    def has_open_trials(self) -> bool:
        """Return whether a trial that was created has not ended."""
        return bool(self._tables.open or self._tables.waiting)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # Ray's is too narrow
        """Return the next trial, with our own id; None if no worker is free for it.

        Trials that wait are ended if nothing can promote them any more.
        """
        if self._unfinished:
            return self._hand_out(self._unfinished.popleft()) if self._has_room else None
        out_of_time = self._control.out_of_time()
        promotion = self._tables.choose_promotion(self._control.max_running(), out_of_time=out_of_time)
        if promotion is not None:
            self._journaled.promote(promotion)
            return self._hand_out(promotion.trial_id)
        if self.exhausted:
            if self._tables.promotions_are_over(exhausted=True, out_of_time=out_of_time):
                self._journaled.end_waiting(out_of_time=out_of_time)
            return self._finished()
        if not self._tables.may_start(self._control.max_running()):
            return None
        configuration = self._proposals.take(self._created)
        if configuration is None:
            self._none_left = True
            return self.suggest(trial_id)
        number, name = self._created, f"{self._created:04d}"
        self._created += 1
        trial = TrialCreated(
            trial_id=name,
            number=number,
            configuration=dict(configuration),
            filled_in=number in self._proposals.filled_in,
        )
        self._journaled.create(trial)
        return self._hand_out(trial.trial_id)

    @property
    def _has_room(self) -> bool:
        """Return whether a worker is free for a trial that was in progress when the run was interrupted."""
        return len(self._handed_out & self._tables.open) < self._control.max_running()

    def _hand_out(self, trial_id: str) -> dict[str, Any]:
        self._handed_out.add(trial_id)
        return {"trial_id": trial_id, "configuration": dict(self._record.trials[trial_id].configuration)}

    def _finished(self) -> str | None:
        """Report the end only when no trial waits: Ray Tune would stop idle workers that a promotion may need."""
        return None if self._tables.epochs and self.has_open_trials else Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Do nothing: the journal has the result."""

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing; see `on_trial_result`."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing; see `save`."""
