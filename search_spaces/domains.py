"""The values that one parameter can take.

`Float` and `Int` are ranges that include both bounds; `Choice` is a list of values. All are frozen, and checked when
they are created. If a domain is a finite grid, its points have numbers from 0 to `size() - 1`.
"""

import copy
import math
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tune_jobs.problem import Problem
from tune_jobs.search_spaces.errors import SearchSpaceError
from tune_jobs.search_spaces.values import canonical, exact, is_number, is_whole, kind, plain, show

_INT64 = 2**63


@dataclass(frozen=True, kw_only=True, slots=True)
class Float:
    """Real numbers from `low` to `high`, both included; whole numbers count as real numbers.

    Raises:
        SearchSpaceError: A bound or step is not a finite number, `low` is above `high`, or `log` does not fit the
            rest.
    """

    low: float
    high: float
    log: bool = False
    """Draw uniformly on the logarithm; this needs `low` > 0."""
    step: float | None = None
    """Take only `low`, `low + step`, … up to `high`; this excludes `log`."""

    def __post_init__(self) -> None:
        numbers = {"low": self.low, "high": self.high}
        if self.step is not None:
            numbers["step"] = self.step
        problems = [problem for name, value in numbers.items() for problem in _not_finite(name, value)]
        problems += _not_truth("log", self.log)
        if problems:
            raise SearchSpaceError(problems)
        for name, value in numbers.items():
            object.__setattr__(self, name, float(value) + 0.0)  # -0.0 becomes 0.0: one value, one fingerprint
        problems = _wrong_range(self.low, self.high, log=self.log)
        if self.step is not None:
            problems += self._wrong_step(self.step)
        if problems:
            raise SearchSpaceError(problems)

    def _wrong_step(self, step: float) -> list[Problem]:
        if self.log:
            return [Problem("step", f"step {show(step)} excludes log: remove one of them")]
        if step <= 0:
            return [Problem("step", f"step is {show(step)}; it must be above 0")]
        if step < 2 * math.ulp(max(abs(self.low), abs(self.high))):
            return [
                Problem("step", f"step {show(step)} is lost in rounding between {self.low} and {self.high}")
            ]
        return []

    def contains(self, value: object) -> bool:
        """Return whether `value` is a number of this domain; rounding errors on a step grid are tolerated."""
        if not is_number(value):
            return False
        if self.step is None:
            return self.low <= value <= self.high
        return -math.inf < value < math.inf and self._index(value) is not None

    def sample(self, rng: Random) -> float:
        """Draw a value: uniform, log-uniform with `log`, or a point of the grid with `step`."""
        if self.step is not None:
            return self.at(rng.randrange(self._steps()))
        share = rng.random()
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            # Rounding must not exceed the bound: beyond the largest double there is only infinity.
            value = math.exp(min((1 - share) * low + share * high, high))
        else:
            value = (1 - share) * self.low + share * self.high
        return min(max(value, self.low), self.high)

    def size(self) -> int | None:
        """Return the number of values; None for a continuous range."""
        if self.step is not None:
            return self._steps()
        return 1 if self.low == self.high else None

    def at(self, index: int) -> float:
        """Return point number `index` of the grid: the exact decimal sum, rounded once."""
        return float(exact(self.low) + index * exact(self.step or 0.0))

    def grid(self) -> tuple[float, ...] | None:
        """Return all values in ascending order; None for a continuous range."""
        size = self.size()
        return None if size is None else tuple(self.at(index) for index in range(size))

    def key(self, value: Any) -> str:
        """Return a text that two values share only if they are the same value, such as 0 and 0.0."""
        index = None if self.step is None else self._index(value)
        return canonical(float(value) + 0.0 if index is None else self.at(index))

    def describe(self) -> str:
        """Return the domain in words: `0.0001 to 1.0, log scale`."""
        step = "" if self.step is None else f" in steps of {show(self.step)}"
        return f"{show(self.low)} to {show(self.high)}{step}{', log scale' if self.log else ''}"

    def to_mapping(self) -> dict[str, Any]:
        """Return the entry of a job file that describes this domain."""
        step = {} if self.step is None else {"step": self.step}
        return {"low": self.low, "high": self.high, **({"log": True} if self.log else {}), **step}

    def _steps(self) -> int:
        return int((exact(self.high) - exact(self.low)) // exact(self.step or 1.0)) + 1

    def _index(self, value: float) -> int | None:
        step = self.step or 1.0
        index = round((exact(value) - exact(self.low)) / exact(step))
        on_grid = (
            0 <= index < self._steps() and abs(exact(value) - exact(self.at(index))) <= exact(step) / 10**9
        )
        return index if on_grid else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Int:
    """Whole numbers from `low` to `high`, both included.

    Raises:
        SearchSpaceError: A bound or step is not a whole number of 64 bits, `low` is above `high`, or `log` does not
            fit the rest.
    """

    low: int
    high: int
    log: bool = False
    """Draw uniformly on the logarithm; this needs `low` > 0."""
    step: int = 1
    """Take only `low`, `low + step`, … up to `high`; must be 1 with `log`."""

    def __post_init__(self) -> None:
        numbers = {"low": self.low, "high": self.high, "step": self.step}
        problems = [problem for name, value in numbers.items() for problem in _not_whole(name, value)]
        problems += _not_truth("log", self.log)
        if not problems:
            problems = _wrong_range(self.low, self.high, log=self.log)
            if self.step <= 0:
                problems.append(Problem("step", f"step is {self.step}; it must be above 0"))
            elif self.log and self.step != 1:
                problems.append(Problem("step", f"step {self.step} excludes log: remove one of them"))
        if problems:
            raise SearchSpaceError(problems)

    def contains(self, value: object) -> bool:
        """Return whether `value` is a whole number of this domain; 2.0 and True are not."""
        return is_whole(value) and self.low <= value <= self.high and (value - self.low) % self.step == 0

    def sample(self, rng: Random) -> int:
        """Draw a value uniformly or, with `log`, with a logarithm that is uniform before rounding."""
        if not self.log:
            return self.at(rng.randrange(self.size()))
        # Half a unit beyond the bounds: otherwise the end points are drawn half as often as they should be.
        value = round(math.exp(rng.uniform(math.log(self.low - 0.5), math.log(self.high + 0.5))))
        return min(max(value, self.low), self.high)

    def size(self) -> int:
        """Return the number of values."""
        return (self.high - self.low) // self.step + 1

    def at(self, index: int) -> int:
        """Return point number `index` of the grid."""
        return self.low + index * self.step

    def grid(self) -> tuple[int, ...]:
        """Return all values in ascending order. There may be many: check `size` first."""
        return tuple(range(self.low, self.high + 1, self.step))

    def key(self, value: Any) -> str:
        """Return a text that two values share only if they are the same value."""
        return canonical(value)

    def describe(self) -> str:
        """Return the domain in words: `1 to 9 in steps of 2, whole numbers`."""
        step = "" if self.step == 1 else f" in steps of {self.step}"
        return f"{self.low} to {self.high}{step}, whole numbers{', log scale' if self.log else ''}"

    def to_mapping(self) -> dict[str, Any]:
        """Return the entry of a job file that describes this domain."""
        step = {} if self.step == 1 else {"step": self.step}
        return {"low": self.low, "high": self.high, **({"log": True} if self.log else {}), **step}


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A list of values of any types that JSON can write; 1, 1.0 and true are three values.

    Values are copied on the way in, and on the way out of `sample`, `at` and `grid`: callers may change them.

    Raises:
        SearchSpaceError: The list is empty, a value is given twice, or a value is not a JSON value.
    """

    values: tuple[Any, ...] = field(compare=False)
    _keys: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.values, list | tuple):
            given = f"{show(self.values)} is {kind(self.values)}"
            raise SearchSpaceError([Problem("values", f"{given}; a list is needed, such as [16, 32, 64]")])
        if not self.values:
            raise SearchSpaceError([Problem("values", "the list is empty; at least one value is needed")])
        copies, keys, problems = [], [], []
        for value in self.values:
            try:
                copies.append(plain(value))
                keys.append(canonical(value))
            except TypeError as error:
                problems.append(Problem("values", str(error)))
        repeated = [show(copies[i]) for i, key in enumerate(keys) if keys.index(key) < i]
        problems += [
            Problem("values", f"{value} is given twice; remove one") for value in dict.fromkeys(repeated)
        ]
        if problems:
            raise SearchSpaceError(problems)
        object.__setattr__(self, "values", tuple(copies))
        object.__setattr__(self, "_keys", tuple(keys))

    def contains(self, value: object) -> bool:
        """Return whether `value` is one of the values, with the same type."""
        try:
            return canonical(value) in self._keys
        except TypeError:
            return False

    def sample(self, rng: Random) -> Any:
        """Draw one of the values, all equally likely."""
        return self.at(rng.randrange(len(self.values)))

    def size(self) -> int:
        """Return the number of values."""
        return len(self.values)

    def at(self, index: int) -> Any:
        """Return a copy of value number `index`."""
        return copy.deepcopy(self.values[index])

    def grid(self) -> tuple[Any, ...]:
        """Return all values in the given order."""
        return copy.deepcopy(self.values)

    def key(self, value: Any) -> str:
        """Return a text that two values share only if they are the same value."""
        return canonical(value)

    def describe(self) -> str:
        """Return the domain in words: `16, 32, 64`."""
        return ", ".join(map(show, self.values))

    def to_mapping(self) -> dict[str, Any]:
        """Return the entry of a job file that describes this domain."""
        return {"values": list(self.grid())}


Domain = Float | Int | Choice


def _not_finite(name: str, value: object) -> list[Problem]:
    if not is_number(value):
        return [Problem(name, f"{show(value)} is {kind(value)}; a number is needed")]
    try:
        finite = math.isfinite(value)
    except OverflowError:
        finite = False
    return [] if finite else [Problem(name, f"{show(value)} is not a finite number")]


def _not_whole(name: str, value: object) -> list[Problem]:
    if not is_whole(value):
        return [Problem(name, f"{show(value)} is {kind(value)}; a whole number is needed")]
    if not -_INT64 <= value < _INT64:
        return [Problem(name, f"{value} does not fit in 64 bits; whole numbers go from -2^63 to 2^63 - 1")]
    return []


def _not_truth(name: str, value: object) -> list[Problem]:
    if isinstance(value, bool):
        return []
    return [Problem(name, f"{show(value)} is {kind(value)}; true or false is needed")]


def _wrong_range(low: float, high: float, *, log: bool) -> list[Problem]:
    problems = []
    if low > high:
        problems.append(Problem("low", f"low is {show(low)}, above high, which is {show(high)}"))
    if log and low <= 0:
        problems.append(Problem("low", f"low is {show(low)}; a log scale needs it above 0"))
    return problems
