"""A curve in one line of text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.,-=+*#"
CROSS = "x"

LOG_FROM = 5.0
"""A curve whose largest value is so many times its smallest is drawn on a log scale."""


@dataclass(frozen=True)
class Sparkline:
    """A curve as letters, one for each value, or for several that follow each other."""

    text: str
    log: bool
    """Whether the heights are those of logarithms."""
    low: float
    high: float
    """The smallest and the largest finite value; they are the lowest and the highest letter."""


def sparkline(values: Sequence[float], width: int, *, unicode: bool = True) -> Sparkline | None:
    """`values` as at most `width` letters, low values as low ones; None where no value is finite.

    Values that share a letter are averaged; where none of them is finite, it is an x.
    """
    means = [_mean(part) for part in _parts(values, max(width, 1))]
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return None
    low, high = min(finite), max(finite)
    log = low > 0 and high / low >= LOG_FROM
    blocks = BLOCKS if unicode else ASCII_BLOCKS
    bottom, top = (math.log(low), math.log(high)) if log else (low, high)

    def letter(mean: float | None) -> str:
        if mean is None:
            return CROSS
        mean = min(max(mean, low), high)  # a mean of the smallest numbers there are may be 0
        height = math.log(mean) if log else mean
        # Halved, since the difference of two huge numbers may be no number.
        share = (height / 2 - bottom / 2) / (top / 2 - bottom / 2) if top / 2 > bottom / 2 else 0.0
        return blocks[min(int(share * len(blocks)), len(blocks) - 1)]

    return Sparkline("".join(map(letter, means)), log, low, high)


def _parts(values: Sequence[float], most: int) -> list[Sequence[float]]:
    """`values` in order, in at most `most` parts of about the same length."""
    number = min(len(values), most)
    edges = [part * len(values) // number for part in range(number + 1)] if number else [0]
    return [values[start:end] for start, end in pairwise(edges)]


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return sum(value / len(finite) for value in finite) if finite else None
