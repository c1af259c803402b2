"""Read the `search.space` section of a job file into a search space.

Forms of an entry, each with an optional `when`:

    lr: {low: 1.0e-4, high: 1.0, log: true}                     # a range of real numbers
    layers: {low: 1, high: 4}                                   # whole numbers, as both bounds; or `type: float`
    dropout: {low: 0.0, high: 0.5, step: 0.1}                   # 0.0, 0.1, … 0.5
    batch_size: {values: [16, 32, 64]}
    momentum: {low: 0.0, high: 0.99, when: {optimizer: sgd}}    # or [sgd, rmsprop]
    nesterov: true                                              # a constant; so is a list

Write a constant that is a mapping as `{values: [{…}]}`.
"""

from collections.abc import Mapping
from typing import Any

from tune_jobs.problem import Problem
from tune_jobs.search_spaces.domains import Choice, Domain, Float, Int
from tune_jobs.search_spaces.errors import SearchSpaceError, suggestion
from tune_jobs.search_spaces.space import Conditions, Parameter, SearchSpace, space_problems
from tune_jobs.search_spaces.values import is_number, is_whole, kind, show

_RANGE_KEYS = ("low", "high", "log", "step", "type")
_KEYS = (*_RANGE_KEYS, "values", "when")
_OTHER_WORDS = {
    "min": "low",
    "max": "high",
    "lower": "low",
    "upper": "high",
    "q": "step",
    "value": "values",
    "choices": "values",
}


def parse_space(mapping: Mapping[str, Any]) -> SearchSpace:
    """Return the search space that `mapping`, as read from a file, describes.

    In `when`, a list holds alternatives. Write a value that is itself a list inside a list: `[[32]]`.

    Raises:
        SearchSpaceError: Entries have problems; the error lists all of them.
    """
    if not isinstance(mapping, Mapping):
        given = f"{show(mapping)} is {kind(mapping)}"
        raise SearchSpaceError([Problem("", f"{given}; a mapping of names to entries is needed")])
    domains: dict[str, Domain | None] = {}
    conditions: dict[str, Conditions] = {}
    problems: list[Problem] = []
    for name, entry in mapping.items():
        domains[name] = None
        try:
            domains[name] = _parse_domain(entry)
        except SearchSpaceError as error:
            problems += [problem.under(str(name)) for problem in error.problems]
        try:
            conditions[name] = _parse_when(entry)
        except SearchSpaceError as error:
            problems += [problem.under(str(name)) for problem in error.problems]
    problems += space_problems(domains, conditions)
    if problems:
        raise SearchSpaceError(problems)
    return SearchSpace(
        {name: Parameter(domain, conditions[name]) for name, domain in domains.items() if domain is not None}
    )


def _parse_domain(entry: object) -> Domain:
    if not isinstance(entry, Mapping):
        try:
            return Choice(values=(entry,))
        except SearchSpaceError as error:  # without the path `values`, which the user did not write
            raise SearchSpaceError(Problem("", problem.message) for problem in error.problems) from None
    problems = _wrong_keys(entry)
    if entry.keys() & {"values", "low", "high"}:
        try:
            domain = _build_domain(entry)
        except SearchSpaceError as error:
            problems += [problem for problem in error.problems if problem.path in entry]
    if problems:
        raise SearchSpaceError(problems)
    return domain


def _build_domain(entry: Mapping[str, Any]) -> Domain:
    """Build the domain from the given keys; a missing bound takes the value of the other one."""
    if "values" in entry:
        return Choice(values=entry["values"])
    low, high = entry.get("low", entry.get("high")), entry.get("high", entry.get("low"))
    log, step = entry.get("log", False), entry.get("step")
    if _is_int_range(entry):
        return Int(low=_whole(low), high=_whole(high), log=log, step=1 if step is None else _whole(step))
    return Float(low=low, high=high, log=log, step=step)


def _wrong_keys(entry: Mapping[Any, Any]) -> list[Problem]:
    """Return the problems of keys that are unknown, missing or in conflict, and of a wrong `type`."""
    problems = []
    meant = set()
    for key in entry:
        if key not in _KEYS:
            hint = suggestion(key, _KEYS)
            if key in _OTHER_WORDS:
                hint = f"did you mean '{_OTHER_WORDS[key]}'?"
            problems.append(Problem("", f"unknown key '{key}'; {hint}"))
            meant |= {valid for valid in _KEYS if f"'{valid}'" in hint}
    ranged = [key for key in _RANGE_KEYS if key in entry]
    if "values" in entry:
        if ranged:
            together = f"values cannot go together with {', '.join(ranged)}"
            problems.append(Problem("", f"{together}; keep either the list or the range"))
    elif not ranged and not meant:
        problems.append(Problem("", "there are no values; give low and high, or values: [...]"))
    elif "values" not in meant:
        problems += [
            Problem(key, f"missing; a range needs both low and high, but only {', '.join(ranged)} is given")
            for key in ("low", "high")
            if key not in entry and key not in meant
        ]
    if entry.get("type", "int") not in ("int", "float"):
        problems.append(Problem("type", f"{show(entry['type'])} is not a type; valid are int, float"))
    return problems


def _is_int_range(entry: Mapping[str, Any]) -> bool:
    if "type" in entry:
        return bool(entry["type"] == "int")
    return all(is_whole(entry[key]) for key in ("low", "high", "step") if entry.get(key) is not None)


def _whole(value: Any) -> Any:
    """Return an integral float as an int, because YAML and JSON write 1e3 for both; other values unchanged."""
    return int(value) if is_number(value) and value % 1 == 0 else value


def _parse_when(entry: object) -> Conditions:
    when = entry.get("when", {}) if isinstance(entry, Mapping) else {}
    if not isinstance(when, Mapping):
        given = f"{show(when)} is {kind(when)}"
        raise SearchSpaceError([Problem("when", f"{given}; a mapping is needed, such as {{optimizer: sgd}}")])
    return {
        parent: tuple(accepted) if isinstance(accepted, list | tuple) else (accepted,)
        for parent, accepted in when.items()
    }
