"""Decide promotions by ASHA's rule: `RungTables` has a table of scores for each rung, and `Rung` the rule.

A trial that reaches a rung waits there until it is among the best 1/factor of the trials that have reached it:
asynchronous successive halving as published (Li et al. 2020, "A System for Massively Parallel Hyperparameter
Tuning", algorithm 2). One thing is stricter: of n trials at most floor(n / factor) are ever promoted. As published,
trials that were promoted early and have fallen behind since do not count. A search that improves would then promote
more than that share.

Everything here follows from the events of the journal, so a scheduler is rebuilt by replaying them.
"""

import heapq
import math
from bisect import insort
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Self

from tune_jobs.job.settings import SchedulerSettings
from tune_jobs.record.curve import EpochRow, TrialCurve
from tune_jobs.record.events import (
    EpochsReported,
    Event,
    TrialCreated,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
)
from tune_jobs.trainers.settings import ScoreSettings


@dataclass(frozen=True)
class Entry:
    """A trial in the table of a rung."""

    score: float
    """The best score up to the rung's epoch as a cost: lower is better; infinite if the trial has diverged."""
    number: int
    """The number of the trial: of equal scores, the one of the trial that was created first is better."""

    @property
    def order(self) -> tuple[float, int]:
        return self.score, self.number


@dataclass(frozen=True)
class Promotion:
    """A trial advances beyond a rung."""

    trial_id: str
    epoch: int


class Decision(StrEnum):
    """The decision on a trial that has reported."""

    CONTINUE = auto()
    """The trial is at no rung, or was promoted from it before."""
    PROMOTE = auto()
    PAUSE = auto()
    STOP = auto()
    """The trial has no finite score at its rung, so it could never be promoted."""


@dataclass(frozen=True)
class RungSummary:
    """Numbers of trials at a rung, for views."""

    epoch: int
    entries: int
    waiting: int
    promoted: int


@dataclass
class Rung:
    """The table of a rung. The next promotion is known without a look at all trials."""

    epoch: int
    entries: dict[str, Entry] = field(default_factory=dict)
    """All trials that were compared at the rung, including those that have ended since."""
    at_rung: set[str] = field(default_factory=set)
    """Trials whose last report is of this rung and that were not promoted: they wait, or are about to."""
    promoted: set[str] = field(default_factory=set)
    advanced: set[str] = field(default_factory=set)
    """The promoted trials, and those that reported an epoch beyond the rung before they were paused there."""
    _orders: list[tuple[float, int]] = field(default_factory=list)
    """The orders of all entries, ascending."""
    _candidates: list[tuple[tuple[float, int], str]] = field(default_factory=list)
    """A heap of the trials that came to the rung with a finite score. Those that have left it are removed late."""

    def compare(self, trial_id: str, entry: Entry) -> None:
        """Enter a trial, unless it was entered before."""
        if trial_id not in self.entries:
            self.entries[trial_id] = entry
            insort(self._orders, entry.order)

    def arrive(self, trial_id: str) -> None:
        """Note that a trial that was entered is at the rung now."""
        self.at_rung.add(trial_id)
        entry = self.entries[trial_id]
        if math.isfinite(entry.score):
            heapq.heappush(self._candidates, (entry.order, trial_id))

    def next_promoted(self, factor: int) -> str | None:
        """Return the trial that is promoted next, or None.

        It is the best of those that are at the rung and have not advanced, if it is among the best 1/`factor` of all.

        Args:
            factor: One in this many trials is promoted.
        """
        places = len(self.entries) // factor
        if len(self.advanced) >= places:
            return None
        while self._candidates:
            order, trial_id = self._candidates[0]
            if trial_id in self.at_rung and trial_id not in self.advanced:
                return trial_id if order <= self._orders[places - 1] else None
            heapq.heappop(self._candidates)
        return None


@dataclass
class _Trial:
    number: int
    curve: TrialCurve
    rung: Rung | None = None
    """The rung at which it waits, or is about to; None between rungs."""


