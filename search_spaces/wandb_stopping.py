"""The early stopping of W&B sweep files, `early_terminate`, as rungs.

W&B's Hyperband (Li et al. 2018) stops a run at a rung if it is not among the best `1 / eta` of those that came there.
Rungs are `min_iter * eta ** k` calls of `wandb.log`, or `max_iter / eta ** k` for k from 1 to `s`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tune_jobs.problem import Problem
from tune_jobs.search_spaces.errors import suggestion
from tune_jobs.search_spaces.values import is_number, is_whole, kind, show

_KEYS = ("type", "min_iter", "max_iter", "s", "eta", "strict")
_ETA = 3


@dataclass(frozen=True, slots=True)
class Stopping:
    """Rungs `first * factor ** k`, at each of which one trial in `factor` continues."""

    first: int
    factor: int


def read_stopping(given: object, problems: list[Problem], notices: list[str]) -> Stopping | None:
    """Return the rungs of the section `early_terminate`; None if it stops no run. Add what is wrong or lost."""
    if given is None:
        return None
    wrong = len(problems)
    if not isinstance(given, Mapping):
        found = (
            f"{show(given)} is {kind(given)}; a mapping is needed, such as {{type: hyperband, min_iter: 3}}"
        )
        problems.append(Problem("early_terminate", found))
        return None
    if given.get("type") != "hyperband":
        fault = f"{show(given['type'])} is no type" if "type" in given else "missing"
        problems.append(Problem("early_terminate.type", f"{fault}; valid is hyperband"))
    for key, value in given.items():
        here = f"early_terminate.{key}"
        if key not in _KEYS:
            problems.append(Problem("early_terminate", f"unknown key '{key}'; {suggestion(key, _KEYS)}"))
        elif key in {"min_iter", "max_iter", "s"} and not (is_whole(value) and value > 0):
            problems.append(Problem(here, f"{show(value)} ({kind(value)}) is not a whole number above 0"))
        elif key == "eta" and not (is_number(value) and 1 < value < 1e6):
            problems.append(Problem(here, f"{show(value)} is not a number above 1"))
    if "min_iter" not in given and "max_iter" not in given:
        problems.append(Problem("early_terminate", "needs min_iter, or max_iter and s"))
    if len(problems) > wrong:
        return None
    if "strict" in given:
        notices.append("early_terminate.strict was left out: it has no equal here")
    return _rungs(given, notices)


def _rungs(given: Mapping[str, float], notices: list[str]) -> Stopping | None:
    eta = given.get("eta", _ETA)
    if "max_iter" not in given:
        bands = [int(given["min_iter"] * eta**k) for k in range(3)]
        text = f"{_listed(bands)}, …"
    else:
        levels = range(1, int(given.get("s", 0)) + 1)
        bands = sorted(int(band) for k in levels if (band := given["max_iter"] / eta**k) >= 1)
        text = f"{_listed(bands)} of {given['max_iter']:g}"
    if not bands:
        notices.append("early_terminate was left out: without s, or with a small max_iter, it stops no run")
        return None
    stopping = Stopping(bands[0], max(2, round(eta)))
    ours = _listed([stopping.first * stopping.factor**k for k in range(3)])
    notices.append(
        f"early_terminate: W&B compares runs after {text} calls of wandb.log; here trials are compared after "
        f"{ours}, … epochs, up to training.max_epochs"
    )
    return stopping


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
