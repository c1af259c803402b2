"""Proposals in advance: the method works beside the run, so a worker never waits for it.

The threads here wait for a method, which runs in a separate process (see `process`).
"""

import threading
import time
from collections import deque
from collections.abc import Collection, Iterable
from typing import Protocol

from tune_jobs.record.events import Event, TrialCreated
from tune_jobs.search.history import Configuration, Observations, SearchHistory
from tune_jobs.search.methods import Method
from tune_jobs.search_spaces import SearchSpace

REST = 9.0
"""Pause before ready proposals are replaced, as a multiple of the time that they took. So replacing them uses at most
a tenth of a processor."""


class Proposals(Protocol):
    """A source of configurations for the searcher, which follows the journal."""

    @property
    def filled_in(self) -> Collection[int]:
        """Return the numbers of the configurations that were drawn at random, because none was ready."""

    def apply(self, event: Event, /) -> None: ...

    def take(self, number: int) -> Configuration | None:
        """Return configuration `number`; None if none is left."""

    def close(self) -> None:
        """End the source; no further configuration is taken."""


class Immediate:
    """Proposals that are made when they are taken, from all observations at that moment.

    For methods without a model, for a simulated clock, and if the same events must lead to the same proposals.

    Args:
        method: Makes the proposals.
        history: The run's history, still empty.
        events: Events of the run's journal so far.
        with_model: Whether the method reads scores. Otherwise the work of a proposal does not grow with the run.
    """

    def __init__(
        self,
        method: Method,
        history: SearchHistory,
        events: Iterable[Event] = (),
        *,
        with_model: bool = True,
    ) -> None:
        self.filled_in: Collection[int] = ()
        self._method = method
        self._history = history
        self._with_model = with_model
        for event in events:
            history.apply(event)

    def apply(self, event: Event) -> None:
        self._history.apply(event)

    def take(self, number: int) -> Configuration | None:
        if self._with_model:
            return self._method.propose(self._history.snapshot(), number)
        return self._method.propose(self._history.keys_alone, number)

    def close(self) -> None:
        return


class OneAhead:
    """One proposal in advance: while a trial runs, the next one is proposed from the observations at its start.

    For one worker: its configurations do not depend on any timing, so a seed makes the run repeatable. The worker waits
    only if a trial takes less time than a proposal.

    Args:
        method: Makes the proposals.
        history: The run's history, still empty.
        events: Events of the run's journal so far.
    """

    def __init__(self, method: Method, history: SearchHistory, events: Iterable[Event] = ()) -> None:
        self.filled_in: Collection[int] = ()
        self._method = method
        self._history = history
        self._thread: threading.Thread | None = None
        self._next: tuple[int, Configuration | None] | None = None
        self._error: BaseException | None = None
        begun: tuple[Observations, int] | None = None
        for event in events:
            history.apply(event)
            if isinstance(event, TrialCreated):
                begun = history.snapshot(), event.number + 1
        if begun is not None:
            self._begin(*begun)

    def apply(self, event: Event) -> None:
        self._history.apply(event)
        if isinstance(event, TrialCreated):
            self._begin(self._history.snapshot(), event.number + 1)

    def take(self, number: int) -> Configuration | None:
        if self._thread is None:
            self._begin(self._history.snapshot(), number)
        self.close()
        if self._error is not None:
            raise self._error
        assert self._next is not None
        assert self._next[0] == number, "proposals are taken in the order of their numbers"
        return self._next[1]

    def close(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def _begin(self, observations: Observations, number: int) -> None:
        self.close()
        self._thread = threading.Thread(
            target=self._propose, args=(observations, number), name="search", daemon=True
        )
        self._thread.start()

    def _propose(self, observations: Observations, number: int) -> None:
        try:
            self._next = number, self._method.propose(observations, number)
        except BaseException as error:  # raised again when the proposal is taken
            self._error = error


class Ahead:
    """A few proposals in advance, replaced when more scores are known; if none is ready, it fills in.

    For several workers. A proposal treats the earlier ones, which are not tried yet, as running trials.

    Args:
        method: Makes the proposals.
        history: The run's history.
        space: The search space.
        depth: Number of proposals to keep ready: the number of workers.
        events: Events of the run's journal so far.
    """

    def __init__(
        self,
        method: Method,
        history: SearchHistory,
        space: SearchSpace,
        depth: int,
        events: Iterable[Event] = (),
    ) -> None:
        self.filled_in: set[int] = set()
        self._method = method
        self._history = history
        self._space = space
        self._depth = depth
        self._ready: deque[Configuration | None] = deque()
        self._version = -1
        """Version of the history on which the ready proposals rest."""
        for event in events:
            history.apply(event)
        self._number = len(history.tried)
        """Number of the next proposal that will be taken."""
        self._rest_until = 0.0
        self._closed = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._guarded_work, name="search", daemon=True)
        self._thread.start()

    def apply(self, event: Event) -> None:
        with self._changed:
            self._history.apply(event)
            if isinstance(event, TrialCreated):
                self._number = event.number + 1
            self._changed.notify()

    def take(self, number: int) -> Configuration | None:
        with self._changed:  # held throughout: the thread must not count a configuration that is being taken
            if self._error is not None:
                raise self._error
            proposal = self._pop_ready()
            if proposal is None:
                proposal = self._method.fill_in(self._history.keys_alone, number)
                self.filled_in.add(number)
            if proposal is not None:
                self._number = number + 1
                self._history.tried.add(self._space.key(proposal))
            return proposal

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _guarded_work(self) -> None:
        try:
            self._work()
        except BaseException as error:  # raised again when a proposal is taken
            with self._changed:
                self._error = error

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._has_work():
                    self._changed.wait(self._seconds_to_rest() if self._stale else None)
                if self._closed:
                    return
                version, began = self._history.version, time.monotonic()
                old = self._stale and self._seconds_to_rest() == 0
                waiting = [] if old else list(self._ready)
                observations, number = self._history.snapshot(), self._number + len(waiting)
            for proposal in waiting:
                if proposal is not None:
                    observations = observations.with_proposal(proposal, self._space.key(proposal))
            proposal = self._method.propose(observations, number)
            with self._changed:
                if old:
                    self._ready.clear()
                    self._version = version
                    self._rest_until = time.monotonic() + REST * (time.monotonic() - began)
                if (
                    proposal is None or self._space.key(proposal) not in self._history.tried
                ):  # otherwise it comes too late
                    self._ready.append(proposal)

    def _pop_ready(self) -> Configuration | None:
        while self._ready:
            proposal = self._ready.popleft()
            if proposal is not None:
                return proposal
        return None

    def _has_work(self) -> bool:
        wanted = len(self._ready) < self._depth
        return self._closed or wanted or (self._stale and self._seconds_to_rest() == 0)

    @property
    def _stale(self) -> bool:
        return self._version != self._history.version

    def _seconds_to_rest(self) -> float:
        return max(0.0, self._rest_until - time.monotonic())
