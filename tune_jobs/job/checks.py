"""Checks in and between the sections of a job.

Every check is a pure function from a section to problems. It runs if all keys that it reads are valid, so one bad key
does not hide other problems. Checks that only the kind of training can make come from its facts.
"""

import importlib.util
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from tune_jobs.job.sections import CheckedSections
from tune_jobs.job.settings import (
    ResourceSettings,
    SchedulerMethod,
    SchedulerSettings,
    SearchSettings,
    TrackingSettings,
)
from tune_jobs.job.user_code import file_with_reserved_name, importable_from
from tune_jobs.location import Location, is_uri
from tune_jobs.search_spaces import Choice, Problem, SearchSpace
from tune_jobs.text import did_you_mean
from tune_jobs.trainers.facts import KindFacts, Searched
from tune_jobs.trainers.facts import Problems as Pairs
from tune_jobs.trainers.interface import Capabilities
from tune_jobs.trainers.messages import not_plain
from tune_jobs.trainers.references import check_reference
from tune_jobs.trainers.settings import ScoreSettings, is_reference


def with_default_metric(selection: object, facts: KindFacts) -> object:
    """Return the section `selection` as it was given, with the default metric of the kind if it names none."""
    default = facts.default_metric
    if default is None or not isinstance(selection, Mapping) or "metric" in selection:
        return selection
    return {"metric": default.name, "mode": default.direction or "min", **selection}


def missing_mode(selection: object, facts: KindFacts) -> list[Problem]:
    """Return the problem of a selection that does not say which values of an unknown metric are good."""
    if facts.metrics is not None or not isinstance(selection, Mapping) or "mode" in selection:
        return []
    metric = selection.get("metric")
    if not isinstance(metric, str) or facts.metric(metric).direction or facts.check_metric(metric):
        return []
    text = f"missing; say which values of {metric!r} are good: min (low ones) or max (high ones)"
    return [Problem("selection.mode", text)]


def cross_check(
    sections: CheckedSections, whole: KindFacts, part: KindFacts, capabilities: Capabilities
) -> list[Problem]:
    """Return all problems in and between sections, except those of the file system.

    Args:
        sections: The sections, including those of the kind of training.
        whole: Facts of the kind about its own valid sections.
        part: Facts of the kind about what is valid of its own sections.
        capabilities: Abilities of the kind.
    """
    problems = _problems(whole.problems) + [
        problem for problem in _problems(part.problems) if not _is_about(problem, sections.wrong)
    ]
    checks = (
        *_CHECKS,
        Check(partial(_workers, capabilities), "resources", frozenset({"workers_per_trial"})),
        Check(partial(_pauses, capabilities), "scheduler", frozenset({"method"})),
    )
    for check in checks:
        section = sections.reading(check.section, check.keys)
        if section is not None:
            problems += check.find(part if check.of_parts else whole, section)
    return list(dict.fromkeys(problems))


def _is_about(problem: Problem, wrong: Mapping[str, frozenset[str]]) -> bool:
    """Return whether a problem is about a key whose value is wrong anyway."""
    section, _, key = problem.path.partition(".")
    return key.partition(".")[0] in wrong.get(section, frozenset())


def check_surroundings(
    facts: KindFacts, tracking: TrackingSettings | None, folder: Path, parameters: Collection[str] = ()
) -> list[Problem]:
    """Return the problems of files, functions and packages that a job names but that do not exist.

    The user's modules are read, not imported.

    Args:
        facts: Facts of the kind of training.
        tracking: The section; None if it is invalid.
        folder: Folder of the job file.
        parameters: Names of the parameters of the search space.
    """
    with importable_from(folder):
        problems = _problems([*facts.missing(folder), *facts.check_names(parameters, folder)])
        trackers = tracking.trackers if tracking is not None else ()
        for key, name in [*facts.references, *(("tracking.trackers", name) for name in trackers)]:
            problems += _reference(key, name)
    return problems if tracking is None else problems + _trackers(tracking)


