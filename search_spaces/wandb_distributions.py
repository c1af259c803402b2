"""The distributions of W&B sweep files, and the nearest domains.

W&B rounds its `q_` distributions as round(X / q) * q. A search here draws uniformly, on a linear or a log scale. So
normal and beta distributions become uniform ones over most of their values.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tune_jobs.problem import Problem
from tune_jobs.search_spaces.domains import Choice, Domain, Float, Int
from tune_jobs.search_spaces.errors import SearchSpaceError, suggestion
from tune_jobs.search_spaces.values import exact, is_number, is_whole, kind, show

Numbers = Mapping[str, Any]
"""The numeric keys of an entry, all finite."""

_WANDB_NAMES = {"low": "min", "high": "max", "step": "q"}


def read_domain(entry: object) -> tuple[Domain, str | None]:
    """Return the domain of one parameter, and a notice if it differs from the file.

    Raises:
        SearchSpaceError: `entry` has problems; the error lists all of them.
    """
    if not isinstance(entry, Mapping):
        given = f"{show(entry)} is {kind(entry)}"
        raise SearchSpaceError(
            [Problem("", f"{given}; a mapping is needed, such as {{value: {show(entry)}}}")]
        )
    name = entry["distribution"] if "distribution" in entry else _infer_name(entry)
    if not isinstance(name, str) or name not in (*_LISTS, *_RANGES):
        valid = f"valid are {_list_text((*_LISTS, *_RANGES))}"
        raise SearchSpaceError([Problem("distribution", f"{show(name)} is not a distribution; {valid}")])
    defaults = _RANGES[name].keys if name in _RANGES else dict.fromkeys(_LISTS[name])
    _check_keys(entry, name, defaults)
    if name in _LISTS:
        return _read_list(entry)
    numbers = {key: entry.get(key, default) for key, default in defaults.items()}
    try:
        return _RANGES[name].convert(numbers)
    except SearchSpaceError as error:
        raise SearchSpaceError(
            Problem(_WANDB_NAMES.get(problem.path, problem.path), problem.message)
            for problem in error.problems
        ) from None


def _infer_name(entry: Mapping[str, Any]) -> str:
    """Return the distribution that W&B uses if the entry names none."""
    if "value" in entry:
        return "constant"
    if "probabilities" in entry:
        return "categorical_w_probabilities"
    if "values" in entry:
        return "categorical"
    if "min" in entry or "max" in entry:
        both = is_whole(entry.get("min")) and is_whole(entry.get("max"))
        return "int_uniform" if both else "uniform"
    message = "there are no values; give value, values, min and max, a distribution, or nested parameters"
    raise SearchSpaceError([Problem("", message)])


def _check_keys(entry: Mapping[str, Any], name: str, defaults: Mapping[str, float | None]) -> None:
    problems = [
        Problem("", f"unknown key '{key}' for {name}; {suggestion(key, (*defaults, 'distribution'))}")
        for key in entry
        if key not in defaults and key != "distribution"
    ]
    for key, default in defaults.items():
        value = entry.get(key, default)
        if key not in entry and default is None:
            problems.append(
                Problem(
                    key, f"missing; {name} needs {_list_text(k for k, d in defaults.items() if d is None)}"
                )
            )
        elif name in _RANGES and not (is_number(value) and -math.inf < value < math.inf):
            problems.append(
                Problem(key, f"{show(value)} is {kind(value)}; a finite number is needed{_with_a_dot(value)}")
            )
        elif key == "q" and value <= 0:
            problems.append(Problem(key, f"q is {show(value)}; it must be above 0"))
        elif key in {"sigma", "a", "b"} and value < 0:
            problems.append(Problem(key, f"{key} is {show(value)}; it must not be below 0"))
    if not problems and {"min", "max"} <= defaults.keys() and entry["min"] == entry["max"]:
        message = f"min and max are both {show(entry['min'])}; for a single value, give value"
        problems.append(Problem("", message))
    if problems:
        raise SearchSpaceError(problems)


def _with_a_dot(value: object) -> str:
    """Return what to write for text such as `1e-4`, which YAML 1.2 reads as a number."""
    try:
        return (
            f". YAML 1.1, which W&B reads, needs a dot: {float(value):.1e}" if isinstance(value, str) else ""
        )
    except ValueError:
        return ""


def _read_list(entry: Mapping[str, Any]) -> tuple[Domain, str | None]:
    if "value" in entry:
        return Choice(values=(entry["value"],)), None
    given, notices = entry["values"], []
    if "probabilities" in entry:
        _check_probabilities(entry["probabilities"], given)
        notices.append("the probabilities were left out; all values are equally likely")
    if isinstance(given, list):
        kept = [value for place, value in enumerate(given) if not _holds(given[:place], value)]
        if len(kept) < len(given):
            notices.append("values that are there twice were left out")
        given = kept
    return Choice(values=given), "; ".join(notices) or None


def _holds(values: list[Any], value: Any) -> bool:
    return any(type(one) is type(value) and one == value for one in values)


def _check_probabilities(given: object, values: object) -> None:
    numbers = given if isinstance(given, list) and all(map(is_number, given)) else None
    if numbers is None or not isinstance(values, list) or len(numbers) != len(values):
        message = f"given {show(given)}; valid: a list with a number for each value"
    elif min(numbers, default=0) < 0 or not math.isclose(math.fsum(numbers), 1, abs_tol=1e-6):
        message = f"given {show(given)}; valid: numbers of 0 or more whose sum is 1"
    else:
        return
    raise SearchSpaceError([Problem("probabilities", message)])


def _int_uniform(given: Numbers) -> tuple[Domain, str | None]:
    return Int(low=given["min"], high=given["max"]), None


def _uniform(given: Numbers) -> tuple[Domain, str | None]:
    return Float(low=given["min"], high=given["max"]), None


def _log_uniform_values(given: Numbers) -> tuple[Domain, str | None]:
    return Float(low=given["min"], high=given["max"], log=True), None


def _log_uniform(given: Numbers) -> tuple[Domain, str | None]:
    domain = Float(low=_exp("min", given["min"]), high=_exp("max", given["max"]), log=True)
    return (
        domain,
        f"min and max were read as exponents of e: {domain.describe()}; for values, use log_uniform_values",
    )


def _inv_log_uniform(given: Numbers) -> tuple[Domain, str | None]:
    # log(1/X) is uniform on [min, max], hence log(X) on [-max, -min].
    domain = Float(low=_exp("max", -given["max"]), high=_exp("min", -given["min"]), log=True)
    return domain, f"min and max were read as exponents of 1/e: {domain.describe()}"


def _q_uniform(given: Numbers) -> tuple[Domain, str | None]:
    domain = _multiples(given["min"], given["max"], given["q"])
    return (
        domain,
        f"q_uniform became the multiples of q nearest to min and max, and between, equally likely: "
        f"{domain.describe()}",
    )


def _q_log_uniform_values(given: Numbers) -> tuple[Domain, str | None]:
    return _log_without_q("q_log_uniform_values", given["min"], given["max"], given["q"])


def _q_log_uniform(given: Numbers) -> tuple[Domain, str | None]:
    low, high = _exp("min", given["min"]), _exp("max", given["max"])
    return _log_without_q("q_log_uniform, of exponents of e,", low, high, given["q"])


def _normal(given: Numbers) -> tuple[Domain, str | None]:
    low, high = _central(given)
    domain = Float(low=low, high=high)
    return domain, f"normal became uniform within two sigma of mu: {domain.describe()}"


def _q_normal(given: Numbers) -> tuple[Domain, str | None]:
    domain = _multiples(*_central(given), given["q"])
    return (
        domain,
        f"q_normal became the multiples of q around two sigma of mu, equally likely: {domain.describe()}",
    )


def _log_normal(given: Numbers) -> tuple[Domain, str | None]:
    low, high = _central(given)
    domain = Float(low=_exp("mu", low), high=_exp("mu", high), log=True)
    return domain, f"log_normal became log-uniform within two sigma of mu: {domain.describe()}"


def _q_log_normal(given: Numbers) -> tuple[Domain, str | None]:
    low, high = _central(given)
    return _log_without_q(
        "q_log_normal, within two sigma of mu,", _exp("mu", low), _exp("mu", high), given["q"]
    )


def _beta(_: Numbers) -> tuple[Domain, str | None]:
    domain = Float(low=0.0, high=1.0)
    return domain, f"beta became uniform; a and b were left out: {domain.describe()}"


def _q_beta(given: Numbers) -> tuple[Domain, str | None]:
    domain = _multiples(0, 1, given["q"])
    return domain, f"q_beta became the multiples of q from 0 to 1, equally likely: {domain.describe()}"


def _multiples(low: float, high: float, q: float) -> Domain:
    """Return the multiples of `q` to which W&B rounds `low` to `high`: whole numbers if `q` is whole."""
    if low > high:
        raise SearchSpaceError([Problem("min", f"min is {show(low)}, above max, which is {show(high)}")])
    first, last = round(exact(low) / exact(q)), round(exact(high) / exact(q))
    if is_whole(q):
        return Int(low=first * q, high=last * q, step=q)
    return Float(low=float(first * exact(q)), high=float(last * exact(q)), step=q)


def _log_without_q(was: str, low: float, high: float, q: float) -> tuple[Domain, str]:
    """Return a log scale, which cannot have steps: whole numbers if `q` is whole, else real numbers."""
    domain: Domain = Float(low=low, high=high, log=True)
    if is_whole(q):
        domain = Int(low=max(1, round(low)), high=max(1, round(high)), log=True)
    lost = "" if is_whole(q) and q == 1 else f"; q = {show(q)} was left out"
    return domain, f"{was} became {domain.describe()}{lost}"


def _central(given: Numbers) -> tuple[float, float]:
    """Return the range that holds about 95 % of a normal distribution."""
    low, high = given["mu"] - 2 * given["sigma"], given["mu"] + 2 * given["sigma"]
    if not (math.isfinite(low) and math.isfinite(high)):
        raise SearchSpaceError(
            [Problem("sigma", f"mu = {given['mu']} and sigma = {given['sigma']} are too large")]
        )
    return low, high


def _exp(key: str, exponent: float) -> float:
    try:
        return math.exp(exponent)
    except OverflowError:
        message = f"e to the power {show(exponent)} is too large for a number; to give values, use log_uniform_values"
        raise SearchSpaceError([Problem(key, message)]) from None


def _list_text(names: Iterable[object]) -> str:
    return ", ".join(map(str, names))


@dataclass(frozen=True, slots=True)
class _Range:
    """The keys of a numeric distribution with their defaults (None: required), and its conversion."""

    keys: Mapping[str, float | None]
    convert: Callable[[Numbers], tuple[Domain, str | None]]


_BOUNDS: Mapping[str, float | None] = {"min": None, "max": None}
_MOMENTS: Mapping[str, float | None] = {"mu": 0.0, "sigma": 1.0}
_SHAPE: Mapping[str, float | None] = {"a": 1.0, "b": 1.0}
_Q: Mapping[str, float | None] = {"q": 1}

_LISTS: Mapping[str, tuple[str, ...]] = {
    "constant": ("value",),
    "categorical": ("values",),
    "categorical_w_probabilities": ("values", "probabilities"),
}
_RANGES: Mapping[str, _Range] = {
    "int_uniform": _Range(_BOUNDS, _int_uniform),
    "uniform": _Range(_BOUNDS, _uniform),
    "q_uniform": _Range({**_BOUNDS, **_Q}, _q_uniform),
    "log_uniform_values": _Range(_BOUNDS, _log_uniform_values),
    "log_uniform": _Range(_BOUNDS, _log_uniform),
    "q_log_uniform_values": _Range({**_BOUNDS, **_Q}, _q_log_uniform_values),
    "q_log_uniform": _Range({**_BOUNDS, **_Q}, _q_log_uniform),
    # Defined by log(1/X), between log(1/max) and log(1/min): the same as log_uniform_values.
    "inv_log_uniform_values": _Range(_BOUNDS, _log_uniform_values),
    "inv_log_uniform": _Range(_BOUNDS, _inv_log_uniform),
    "normal": _Range(_MOMENTS, _normal),
    "q_normal": _Range({**_MOMENTS, **_Q}, _q_normal),
    "log_normal": _Range(_MOMENTS, _log_normal),
    "q_log_normal": _Range({**_MOMENTS, **_Q}, _q_log_normal),
    "beta": _Range(_SHAPE, _beta),
    "q_beta": _Range({**_SHAPE, **_Q}, _q_beta),
}
