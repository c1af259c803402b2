"""The search as a `Searcher` of Ray Tune.

It decides when a configuration is asked for, and leaves to the proposals which one. What Ray Tune tells it of
results it does not need: all of it is in the journal, which the proposals follow.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from ray.tune.search import Searcher

from tune_jobs.record.events import TrialCreated
from tune_jobs.scheduling.journaled_tables import JournaledTables
from tune_jobs.search.proposals import Proposals
from tune_jobs.tuning.control import RunControl
from tune_jobs.worker.reporting import SCORE


class JournaledSearcher(Searcher):
    """Creates trials: asks for a configuration, writes it to the journal, and hands it to Ray Tune.

    Args:
        proposals: Give the configurations.
        rungs: Say which trials are in progress, and take up each new one.
        control: Limits how many trials run; no trial is created once it is out of time.
        trials: How many are created at most.
        created: Trials that were created before; those of them that have not ended are handed out first.
    """

    def __init__(
        self,
        proposals: Proposals,
        rungs: JournaledTables,
        control: RunControl,
        trials: int,
        created: Sequence[TrialCreated] = (),
    ) -> None:
        super().__init__(metric=SCORE, mode="min")
        self._proposals = proposals
        self._rungs = rungs
        self._tables = rungs.tables
        self._control = control
        self._trials = trials
        self._created = len(created)
        self._none_left = False
        self._waiting = deque(trial for trial in created if trial.trial_id in rungs.tables.waiting)
        self._unfinished = deque(trial for trial in created if trial.trial_id in rungs.tables.open)
        self._handed_out: set[str] = set()

    @property
    def exhausted(self) -> bool:
        """No trial will be created any more."""
        return self._none_left or self._created >= self._trials or self._control.out_of_time()

    @property
    def has_open_trials(self) -> bool:
        """Some trial was created and has not ended."""
        return bool(self._tables.open or self._tables.waiting)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # Ray's is too narrow
        """The next trial, with our own id; None where no worker is free for it."""
        if self._waiting:  # Ray Tune must know of them; they take no worker
            return self._hand_out(self._waiting.popleft())
        if self._unfinished:
            return self._hand_out(self._unfinished.popleft()) if self._has_room else None
        if self.exhausted:
            return self._finished()
        if not self._tables.may_start(self._control.max_running()):
            return None
        configuration = self._proposals.take(self._created)
        if configuration is None:
            self._none_left = True
            return self._finished()
        number, name = self._created, f"{self._created:04d}"
        self._created += 1
        trial = TrialCreated(
            trial_id=name,
            number=number,
            configuration=dict(configuration),
            filled_in=number in self._proposals.filled_in,
        )
        self._rungs.create(trial)
        return self._hand_out(trial)

    @property
    def _has_room(self) -> bool:
        """Is a worker free for a trial that was in progress when the run was interrupted?"""
        return len(self._handed_out & self._tables.open) < self._control.max_running()

    def _hand_out(self, trial: TrialCreated) -> dict[str, Any]:
        self._handed_out.add(trial.trial_id)
        return {"trial_id": trial.trial_id, "configuration": dict(trial.configuration)}

    def _finished(self) -> str | None:
        """Where trials wait, Ray Tune hears of the end last: it would end workers that idle for a moment."""
        return None if self._tables.epochs and self.has_open_trials else Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Does nothing: the journal has it."""

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Does nothing; see `on_trial_result`."""

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Does nothing; see `save`."""
