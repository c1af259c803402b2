"""The progress of a trial, computed from the rows of its epochs: the one place for its two rules.

Both rules are about an epoch that is reported again, by a worker that continued a trial after another one was lost:
- The first report counts (`TrialCurve`): for decisions during the run, which cannot be taken back.
- The last report counts (`LatestEpochs`): for tables and selection, because the checkpoints belong to it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from tune_jobs.trainers.interface import DIVERGED
from tune_jobs.trainers.scores import BestEpoch, better
from tune_jobs.trainers.settings import ScoreSettings

EpochRow = Mapping[str, Any]
"""Values of an epoch by name, from `EpochResult.to_mapping`."""


class TrialCurve:
    """The best epoch so far, the last one, and whether the trial has diverged; `add` takes the epochs in order.

    An epoch counts once. A trial that lost its worker repeats epochs; the repeats change nothing. After an epoch in
    which the training diverged, nothing counts.

    Args:
        score: The selection metric and its direction.
    """

    def __init__(self, score: ScoreSettings) -> None:
        self.best: BestEpoch | None = None
        """The epoch with the best finite score; the first of several equal ones."""
        self.last_epoch = 0
        """Number of the last epoch; 0 before the first one."""
        self.diverged = False
        """Whether the training reported a divergence in its last epoch."""
        self._score = score

    @classmethod
    def of(cls, rows: Iterable[EpochRow], score: ScoreSettings) -> Self:
        """Return the curve of a trial with these epochs."""
        curve = cls(score)
        for row in rows:
            curve.add(row)
        return curve

    def add(self, row: EpochRow) -> bool:
        """Add an epoch, and return whether it counts."""
        epoch = int(row["epoch"])
        if self.diverged or epoch <= self.last_epoch:
            return False
        self.best = better(self.best, row, self._score)
        self.last_epoch = epoch
        self.diverged = bool(row.get(DIVERGED, False))
        return True

    @property
    def best_cost(self) -> float | None:
        """Return the best score so far as a cost, lower is better; None without a finite score."""
        return None if self.best is None else self._score.cost(self.best.score)

    @property
    def rung_score(self) -> float:
        """Return the trial's entry at a rung: its best cost so far; infinite if it diverged or has none."""
        cost = self.best_cost
        return math.inf if cost is None or self.diverged else cost


class LatestEpochs:
    """The last report of each epoch of a trial, and the curve of these reports.

    Args:
        score: The selection metric and its direction.
    """

    def __init__(self, score: ScoreSettings) -> None:
        self.rows: dict[int, EpochRow] = {}
        """The last row of each epoch, by number."""
        self.curve = TrialCurve(score)
        """The curve of these rows."""
        self._score = score

    def add(self, rows: Sequence[EpochRow]) -> bool:
        """Add the epochs of a report, and return whether one of them is new."""
        new = any(int(row["epoch"]) not in self.rows for row in rows)
        repeats = any(int(row["epoch"]) <= self.curve.last_epoch for row in rows)
        self.rows |= {int(row["epoch"]): row for row in rows}
        if repeats:  # they may differ on another machine
            self.curve = TrialCurve.of((self.rows[epoch] for epoch in sorted(self.rows)), self._score)
        else:
            for row in rows:
                self.curve.add(row)
        return new


def numbers(row: EpochRow) -> dict[str, Any]:
    """Return the values that tables and trackers show: all except the mark of a divergence."""
    return {name: value for name, value in row.items() if name != DIVERGED}
