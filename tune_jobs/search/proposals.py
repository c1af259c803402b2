"""Proposals ahead of need: the method works beside the run, and a worker never waits for it.

Threads here wait for a method; it runs in a process of its own (see `process`).
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
"""Proposals that are ready are made anew after so many times as long as that took: a tenth of a processor at most."""


class Proposals(Protocol):
    """Gives configurations to the searcher, and follows the journal."""

    @property
    def filled_in(self) -> Collection[int]:
        """Numbers of configurations that were drawn at random, since none was ready."""

    def apply(self, event: Event, /) -> None: ...

    def take(self, number: int) -> Configuration | None:
        """Configuration `number`; None where none is left."""

    def close(self) -> None:
        """No more is asked for."""


class Immediate:
    """Has the method propose when it is asked to, on all that is known then.

    For methods that do not think, for a simulated clock, and wherever the same events must lead to the same
    proposals.
    """

    def __init__(self, method: Method, history: SearchHistory, events: Iterable[Event] = ()) -> None:
        self.filled_in: Collection[int] = ()
        self._method = method
        self._history = history
        for event in events:
            history.apply(event)

    def apply(self, event: Event) -> None:
        self._history.apply(event)

    def take(self, number: int) -> Configuration | None:
        return self._method.propose(self._history.snapshot(), number)

    def close(self) -> None:
        return


class OneAhead:
    """While a trial runs, the next one is proposed, on what was known when it began.

    For one worker: what it is given does not depend on how fast anything was, so that a seed makes the run
    repeatable. It waits only where a trial takes less time than a proposal.

    Args:
        method: makes the proposals.
        history: of the run, still empty.
        events: of the run's journal, if it has some already.
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
        except BaseException as error:  # raised again where the proposal is taken
            self._error = error


class Ahead:
    """Keeps a few proposals ready, and makes them anew when more scores are known; where none is ready, it fills in.

    For several workers. A proposal takes those before it, which are not tried yet, for trials that are running.

    Args:
        method: makes the proposals.
        history: of the run.
        space: what is searched.
        depth: so many proposals are kept ready: as many as there are workers.
        events: of the run's journal, if it has some already.
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
        """Of the history on which those that are ready rest."""
        for event in events:
            history.apply(event)
        self._number = len(history.tried)
        """Of the next proposal that is taken."""
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
        with self._changed:  # throughout: the thread must not count a configuration that is being given
            if self._error is not None:
                raise self._error
            proposal = self._pop_ready()
            if proposal is None:
                proposal = self._method.fill_in(self._history.snapshot(), number)
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
        except BaseException as error:  # raised again where a proposal is taken
            with self._changed:
                self._error = error

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._something_to_do():
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
                ):  # else it is late
                    self._ready.append(proposal)

    def _pop_ready(self) -> Configuration | None:
        while self._ready:
            proposal = self._ready.popleft()
            if proposal is not None:
                return proposal
        return None

    def _something_to_do(self) -> bool:
        wanted = len(self._ready) < self._depth
        return self._closed or wanted or (self._stale and self._seconds_to_rest() == 0)

    @property
    def _stale(self) -> bool:
        return self._version != self._history.version

    def _seconds_to_rest(self) -> float:
        return max(0.0, self._rest_until - time.monotonic())