def with_searched_references(facts: KindFacts, search: SearchSettings | None) -> KindFacts:
    """Return the facts with the functions of the user's code that the values of a search name.

    Args:
        facts: Facts of the kind of training.
        search: The section; None if it is invalid.
    """
    if search is None:
        return facts
    found = []
    for name in facts.reference_parameters:
        parameter = search.space.parameters.get(name)
        values = parameter.domain.values if parameter and isinstance(parameter.domain, Choice) else ()
        found += [(f"search.space.{name}", value) for value in values if is_reference(str(value))]
    if not found:
        return facts
    return replace(facts, references=[*facts.references, *found], starts_user_code=True)


def check_configuration(facts: KindFacts, configuration: Mapping[str, Any]) -> list[Problem]:
    """Return the problems that the kind of training finds in a configuration's names and values."""
    return _problems(facts.check(configuration))


def notices(space: SearchSpace, facts: KindFacts) -> list[str]:
    """Return sentences about settings that are valid but probably a mistake."""
    searched = {
        name: Searched(
            values=parameter.domain.values if isinstance(parameter.domain, Choice) else None,
            depends_on=tuple(parameter.when),
        )
        for name, parameter in space.parameters.items()
    }
    return list(facts.notices(searched))


def grid_notices(search: SearchSettings) -> list[str]:
    """Return a notice if the trials of a grid search do not try all of its configurations."""
    size = search.space.grid_size()
    if search.method != "grid" or size is None or size <= search.trials:
        return []
    return [
        f"the grid has {size:,} configurations, and search.trials is {search.trials:,}: {size - search.trials:,} are "
        f"left out; set search.trials to {size} to try them all"
    ]


def _trackers(tracking: TrackingSettings) -> list[Problem]:
    wanted = {
        "wandb": (tracking.wandb is not None, "wandb"),
        "tensorboard": (tracking.tensorboard, "tensorboardX"),
    }
    return [
        Problem(f"tracking.{key}", f"the package {package} is not installed; `pip install {package}`")
        for key, (asked, package) in wanted.items()
        if asked and importlib.util.find_spec(package) is None
    ]


def _problems(pairs: Pairs) -> list[Problem]:
    return [Problem(*pair) for pair in pairs]


def _selection(facts: KindFacts, selection: ScoreSettings) -> list[Problem]:
    if refused := facts.check_metric(selection.metric):
        return _problems(refused)
    if not facts.metrics:
        return []
    valid = [metric.name for metric in facts.metrics]
    metric, mode = selection.metric, selection.mode
    if metric not in valid:
        listed = f"; other metrics must be listed in {facts.metrics_key}" if facts.metrics_key else ""
        hint = did_you_mean(metric, valid) or listed
        return [Problem("selection.metric", f"given {metric!r}; valid: {', '.join(valid)}{hint}")]
    right = facts.metric(metric).direction
    if right is not None and mode != right:
        text = f"{mode} of {metric} would select the worst trial; set it to {right}"
        return [Problem("selection.mode", text)]
    return []


def _space(facts: KindFacts, search: SearchSettings) -> list[Problem]:
    problems = []
    for name, parameter in search.space.parameters.items():
        domain = parameter.domain
        values = domain.values if isinstance(domain, Choice) else (domain.low, domain.high)
        for value in values:
            found = check_configuration(facts, {name: value})
            problems += [problem.under("search.space") for problem in found]
    return problems


def _points(_: KindFacts, search: SearchSettings) -> list[Problem]:
    """Return the problems of points; a point may leave parameters out, and the search draws them."""
    unfit = [
        problem
        for index, point in enumerate(search.points)
        for problem in _problems(not_plain(f"search.points.{index}", point))
    ]
    return unfit or [
        problem.under(f"search.points.{index}")
        for index, point in enumerate(search.points)
        for problem in search.space.problems(point)
        if problem.path in point
    ]


