"""A search space: named parameters, some of which apply only under conditions.

A configuration is one point of a space: it maps the names of all active parameters to values. A parameter is active
if each parameter in its `when` is itself active and has one of the listed values.
"""

import copy
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType
from typing import Any

from tune_jobs.problem import Problem
from tune_jobs.search_spaces.domains import Domain
from tune_jobs.search_spaces.errors import SearchSpaceError, suggestion
from tune_jobs.search_spaces.values import canonical, kind, show

Conditions = Mapping[str, tuple[Any, ...]]
"""Names of other parameters, each with the values of which it must have one."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A domain, and the conditions under which the parameter applies (none: always).

    Raises:
        SearchSpaceError: The values of a condition are not a tuple.
    """

    domain: Domain
    when: Conditions = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = [
            Problem(f"when.{parent}", f"{show(accepted)} is {kind(accepted)}; a tuple of values is needed")
            for parent, accepted in self.when.items()
            if not isinstance(accepted, tuple)
        ]
        if problems:
            raise SearchSpaceError(problems)
        frozen = {parent: copy.deepcopy(accepted) for parent, accepted in self.when.items()}
        object.__setattr__(self, "when", MappingProxyType(frozen))

    def __reduce__(self) -> tuple[Any, ...]:
        return Parameter, (self.domain, dict(self.when))  # a mapping proxy cannot be pickled


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """Parameters by name; `SearchSpace({})` has one configuration, the empty one.

    Raises:
        SearchSpaceError: A name is malformed; or a condition names an unknown parameter, can never hold, or is part
            of a cycle.
    """

    parameters: Mapping[str, Parameter]
    order: tuple[str, ...] = field(init=False, repr=False, compare=False)
    """All names, parents before their children, otherwise in the given order."""
    _accepted: Mapping[str, Mapping[str, frozenset[str]]] = field(init=False, repr=False, compare=False)
    _named: frozenset[str] = field(init=False, repr=False, compare=False)
    """Parameters that appear in a condition of another parameter."""

    def __post_init__(self) -> None:
        parameters = dict(self.parameters)
        conditions = {name: parameter.when for name, parameter in parameters.items()}
        domains = {name: parameter.domain for name, parameter in parameters.items()}
        problems = space_problems(domains, conditions)
        if problems:
            raise SearchSpaceError(problems)
        accepted = {
            name: {parent: frozenset(map(domains[parent].key, values)) for parent, values in when.items()}
            for name, when in conditions.items()
        }
        object.__setattr__(self, "parameters", MappingProxyType(parameters))
        object.__setattr__(self, "order", _parents_first(conditions))
        object.__setattr__(self, "_accepted", accepted)
        object.__setattr__(self, "_named", frozenset(parent for when in accepted.values() for parent in when))

    def __reduce__(self) -> tuple[Any, ...]:
        return SearchSpace, (dict(self.parameters),)

    def active(self, configuration: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names that apply, given the values in `configuration`, in `order`."""
        keys: dict[str, str | None] = {}
        for name in self.order:
            if self._applies(name, keys):
                domain, value = self.parameters[name].domain, configuration.get(name)
                known = name in configuration and domain.contains(value)
                keys[name] = domain.key(value) if known else None
        return tuple(keys)

    def problems(self, configuration: Mapping[str, Any]) -> tuple[Problem, ...]:
        """Return the problems that keep `configuration` from being a point of this space; empty if there are none.

        Paths are names of parameters. Unknown names come first, then the others in `order`.
        """
        problems = [
            Problem(str(name), f"there is no such parameter; {suggestion(name, self.parameters)}")
            for name in configuration
            if name not in self.parameters
        ]
        active = set(self.active(configuration))
        for name in self.order:
            domain = self.parameters[name].domain
            if name not in configuration:
                if name in active:
                    problems.append(Problem(name, f"missing; valid is {domain.describe()}"))
            elif name not in active:
                problems.append(Problem(name, self._why_inactive(name, configuration)))
            elif not domain.contains(configuration[name]):
                given = configuration[name]
                problems.append(
                    Problem(name, f"{show(given)} ({kind(given)}) is not valid; valid is {domain.describe()}")
                )
        return tuple(problems)

    def sample(self, rng: Random, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Draw a configuration, each value independently; the same `rng` state gives the same configuration.

        Args:
            rng: The random generator.
            given: Valid values of parameters that are not drawn; values of inactive parameters are left out.
        """
        given = given or {}
        configuration: dict[str, Any] = {}
        keys: dict[str, str | None] = {}
        for name in self.order:
            if self._applies(name, keys):
                domain = self.parameters[name].domain
                configuration[name] = copy.deepcopy(given[name]) if name in given else domain.sample(rng)
                if name in self._named:
                    keys[name] = domain.key(configuration[name])
        return configuration

    def key(self, configuration: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """Return a key that two configurations share only if they are the same; 1, 1.0 and true differ."""
        return tuple(
            (name, self.parameters[name].domain.key(configuration[name]))
            for name in self.order
            if name in configuration
        )

    def grid(self) -> Iterator[dict[str, Any]]:
        """Yield each configuration once; the last parameter of `order` changes fastest.

        Raises:
            SearchSpaceError: A parameter that can become active is continuous.
        """
        continuous = self._continuous()
        if continuous:
            raise SearchSpaceError(
                Problem(
                    name, f"{self.parameters[name].domain.describe()} has no grid; give `step` or `values`"
                )
                for name in continuous
            )
        return self._points(0, {}, {})

    def grid_size(self) -> int | None:
        """Return the number of configurations of `grid`; None if a parameter that can become active is continuous."""
        return None if self._continuous() else sum(count for count, _ in self._classes(0, {}))

    def fingerprint(self) -> str:
        """Return the SHA-256 of the space's meaning, in hex digits: the order of names and conditions does not matter.

        The order of a choice's values matters, because a grid follows it.
        """
        entries = {
            name: {
                "domain": {"kind": type(parameter.domain).__name__, **parameter.domain.to_mapping()},
                "when": {parent: sorted(keys) for parent, keys in self._accepted[name].items()},
            }
            for name, parameter in self.parameters.items()
        }
        return hashlib.sha256(canonical(entries).encode()).hexdigest()

    def to_mapping(self) -> dict[str, Any]:
        """Return the space as a job file writes it; `parse_space` reads it back."""
        return {name: _entry(parameter) for name, parameter in self.parameters.items()}

    def _applies(self, name: str, keys: Mapping[str, str | None]) -> bool:
        """Return whether all conditions of `name` hold; `keys` holds the active parameters before it."""
        return all(keys.get(parent) in accepted for parent, accepted in self._accepted[name].items())

    def _why_inactive(self, name: str, configuration: Mapping[str, Any]) -> str:
        parts = [
            f"{parent} is {' or '.join(map(show, accepted))}"
            f" (it is {show(configuration[parent]) if parent in configuration else 'not given'})"
            for parent, accepted in self.parameters[name].when.items()
        ]
        return f"given, but it applies only when {' and '.join(parts)}; leave it out"

    def _points(
        self, index: int, configuration: dict[str, Any], keys: dict[str, str | None]
    ) -> Iterator[dict[str, Any]]:
        if index == len(self.order):
            yield copy.deepcopy(configuration)
            return
        name = self.order[index]
        domain = self.parameters[name].domain
        if not self._applies(name, keys):
            yield from self._points(index + 1, configuration, keys)
            return
        for number in range(domain.size() or 0):
            value = domain.at(number)
            here = {**configuration, name: value}
            yield from self._points(index + 1, here, {**keys, name: domain.key(value)})

    def _classes(self, index: int, keys: dict[str, str | None]) -> Iterator[tuple[int, frozenset[str]]]:
        """Yield the classes of configurations that no condition distinguishes: (their number, the active names).

        All values that no condition names form one class, so wide ranges cost nothing. A continuous parameter counts
        as one value.
        """
        if index == len(self.order):
            yield 1, frozenset(keys)
            return
        name = self.order[index]
        if not self._applies(name, keys):
            yield from self._classes(index + 1, keys)
            return
        named = {key for parents in self._accepted.values() for key in parents.get(name, ())}
        size = self.parameters[name].domain.size()
        others = 1 if size is None else size - len(named)
        branches: list[tuple[int, str | None]] = [(1, key) for key in sorted(named)]
        if others:
            branches.append((others, None))
        for weight, key in branches:
            for count, active in self._classes(index + 1, {**keys, name: key}):
                yield weight * count, active

    def _continuous(self) -> tuple[str, ...]:
        """Return the continuous parameters that are active in some configuration."""
        continuous = [name for name in self.order if self.parameters[name].domain.size() is None]
        if not continuous:
            return ()
        reached = frozenset[str]().union(*(active for _, active in self._classes(0, {})))
        return tuple(name for name in continuous if name in reached)


def space_problems(
    domains: Mapping[str, Domain | None], conditions: Mapping[str, Conditions]
) -> tuple[Problem, ...]:
    """Return the problems of names and conditions.

    Args:
        domains: Domains by name; None if a domain is wrong, so conditions on it cannot be checked.
        conditions: Conditions by name, for names with readable conditions.
    """
    problems = [
        Problem(
            str(name),
            "a name is made of letters, digits, _ and -, in parts joined by dots, such as model.hidden",
        )
        for name in domains
        if not isinstance(name, str) or not _NAME.fullmatch(name)
    ]
    for name, when in conditions.items():
        for parent, accepted in when.items():
            path = f"{name}.when.{parent}"
            if parent not in domains:
                others = [other for other in domains if other != name]
                problems.append(
                    Problem(path, f"there is no parameter '{parent}'; {suggestion(parent, others)}")
                )
                continue
            if not accepted:
                problems.append(Problem(path, "the list is empty; at least one value is needed"))
            domain = domains[parent]
            problems += [
                Problem(
                    path, f"{parent} is never {show(value)} ({kind(value)}); valid is {domain.describe()}"
                )
                for value in accepted
                if domain is not None and not domain.contains(value)
            ]
    circle = _find_circle(conditions)
    if circle:
        problems.append(
            Problem(
                f"{circle[0]}.when", f"the conditions form a cycle: {' -> '.join(circle)}; remove one of them"
            )
        )
    return tuple(problems)


def _entry(parameter: Parameter) -> dict[str, Any]:
    entry = parameter.domain.to_mapping()
    if parameter.when:
        entry["when"] = {parent: copy.deepcopy(list(accepted)) for parent, accepted in parameter.when.items()}
    return entry


def _parents_first(conditions: Mapping[str, Conditions]) -> tuple[str, ...]:
    """Return all names in the given order, each parent moved before its first child; there must be no cycle."""
    order: dict[str, None] = {}

    def add(name: str) -> None:
        for parent in conditions[name]:
            if parent not in order:
                add(parent)
        order[name] = None

    for name in conditions:
        if name not in order:
            add(name)
    return tuple(order)


def _find_circle(conditions: Mapping[str, Conditions]) -> tuple[str, ...]:
    """Return one cycle of names, with the first name repeated at the end; empty if there is none."""
    done: set[str] = set()

    def follow(trail: tuple[str, ...]) -> tuple[str, ...]:
        name = trail[-1]
        if name in trail[:-1]:
            return trail[trail.index(name) :]
        if name not in done:
            for parent in conditions.get(name, {}):
                circle = follow((*trail, parent))
                if circle:
                    return circle
            done.add(name)
        return ()

    return next((circle for name in conditions if (circle := follow((name,)))), ())
