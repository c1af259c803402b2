"""What a search knows of a run: its trials and their scores at the epochs where trials are compared."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from tune_jobs.record.events import EpochsReported, Event, TrialCreated, TrialEnded
from tune_jobs.scheduling.rungs import RungTables
from tune_jobs.search_spaces import SearchSpace
from tune_jobs.trainers.settings import ScoreSettings

Configuration = Mapping[str, Any]
Key = tuple[tuple[str, str], ...]
"""`SearchSpace.key` of a configuration."""


@dataclass(frozen=True)
class Observations:
    """What was known at one moment. Ids of trials are in the order of the journal throughout."""

    configurations: Mapping[str, Configuration]
    """Of all trials, those included that have only just been proposed."""
    scores: Mapping[int, Mapping[str, float]]
    """By epoch, ascending: scores of the trials that were compared there; lower is better, infinite is lost."""
    running: frozenset[str]
    """Trials that take a worker, or will as soon as there is one."""
    tried: frozenset[Key]
    """Of all configurations."""

    def with_proposal(self, configuration: Configuration, key: Key) -> "Observations":
        """The same, and one more trial that has no score yet."""
        name = f"proposed {len(self.configurations)}"
        return replace(
            self,
            configurations={**self.configurations, name: configuration},
            running=self.running | {name},
            tried=self.tried | {key},
        )

    def running_before(self, epoch: int) -> list[Configuration]:
        """Of trials that run, and have no score at `epoch` yet."""
        return [
            configuration
            for trial, configuration in self.configurations.items()
            if trial in self.running and trial not in self.scores[epoch]
        ]


class SearchHistory:
    """Follows the journal of a run; `apply` takes its events one by one.

    A score is the best up to an epoch, and it is kept for the epochs at which trials are compared: the rungs, and
    the last epoch. A trial that diverged is lost at the next of them. One that ended by itself, by its own
    early stopping, keeps its score for those that it did not come to: it would have had it there. One that was
    stopped does not: what it would have come to is not known.

    Args:
        space: what is searched.
        rungs: epochs at which trials are compared before the last one, ascending.
        max_epochs: the last one.
        score: which number judges an epoch.
    """

    def __init__(
        self, space: SearchSpace, rungs: Sequence[int], max_epochs: int, score: ScoreSettings
    ) -> None:
        self.version = 0
        """Counts changes of scores, so that proposals which rest on fewer can be told."""
        self.tried: set[Key] = set()
        """Of all configurations."""
        self._space = space
        self._configurations: dict[str, Configuration] = {}
        self._epochs = (*rungs, max_epochs)
        self._tables = RungTables(self._epochs, 2, score)  # of which only the entries matter here

    @classmethod
    def replay(
        cls,
        events: Iterable[Event],
        space: SearchSpace,
        rungs: Sequence[int],
        max_epochs: int,
        score: ScoreSettings,
    ) -> Self:
        """The history that `events` lead to."""
        history = cls(space, rungs, max_epochs, score)
        for event in events:
            history.apply(event)
        return history

    def apply(self, event: Event) -> None:
        """Takes one event into account."""
        self._tables.apply(event)
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
                    self._tables.enter_beyond(event.trial_id)
            case _:
                return
        self.version += 1

    def snapshot(self) -> Observations:
        """What is known now; later events do not change it."""
        return Observations(
            configurations=dict(self._configurations),
            scores={
                epoch: {trial_id: entry.score for trial_id, entry in self._tables.entries(epoch).items()}
                for epoch in self._epochs
            },
            running=frozenset(self._tables.open),
            tried=frozenset(self.tried),
        )
