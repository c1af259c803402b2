"""Values that only fall, such as the lowest loss so far, stored as the positions at which they fall."""

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate

Staircase = Sequence[tuple[int, float]]
"""Positions from 1 at which a value falls, in ascending order, each with the new value."""


def falls(values: Iterable[float]) -> list[tuple[int, float]]:
    """Return the positions (from 1) at which the values fall, each with the new value. The first is included."""
    steps: list[tuple[int, float]] = []
    for position, value in enumerate(values, start=1):
        if not steps or value < steps[-1][1]:
            steps.append((position, value))
    return steps


def lowest_finite_so_far(losses: Iterable[float]) -> list[float]:
    """Return the lowest finite loss up to each position, or infinity before the first."""
    return list(accumulate((loss if math.isfinite(loss) else math.inf for loss in losses), min))


def value_at(staircase: Staircase, position: int) -> float:
    """Return the value at `position`, or infinity before the first step."""
    return next((value for at, value in reversed(staircase) if at <= position), math.inf)


def reached(staircase: Staircase, value: float) -> int | None:
    """Return the first position at which the staircase is at or below `value`, or None if there is none."""
    return next((at for at, below in staircase if below <= value), None)
