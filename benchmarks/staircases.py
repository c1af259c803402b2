"""Values that only ever fall, such as the lowest loss so far, kept as the positions at which they do."""

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate

Staircase = Sequence[tuple[int, float]]
"""Positions from 1 at which a value falls, ascending, and what it is from there on."""


def falls(values: Iterable[float]) -> list[tuple[int, float]]:
    """Where falling values step down: positions from 1 and the values from there on, the first included."""
    steps: list[tuple[int, float]] = []
    for position, value in enumerate(values, start=1):
        if not steps or value < steps[-1][1]:
            steps.append((position, value))
    return steps


def lowest_finite_so_far(losses: Iterable[float]) -> list[float]:
    """The lowest finite loss up to each; infinite before the first."""
    return list(accumulate((loss if math.isfinite(loss) else math.inf for loss in losses), min))


def value_at(staircase: Staircase, position: int) -> float:
    """What the staircase is at `position`; infinite in front of its first step."""
    return next((value for at, value in reversed(staircase) if at <= position), math.inf)


def reached(staircase: Staircase, value: float) -> int | None:
    """The first position at which the staircase is at or below `value`; None where it never is."""
    return next((at for at, below in staircase if below <= value), None)
