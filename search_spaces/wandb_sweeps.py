"""Import of W&B sweep files.

The forms follow W&B's documentation of sweep configuration keys and its JSON schema (2026). Entries without an
equivalent here are approximated or left out; `ImportedSweep.notices` lists them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tune_jobs.problem import Problem
from tune_jobs.search_spaces.errors import SearchSpaceError, suggestion
from tune_jobs.search_spaces.space import Parameter, SearchSpace
from tune_jobs.search_spaces.values import is_whole, kind, show
from tune_jobs.search_spaces.wandb_distributions import read_domain
from tune_jobs.search_spaces.wandb_stopping import Stopping, read_stopping

Method = Literal["tpe", "gp", "random", "grid"]

_METHODS: Mapping[str, Method] = {"bayes": "gp", "random": "random", "grid": "grid"}
_MODES: Mapping[str, Literal["min", "max"]] = {"minimize": "min", "maximize": "max"}
_READ = ("method", "metric", "parameters", "name", "run_cap", "early_terminate")
_LEFT_OUT = {
    "program": "a job names its data, model and training instead",
    "command": "a job starts its trials by itself",
    "project": "name it under `tracking` in the job",
    "entity": "name it under `tracking` in the job",
    "description": "put it in the job file as a comment",
    "controller": "it has no meaning here",
    "scheduler": "it has no meaning here",
    "job": "it has no meaning here",
    "image_uri": "it has no meaning here",
    "apiVersion": "it has no meaning here",
    "kind": "it has no meaning here",
}
_METRIC_LEFT_OUT = ("target", "impute", "impute_while_running")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportedSweep:
    """The content of a sweep file, in the words of a job."""

    space: SearchSpace
    method: Method
    metric: str | None
    """Name under which the sweep's program logged it; None if the file names none."""
    mode: Literal["min", "max"]
    trials: int | None
    """The file's `run_cap`, or all configurations of a grid without one; None if the file sets no limit."""
    stopping: Stopping | None
    """The rungs of `early_terminate`; None if no run is stopped."""
    name: str | None
    notices: tuple[str, ...]
    """One sentence for each entry that was left out or approximated."""


def import_sweep(sweep: Mapping[str, Any]) -> ImportedSweep:
    """Return the search that a W&B sweep file, read into `sweep`, describes.

    Names of parameters stay the same; nested names are joined by dots: `model: {parameters: {hidden: …}}` becomes
    `model.hidden`.

    Raises:
        SearchSpaceError: The file has problems; the error lists all of them.
    """
    if not isinstance(sweep, Mapping):
        raise SearchSpaceError([Problem("", f"{show(sweep)} is {kind(sweep)}; a mapping of keys is needed")])
    problems: list[Problem] = []
    notices: list[str] = []
    for key in sweep:
        if key in _LEFT_OUT:
            notices.append(f"{key} was left out: {_LEFT_OUT[key]}")
        elif key not in _READ:
            problems.append(Problem("", f"unknown key '{key}'; {suggestion(key, (*_READ, *_LEFT_OUT))}"))
    method = _read_method(sweep, problems, notices)
    metric, mode = _read_metric(sweep.get("metric", {}), problems, notices)
    trials = sweep.get("run_cap")
    if trials is not None and not (is_whole(trials) and trials > 0):
        problems.append(Problem("run_cap", f"{show(trials)} ({kind(trials)}) is not a whole number above 0"))
    name = sweep.get("name")
    if name is not None and not isinstance(name, str):
        problems.append(Problem("name", f"{show(name)} is {kind(name)}; text is needed"))
    stopping = read_stopping(sweep.get("early_terminate"), problems, notices)
    parameters = _read_parameters(sweep.get("parameters"), problems, notices)
    try:
        space = SearchSpace(parameters)
    except SearchSpaceError as error:
        problems += [problem.under("parameters") for problem in error.problems]
    if problems:
        raise SearchSpaceError(problems)
    return ImportedSweep(
        space=space,
        method=method,
        metric=metric,
        mode=mode,
        trials=space.grid_size() if trials is None and method == "grid" else trials,
        stopping=stopping,
        name=name,
        notices=tuple(notices),
    )


def _read_method(sweep: Mapping[str, Any], problems: list[Problem], notices: list[str]) -> Method:
    given = sweep.get("method")
    if not isinstance(given, str) or given not in _METHODS:
        fault = f"{show(given)} is not a method" if "method" in sweep else "missing"
        problems.append(Problem("method", f"{fault}; valid are {', '.join(_METHODS)}"))
        return "random"
    if given == "bayes":
        notices.append("method: bayes became gp, a Gaussian process too; it compares trials at one epoch")
    return _METHODS[given]


def _read_metric(
    metric: object, problems: list[Problem], notices: list[str]
) -> tuple[str | None, Literal["min", "max"]]:
    if not isinstance(metric, Mapping):
        given = f"{show(metric)} is {kind(metric)}"
        problems.append(
            Problem("metric", f"{given}; a mapping is needed, such as {{name: val_loss, goal: minimize}}")
        )
        return None, "min"
    for key in metric:
        if key in _METRIC_LEFT_OUT:
            notices.append(f"metric.{key} was left out: it has no equal here")
        elif key not in {"name", "goal"}:
            hint = suggestion(key, ("name", "goal", *_METRIC_LEFT_OUT))
            problems.append(Problem("metric", f"unknown key '{key}'; {hint}"))
    name, goal = metric.get("name"), metric.get("goal", "minimize")
    if metric and not isinstance(name, str):
        problems.append(
            Problem("metric.name", f"{show(name)} is {kind(name)}; the name of a metric is needed")
        )
    if not isinstance(goal, str) or goal not in _MODES:
        problems.append(Problem("metric.goal", f"{show(goal)} is not a goal; valid are {', '.join(_MODES)}"))
        return None, "min"
    return name, _MODES[goal]


def _read_parameters(given: object, problems: list[Problem], notices: list[str]) -> dict[str, Parameter]:
    parameters: dict[str, Parameter] = {}
    for path, name, entry in _leaves(given, "parameters", "", problems):
        try:
            domain, notice = read_domain(entry)
        except SearchSpaceError as error:
            problems += [problem.under(path) for problem in error.problems]
            continue
        if name in parameters:
            problems.append(Problem(path, f"two parameters have the name '{name}'; rename one"))
        parameters[name] = Parameter(domain)
        if notice:
            notices.append(f"{path}: {notice}")
    return parameters


def _leaves(
    given: object, path: str, prefix: str, problems: list[Problem]
) -> Iterator[tuple[str, str, object]]:
    """Yield the entries without nested parameters: (path, dotted name, entry)."""
    if not isinstance(given, Mapping) or not given:
        message = f"{show(given)} is {kind(given)}; a mapping with at least one parameter is needed"
        problems.append(Problem(path, message))
        return
    for key, entry in given.items():
        name, here = f"{prefix}{key}", f"{path}.{key}"
        if isinstance(entry, Mapping) and "parameters" in entry:
            others = ", ".join(str(other) for other in entry if other != "parameters")
            if others:
                problems.append(Problem(here, f"nested parameters stand alone in an entry; remove {others}"))
            yield from _leaves(entry["parameters"], f"{here}.parameters", f"{name}.", problems)
        else:
            yield here, name, entry
