"""Decide which epoch is the best: one rule for trainings, trials and runs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tune_jobs.trainers.errors import MetricMissing
from tune_jobs.trainers.interface import RESERVED_COLUMNS
from tune_jobs.trainers.settings import ScoreSettings


@dataclass(frozen=True)
class BestEpoch:
    """The epoch that gives a training its score."""

    epoch: int
    score: float


def better(best: BestEpoch | None, result: Mapping[str, Any], score: ScoreSettings) -> BestEpoch | None:
    """Return `best`, or the epoch of `result` if it is better.

    Of equal epochs the first stays. NaN and infinities are never best.

    Args:
        best: The best epoch before; None if no epoch had a finite value.
        result: An epoch's values by name, `epoch` among them.
        score: The metric, and whether low or high is good.

    Raises:
        MetricMissing: `result` has no value of the metric.
    """
    if score.metric not in result:
        measured = ", ".join(sorted(result.keys() - RESERVED_COLUMNS)) or "nothing"
        raise MetricMissing(
            f"selection.metric: given {score.metric!r}, but the training measures {measured}; name one of these, or "
            f"let the training report {score.metric!r} in every epoch"
        )
    value = result[score.metric]
    if value is None or not math.isfinite(value):
        return best
    if best is None or score.cost(value) < score.cost(best.score):
        return BestEpoch(int(result["epoch"]), float(value))
    return best
