"""The observations of a search: a run's trials, and their scores at the epochs at which trials are compared."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Self

from tune_jobs.record.events import EpochsReported, Event, TrialCreated, TrialEnded
from tune_jobs.scheduling.rungs import RungEntries
from tune_jobs.search_spaces import SearchSpace
from tune_jobs.trainers.settings import ScoreSettings

Configuration = Mapping[str, Any]
Key = tuple[tuple[str, str], ...]
"""Key of a configuration, from `SearchSpace.key`."""


@dataclass(frozen=True)
class Observations:
    """The observations at one moment. All ids of trials are in the order of the journal."""

    configurations: Mapping[str, Configuration]
    """Configurations of all trials, including the latest proposals."""
    scores: Mapping[int, Mapping[str, float]]
    """Scores by epoch, ascending, of the trials compared there: lower is better, infinite if the trial diverged."""
    running: frozenset[str]
    """Ids of the trials that have a worker, or wait for one."""
    tried: Set[Key]
    """Keys of all configurations."""

    def with_proposal(self, configuration: Configuration, key: Key) -> "Observations":
        """Return these observations with one more trial that has no score yet."""
        name = f"proposed {len(self.configurations)}"
        return replace(
            self,
            configurations={**self.configurations, name: configuration},
            running=self.running | {name},
            tried=self.tried | {key},
        )

    def running_before(self, epoch: int) -> list[Configuration]:
        """Return the configurations of running trials that have no score at `epoch` yet."""
        return [
            configuration
            for trial, configuration in self.configurations.items()
            if trial in self.running and trial not in self.scores[epoch]
        ]


class SearchHistory:
    """The observations of a run, built from its events: `apply` takes them one by one.

    A score is the best value up to an epoch. It is kept at the epochs at which trials are compared: the rungs and the
    last epoch. A diverged trial has an infinite score at the next of them. A trial that ended by its own early stopping
    keeps its score at later ones, because it would have had it there. A stopped trial has no score there: it is
    unknown.

    Args:
        space: The search space.
        rungs: Epochs at which trials are compared before the last one, ascending.
        max_epochs: The last epoch.
        score: The selection metric and its direction.
    """

    def __init__(
        self, space: SearchSpace, rungs: Sequence[int], max_epochs: int, score: ScoreSettings
    ) -> None:
        self.version = 0
        """Number of changes of scores; it tells whether a proposal rests on older scores."""
        self.tried: set[Key] = set()
        """Keys of all configurations."""
        self._space = space
        self._configurations: dict[str, Configuration] = {}
        self._epochs = (*rungs, max_epochs)
        self._rungs = RungEntries(self._epochs, score)

    @classmethod
    def replay(
        cls,
        events: Iterable[Event],
        space: SearchSpace,
        rungs: Sequence[int],
        max_epochs: int,
        score: ScoreSettings,
    ) -> Self:
        """Return the history after `events`."""
        history = cls(space, rungs, max_epochs, score)
        for event in events:
            history.apply(event)
        return history

    def apply(self, event: Event) -> None:
        """Apply one event."""
        self._rungs.apply(event)
        match event:
            case TrialCreated():
                self._configurations[event.trial_id] = event.configuration
                self.tried.add(self._space.key(event.configuration))
                return
            case EpochsReported():
                if not any(int(result["epoch"]) in self._epochs for result in event.results):
                    return
            case TrialEnded():
                if event.cause.of_training:
                    self._rungs.enter_beyond(event.trial_id)
            case _:
                return
        self.version += 1

    @property
    def keys_alone(self) -> Observations:
        """Return observations that hold the keys of all configurations, kept up to date, and nothing else.

        For methods without a model: to copy everything for each proposal takes ever longer.
        """
        return Observations(configurations={}, scores={}, running=frozenset(), tried=self.tried)

    def snapshot(self) -> Observations:
        """Return the current observations; later events do not change them."""
        return Observations(
            configurations=dict(self._configurations),
            scores={
                epoch: {trial_id: entry.score for trial_id, entry in self._rungs.entries(epoch).items()}
                for epoch in self._epochs
            },
            running=frozenset(self._rungs.open),
            tried=frozenset(self.tried),
        )
