"""Draw a curve as one line of text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

BLOCKS = "▁▂▃▄▅▆▇█"
"""Characters of a curve, from low to high."""
ASCII_BLOCKS = "_.,-=+*#"
"""The same for terminals without block characters."""
CROSS = "x"
"""Mark of a value that is not finite."""

LOG_FROM = 5.0
"""Ratio of the largest to the smallest value from which a curve is drawn on a log scale."""


@dataclass(frozen=True)
class Sparkline:
    """A curve as letters. Each stands for one value, or for several neighbours."""

    text: str
    log: bool
    """Whether the scale is logarithmic."""
    low: float
    high: float
    """The smallest and the largest finite value; they are the lowest and the highest letter."""


def sparkline(values: Sequence[float], width: int, *, unicode: bool = True) -> Sparkline | None:
    """Draw `values` with at most `width` letters, low values as low letters; None if no value is finite.

    Values that share a letter are averaged. If none of them is finite, the letter is an x.
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
        mean = min(max(mean, low), high)  # the mean of the smallest floats may be 0
        height = math.log(mean) if log else mean
        # Halved: the difference of two huge floats may overflow.
        share = (height / 2 - bottom / 2) / (top / 2 - bottom / 2) if top / 2 > bottom / 2 else 0.0
        return blocks[min(int(share * len(blocks)), len(blocks) - 1)]

    return Sparkline("".join(map(letter, means)), log, low, high)


def _parts(values: Sequence[float], most: int) -> list[Sequence[float]]:
    """Divide `values`, in their order, into at most `most` parts of about the same length."""
    number = min(len(values), most)
    edges = [part * len(values) // number for part in range(number + 1)] if number else [0]
    return [values[start:end] for start, end in pairwise(edges)]


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return sum(value / len(finite) for value in finite) if finite else None
