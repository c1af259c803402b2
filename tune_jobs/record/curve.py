"""How far a trial has come: the one place that says it, from the rows of the trial's epochs."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Self

from tune_jobs.trainers.interface import DIVERGED
from tune_jobs.trainers.scores import BestEpoch, better
from tune_jobs.trainers.settings import ScoreSettings

EpochRow = Mapping[str, Any]
"""An epoch's values by name, as `EpochResult.to_mapping` gives them."""


class TrialCurve:
    """The best epoch so far, the last one, and whether the trial has diverged; `add` takes the epochs in order.

    An epoch counts once. A trial that lost its worker repeats epochs; the repeats change nothing. After an epoch in
    which the training diverged, nothing counts.

    Args:
        score: Which number judges an epoch.
    """

    def __init__(self, score: ScoreSettings) -> None:
        self.best: BestEpoch | None = None
        """The epoch with the best finite score; the first one of equals."""
        self.last_epoch = 0
        """0 before the first epoch."""
        self.diverged = False
        """The training said so in its last epoch."""
        self._score = score

    @classmethod
    def of(cls, rows: Iterable[EpochRow], score: ScoreSettings) -> Self:
        """Return the curve of a trial with these epochs."""
        curve = cls(score)
        for row in rows:
            curve.add(row)
        return curve

    def add(self, row: EpochRow) -> bool:
        """Take an epoch into account; returns False if it does not count."""
        epoch = int(row["epoch"])
        if self.diverged or epoch <= self.last_epoch:
            return False
        self.last_epoch = epoch
        self.best = better(self.best, row, self._score)
        self.diverged = bool(row.get(DIVERGED, False))
        return True

    @property
    def best_cost(self) -> float | None:
        """The best score so far, turned so that lower is better; None without a finite score."""
        return None if self.best is None else self._score.cost(self.best.score)

    @property
    def rung_score(self) -> float:
        """The trial's entry at a rung that it reaches now: its best cost, infinite if it diverged or has none."""
        cost = self.best_cost
        return math.inf if cost is None or self.diverged else cost


def numbers(row: EpochRow) -> dict[str, Any]:
    """The values of an epoch as tables and trackers show them: all but the mark of a divergence."""
    return {name: value for name, value in row.items() if name != DIVERGED}
