"""Lay out the values of scores and parameters on an axis on which one extreme value does not hide the rest."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tune_jobs.text import number_text
from tune_jobs.trainers.settings import Mode, cost

DIGITS = 5
"""Significant digits of a number in a figure: more than an eye can tell, at half the size of all digits."""
FEWEST_TO_CLIP = 10
"""Smallest number of values of which extreme ones are clipped; with fewer, all are shown."""
MOST_TICKS = 5
"""Largest number of decades that are named on an axis."""
LOG_FROM = 1.5
"""Decades that positive values must span to be shown on a logarithmic axis."""


@dataclass(frozen=True)
class Scale:
    """An axis of scores."""

    log: bool
    low: float
    high: float
    clipped: int
    """Number of values outside, all of them at the bad end."""

    def good_end(self, mode: Mode) -> float:
        """Return the better one of the two ends."""
        return min(self.low, self.high, key=partial(cost, mode=mode))

    def bad_end(self, mode: Mode) -> float:
        """Return the worse one of the two ends."""
        return max(self.low, self.high, key=partial(cost, mode=mode))

    def axis(self) -> dict[str, Any]:
        """Return the axis as plotly takes it."""
        return value_axis(self.low, self.high, log=self.log)

    def clip(self, value: float) -> float:
        """Return `value`, or the end of the axis that it lies beyond."""
        return min(max(value, self.low), self.high)

    def place(self, value: float) -> float:
        """Return the place of `value` on the axis, as an exponent for figures without a logarithmic axis."""
        return log_place(self.clip(value)) if self.log else self.clip(value)

    def ticks(self) -> dict[str, list[Any]]:
        """Return places and texts of ticks, for figures without a logarithmic axis."""
        return range_ticks(self.low, self.high, log=self.log)


def score_scale(values: Iterable[float], mode: Mode) -> Scale:
    """Return a scale that shows every good value and leaves out the worst ones if they are far off.

    Far off is beyond both the worst quarter and twice the distance from the best value to the median; distances are
    in decades if all values are positive and span many. Values that are not finite count as clipped.

    Args:
        values: Scores; at least one of them is finite.
        mode: Whether low or high is good.
    """
    given = np.asarray(list(values), dtype=float)
    finite = given[np.isfinite(given)]
    log = bool(finite.min() > 0 and math.log10(finite.max()) - math.log10(finite.min()) >= LOG_FROM)
    sign = cost(1.0, mode)
    costs = np.sort(sign * (np.log10(finite) if log else finite))
    best, worst = costs[0], costs[-1]
    if len(costs) >= FEWEST_TO_CLIP:
        middle, most = np.quantile(costs, [0.5, 0.75])
        worst = min(worst, max(most, best + 2 * (middle - best)))
    ends = sorted((sign * float(best), sign * float(worst)))
    low, high = (10.0**end for end in ends) if log else ends
    inside = (finite >= low * (1 - 1e-9 * np.sign(low))) & (finite <= high * (1 + 1e-9 * np.sign(high)))
    return Scale(log and high > low, low, high, len(given) - int(inside.sum()))


def value_axis(low: float, high: float, *, log: bool) -> dict[str, Any]:
    """Return an axis of numbers from `low` to `high`, as plotly takes it, with a margin beyond both ends."""
    if not log:
        air = 0.03 * (high - low) or 0.05 * abs(high) or 0.05
        return {"type": "linear", "range": [low - air, high + air], "nticks": 7}
    first, last = math.log10(low), math.log10(high)
    air = 0.03 * (last - first) or 0.1
    values = decades(low, high)
    return {
        "type": "log",
        "range": [first - air, last + air],
        "tickvals": values,
        "ticktext": [f"{value:g}" for value in values],
    }


def decades(low: float, high: float) -> list[float]:
    """Return round values between two positive ends: 1, 2 and 5 of each decade, or powers of ten if those are many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1.0, 2.0, 5.0) if math.log10(high) - math.log10(low) < 2.5 else (1.0,)
    every = math.ceil((last - first) / MOST_TICKS)
    powers = [power for power in range(first, last + 1) if power % max(every, 1) == 0]
    values = [step * 10.0**power for power in powers for step in steps]
    return [float(f"{value:g}") for value in values if low * 0.999 <= value <= high * 1.001]


def log_place(value: float) -> float:
    """Return the exponent of `value` to base 10."""
    return float(f"{math.log10(value):.{DIGITS}g}")


def range_ticks(low: float, high: float, *, log: bool) -> dict[str, list[Any]]:
    """Return both ends and round values between, as plotly's `tickvals` and `ticktext`; exponents if `log`."""
    if not log:
        places = [low + share * (high - low) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
        return {"tickvals": places, "ticktext": [f"{place:.3g}" for place in places]}
    first, last = math.log10(low), math.log10(high)
    near = 0.12 * (last - first)
    inner = [place for place in map(math.log10, decades(low, high)) if first + near < place < last - near]
    places = [first, *inner, last]
    return {"tickvals": places, "ticktext": [f"{10**place:.3g}" for place in places]}


def axis_title(name: str, *, log: bool) -> str:
    """Return a title such as `val_loss (log scale)`."""
    return f"{name} (log scale)" if log else name


def value_text(value: Any) -> str:
    """Return the text of a parameter's value: `[32, 64]`, `adam`, `null`."""
    return number_text(value) if value is not None else "null"


def round_off(value: float) -> float | None:
    """Return `value` with few digits; None, which plotly leaves out, if it is not finite."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def thin_out(count: int, most: int, kept: Sequence[int] = ()) -> list[int]:
    """Choose about `most` of the places 0 to `count - 1`: the first, the last, `kept`, and others evenly between.

    Args:
        count: Number of places.
        most: Number of places to choose before `kept` is added.
        kept: Places that must be chosen. Those outside the range are left out.
    """
    if count <= most:
        return list(range(count))
    even = np.unique(np.linspace(0, count - 1, max(most, 2)).round().astype(int)).tolist()
    return sorted({*even, *(place for place in kept if 0 <= place < count)})