def _too_many_points(_: KindFacts, search: SearchSettings) -> list[Problem]:
    points = len(search.points)
    if points <= search.trials:
        return []
    return [
        Problem("search.points", f"{points} points are given, and search.trials is {search.trials}; raise it")
    ]


def _grid(_: KindFacts, search: SearchSettings) -> list[Problem]:
    if search.method != "grid" or search.space.grid_size() is not None:
        return []
    endless = [name for name, p in search.space.parameters.items() if p.domain.size() is None]
    return [
        Problem(
            f"search.space.{name}",
            "has infinitely many values; method grid needs `values: [...]` or a `step`",
        )
        for name in endless
    ]


def _grace(facts: KindFacts, scheduler: SchedulerSettings) -> list[Problem]:
    """Return the problem of a grace period that is too long; a training shorter than the default has no rung."""
    last, default = facts.max_epochs, SchedulerSettings().grace_epochs
    if last is None or scheduler.method == "none" or scheduler.grace_epochs <= max(last, default):
        return []
    most = f"at most {facts.max_epochs_key}, which is {last}" if facts.max_epochs_key else f"at most {last}"
    text = f"given {scheduler.grace_epochs}; valid: {most}"
    return [Problem("scheduler.grace_epochs", text)]


def _pauses(capabilities: Capabilities, _: KindFacts, scheduler: SchedulerSettings) -> list[Problem]:
    if capabilities.resumes or not scheduler.pauses_trials:
        return []
    others = [
        method for method in get_args(SchedulerMethod) if not SchedulerSettings(method=method).pauses_trials
    ]
    text = (
        f"given {scheduler.method!r}, which pauses trials, and trainings of this kind cannot continue; set it to "
        f"{', '.join(others[:-1])} or {others[-1]}"
    )
    return [Problem("scheduler.method", text)]


def _workers(capabilities: Capabilities, facts: KindFacts, resources: ResourceSettings) -> list[Problem]:
    workers = resources.workers_per_trial
    if workers > 1 and not capabilities.data_parallel:
        text = (
            f"given {workers}; valid: 1, because several workers cannot train one model of this kind together"
        )
        return [Problem("resources.workers_per_trial", text)]
    return _problems(facts.check_workers(workers))


def _storage(_: KindFacts, storage: str) -> list[Problem]:
    if is_uri(storage):
        try:
            Location.parse(storage)
        except ValueError as error:
            return [Problem("storage", str(error))]
        return []
    if not storage or "\0" in storage:
        return [
            Problem(
                "storage",
                f"given {storage!r}; valid: the path of a folder, such as runs, or s3://bucket/prefix",
            )
        ]
    return []


def _reference(path: str, text: str) -> list[Problem]:
    name = text.partition(":")[0].partition(".")[0]
    if hidden := file_with_reserved_name(name):
        return [
            Problem(path, f"{text}: {hidden} has the name of a module that tune-jobs needs; rename the file")
        ]
    return [Problem(path, message) for message in check_reference(text)]


@dataclass(frozen=True)
class Check:
    """A check of one section."""

    find: Callable[[KindFacts, Any], Sequence[Problem]]
    section: str
    keys: frozenset[str]
    """The keys of the section that it reads; it does not run if one of them has a wrong value."""
    of_parts: bool = False
    """Whether it may use facts about a kind's sections that have wrong values."""


_CHECKS = (
    Check(_selection, "selection", frozenset({"metric", "mode"})),
    Check(_space, "search", frozenset(), of_parts=True),
    Check(_points, "search", frozenset({"points", "space"})),
    Check(_too_many_points, "search", frozenset({"points", "trials"})),
    Check(_grid, "search", frozenset({"method"})),
    Check(_grace, "scheduler", frozenset({"method", "grace_epochs"})),
    Check(_storage, "storage", frozenset()),
)
"""Checks, in the order of their messages."""