class RungEntries:
    """The tables of all rungs, and the rung of each trial; `apply` takes the run's events one by one.

    What counts at a rung:
    - The first report of it counts. A trial that repeats epochs after it lost its worker is not entered twice.
    - A trial that diverges is entered at the next rung with an infinite score: it was tried, and has lost.
      A trial that fails in another way, or ends by itself before a rung, is not entered there.
    - An entry stays when its trial has ended. The trial can then not be promoted, and no other takes its rank.
    - A trial whose report jumps over a rung is entered there with its best score up to it. It takes one of the
      places of promoted trials.

    Args:
        epochs: Epochs of the rungs, ascending; with none, no trial waits.
        score: The selection metric and its direction.
    """

    def __init__(self, epochs: Sequence[int], score: ScoreSettings) -> None:
        self.epochs = tuple(epochs)
        self.open: set[str] = set()
        """Ids of the trials that have a worker, or get the next free one."""
        self.waiting: dict[str, int] = {}
        """Ids of the trials that wait, with the epochs of their rungs."""
        self._score = score
        self._rungs = {epoch: Rung(epoch) for epoch in epochs}
        self._trials: dict[str, _Trial] = {}

    def apply(self, event: Event) -> None:
        """Apply one of the events in force (`events.in_force`)."""
        match event:
            case TrialCreated():
                self._trials[event.trial_id] = _Trial(event.number, TrialCurve(self._score))
                self.open.add(event.trial_id)
            case EpochsReported():
                for result in event.results:
                    self._enter(event.trial_id, result)
            case TrialPaused():
                self.open.discard(event.trial_id)
                self.waiting[event.trial_id] = event.epoch
            case TrialPromoted():
                self._rungs[event.epoch].promoted.add(event.trial_id)
                self._rungs[event.epoch].advanced.add(event.trial_id)
                self._leave(event.trial_id)
                self.waiting.pop(event.trial_id, None)
                self.open.add(event.trial_id)
            case TrialEnded():
                self.open.discard(event.trial_id)
                self.waiting.pop(event.trial_id, None)
                self._leave(event.trial_id)

    def enter_beyond(self, trial_id: str) -> None:
        """Enter a trial that has ended with its score at all rungs that it did not reach."""
        for rung in self._rungs.values():
            if rung.epoch >= self._trials[trial_id].curve.last_epoch:
                self._compare(trial_id, rung)

    def has_ended(self, trial_id: str) -> bool:
        """Return whether a trial that was created needs no worker any more."""
        return trial_id not in self.open and trial_id not in self.waiting

    def entries(self, epoch: int) -> Mapping[str, Entry]:
        """Return the table of the rung at `epoch`."""
        return self._rungs[epoch].entries

    def summary(self) -> list[RungSummary]:
        """Return the numbers of trials at each rung."""
        waiting = Counter(self.waiting.values())
        return [
            RungSummary(rung.epoch, len(rung.entries), waiting[rung.epoch], len(rung.promoted))
            for rung in self._rungs.values()
        ]

    def _enter(self, trial_id: str, row: EpochRow) -> None:
        """Apply one epoch of a trial: enter it at its rung, and at rungs before it that were jumped over."""
        trial = self._trials[trial_id]
        before, epoch = trial.curve.rung_score, int(row["epoch"])
        if not trial.curve.add(row):
            return
        self._leave(trial_id)
        for rung in self._rungs.values():
            if rung.epoch < epoch:
                rung.compare(trial_id, Entry(before, trial.number))
                rung.advanced.add(trial_id)
        ahead = next((rung for rung in self._rungs.values() if rung.epoch >= epoch), None)
        if ahead is not None and trial.curve.diverged:
            self._compare(trial_id, ahead)
        elif ahead is not None and ahead.epoch == epoch:
            self._compare(trial_id, ahead)
            ahead.arrive(trial_id)
            trial.rung = ahead

    def _leave(self, trial_id: str) -> None:
        trial = self._trials[trial_id]
        if trial.rung is not None:
            trial.rung.at_rung.discard(trial_id)
            trial.rung = None

    def _compare(self, trial_id: str, rung: Rung) -> None:
        trial = self._trials[trial_id]
        rung.compare(trial_id, Entry(trial.curve.rung_score, trial.number))


class RungTables(RungEntries):
    """The tables of all rungs, with the rule of promotion.

    Args:
        epochs: Epochs of the rungs, ascending; without any, no trial waits.
        factor: One trial in so many is promoted.
        score: The selection metric and its direction.
    """

    def __init__(self, epochs: Sequence[int], factor: int, score: ScoreSettings) -> None:
        super().__init__(epochs, score)
        self.factor = factor

    @classmethod
    def replay(
        cls, events: Iterable[Event], epochs: Sequence[int], factor: int, score: ScoreSettings
    ) -> Self:
        """Return the tables that follow from `events`."""
        tables = cls(epochs, factor, score)
        for event in events:
            tables.apply(event)
        return tables

    def decide(self, trial_id: str, epoch: int, *, out_of_time: bool = False) -> Decision:
        """Return what happens to a trial that reports `epoch` as a rung; its report has been applied.

        Args:
            trial_id: The trial.
            epoch: The epoch of its report.
            out_of_time: Whether the time limit of the run has passed; then no trial is promoted any more.
        """
        rung = self._trials[trial_id].rung
        if rung is None or rung.epoch != epoch:
            return Decision.CONTINUE
        if not math.isfinite(rung.entries[trial_id].score):
            return Decision.STOP
        is_next = self.next_promotion() == Promotion(trial_id, epoch)
        return Decision.PROMOTE if is_next and not out_of_time else Decision.PAUSE

    def next_promotion(self) -> Promotion | None:
        """Return the trial that the next free worker gets, from the highest rung down; None if all must wait."""
        for rung in reversed(self._rungs.values()):
            trial_id = rung.next_promoted(self.factor)
            if trial_id is not None:
                return Promotion(trial_id, rung.epoch)
        return None

    def choose_promotion(self, max_running: int, *, out_of_time: bool = False) -> Promotion | None:
        """Return the paused trial that is promoted now, or None.

        Args:
            max_running: The limit on the trials that take a worker; no trial is promoted beyond it.
            out_of_time: See `decide`.
        """
        return self.next_promotion() if len(self.open) < max_running and not out_of_time else None

    def promotions_are_over(self, *, exhausted: bool, out_of_time: bool = False) -> bool:
        """Return whether no trial that waits will be promoted any more.

        Args:
            exhausted: Whether no trial will be created any more.
            out_of_time: See `decide`.
        """
        return exhausted and not self.open and (out_of_time or self.next_promotion() is None)

    def may_start(self, max_running: int) -> bool:
        """Return whether a new trial can start; promotions come first."""
        return len(self.open) < max_running and self.next_promotion() is None


def make_tables(settings: SchedulerSettings, rungs: Sequence[int], score: ScoreSettings) -> RungTables:
    """Return the empty rung tables of a run; they have no rungs unless its scheduler pauses trials.

    Args:
        settings: The settings of the scheduler.
        rungs: The epochs at which the run compares trials.
        score: The selection metric and its direction.
    """
    return RungTables(rungs if settings.pauses_trials else (), settings.reduction_factor, score)
