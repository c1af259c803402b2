"""Measures of a replayed search: regret after each step, test loss of the selected configuration, and their means."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import NamedTuple, Self

import numpy as np

from benchmarks.staircases import lowest_finite_so_far
from tests.simulation.curve_tables import Array, BadCurves, Table
from tests.simulation.replay import Step


class Estimate(NamedTuple):
    """A mean and its standard error (NaN for a single seed)."""

    mean: float
    error: float


@dataclass(frozen=True)
class Scale:
    """The scale of a table's losses: 0 is the best configuration, 1 the median one.

    A configuration is as good as its lowest validation loss before it diverges. Its test loss is the one
    after the same step.
    """

    best: float
    median: float
    worst: float
    """The highest loss among configurations with a finite one: the loss of a search that has seen none yet."""
    best_test: float
    median_test: float

    @classmethod
    def of(cls, table: Table) -> Self:
        """Return the scale of `table`.

        Raises:
            BadCurves: The table does not distinguish its configurations.
        """
        valid = reachable(table.valid)
        lowest = valid.min(axis=1)
        test = table.test[np.arange(len(valid)), valid.argmin(axis=1)]
        best, median = float(lowest.min()), float(np.median(lowest))
        if not math.isfinite(median):
            raise BadCurves(
                f"{table.name}: half of the configurations or more have no finite validation loss, "
                "so regret has no scale"
            )
        if median <= best:
            raise BadCurves(
                f"{table.name}: half of the configurations or more are as good as the best, "
                "so regret has no scale"
            )
        return cls(
            best=best,
            median=median,
            worst=float(lowest[np.isfinite(lowest)].max()),
            best_test=float(test[lowest.argmin()]),
            median_test=float(np.median(test[np.isfinite(lowest) & np.isfinite(test)])),
        )

    def regret(self, losses: Array) -> Array:
        """Return the regret of the lowest validation losses so far. A loss above the worst counts as the worst."""
        return (np.minimum(losses, self.worst) - self.best) / (self.median - self.best)

    def test_regret(self, loss: float) -> float:
        """Return the regret of a test loss. 0 is the test loss of the best configuration by validation."""
        return (loss - self.best_test) / (self.median_test - self.best_test)


def reachable(losses: Array) -> Array:
    """Return `losses` [configurations, steps] with infinity from the first loss on that is not finite."""
    diverged = np.logical_or.accumulate(~np.isfinite(losses), axis=1)
    return np.where(diverged, np.inf, losses)


def lowest_so_far(steps: Sequence[Step], budget: int) -> Array:
    """Return the lowest finite loss after 1, 2, … `budget` steps of all trials together; infinity before the first.

    A search that ended before its budget keeps its last value.
    """
    losses = chain((step.loss for step in steps), repeat(math.inf))
    return np.array(lowest_finite_so_far(islice(losses, budget)))


def selected(steps: Sequence[Step]) -> Step | None:
    """Return the step with the lowest finite validation loss, the first of equals, or None if none is finite."""
    finite = [step for step in steps if math.isfinite(step.loss)]
    return min(finite, key=lambda step: step.loss, default=None)


def estimate(values: Mapping[str, Sequence[float]]) -> Estimate:
    """Return the mean over tasks of the mean over seeds. `values` has one number per seed, by task.

    Tasks are fixed and seeds are random: the error is the variation over seeds on the same tasks. It says nothing
    about other tasks.
    """
    means = [statistics.fmean(of_seeds) for of_seeds in values.values()]
    variances = [
        statistics.variance(of_seeds) / len(of_seeds) if len(of_seeds) > 1 else math.nan
        for of_seeds in values.values()
    ]
    return Estimate(statistics.fmean(means), math.sqrt(math.fsum(variances)) / len(means))


def difference(values: Mapping[str, Sequence[float]], baseline: Mapping[str, Sequence[float]]) -> Estimate:
    """Return the estimate of `values` less `baseline`, seed by seed: both have the same tasks and seeds."""
    return estimate(
        {
            task: [a - b for a, b in zip(of_seeds, baseline[task], strict=True)]
            for task, of_seeds in values.items()
        }
    )
