"""What must hold between the sections of a job; each section by itself was checked before.

Every check is a pure function from the valid sections to problems. It runs where all sections that it looks
at are valid, so that one bad section does not hide what is wrong between the others.
"""

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from tune_jobs.job.messages import problems_of
from tune_jobs.job.settings import ResourceSettings, SchedulerSettings, SearchSettings, TrackingSettings
from tune_jobs.job.user_code import hidden_by_reserved_name, importable_from
from tune_jobs.location import Location, is_uri
from tune_jobs.search_spaces import Choice, Problem, SearchSpace
from tune_jobs.trainers.data.files import SUFFIXES, is_file
from tune_jobs.trainers.data.settings import BuiltInSource, DataSettings
from tune_jobs.trainers.pytorch.metric_rules import check_metrics, metric_names
from tune_jobs.trainers.pytorch.model_arguments import check_model_arguments, model_argument_names
from tune_jobs.trainers.pytorch.plan import FIXED_TRAINING_KEYS, TrainingPlan, plan_training
from tune_jobs.trainers.pytorch.settings import (
    Hyperparameters,
    ModelSettings,
    ScheduleSettings,
    TrainingSettings,
)
from tune_jobs.trainers.references import check_reference, did_you_mean
from tune_jobs.trainers.settings import EarlyStoppingSettings, ScoreSettings, Settings

LOWER_IS_BETTER = {"val_loss", "mse", "mae", "rmse", "param_error"}
HIGHER_IS_BETTER = {"accuracy", "f1", "r2"}


def cross_check(sections: Mapping[str, Any]) -> list[Problem]:
    """All problems between `sections`, those of the file system left out."""
    problems: list[Problem] = []
    for check, needed in _CHECKS:
        if all(name in sections for name in needed):
            problems += check(*(sections[name] for name in needed))
    return list(dict.fromkeys(problems))


def check_surroundings(sections: Mapping[str, Any], folder: Path) -> list[Problem]:
    """Files and functions that a job names and that are not there; `folder` is that of the job file.

    The user's modules are read, not imported.
    """
    problems: list[Problem] = []
    with importable_from(folder):
        if "data" in sections:
            problems += _source(sections["data"], folder)
        if "model" in sections:
            problems += _reference("model.name", sections["model"].name)
        if "training" in sections:
            training: TrainingSettings = sections["training"]
            problems += _reference("training.loss", training.loss)
            problems += [p for name in training.metrics for p in _reference("training.metrics", name)]
        if "tracking" in sections:
            own: Sequence[str] = sections["tracking"].trackers
            problems += [p for name in own for p in _reference("tracking.trackers", name)]
    if "tracking" in sections:
        problems += _trackers(sections["tracking"])
    return problems


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


def _source(data: DataSettings, folder: Path) -> list[Problem]:
    """A source is a file, a function or a built-in name, told apart by its form."""
    source = data.source
    if Path(source).suffix.lower() in SUFFIXES:
        problems = []
        if not is_file(folder / source):
            problems.append(Problem("data.source", f"no such file: {folder / source}"))
        if data.target is None and Path(source).suffix.lower() != ".npz":
            problems.append(Problem("data.target", "missing; a table needs the name of its target column"))
        return problems
    if ":" in source:
        return _reference("data.source", source)
    built_in = get_args(BuiltInSource)
    if source in built_in:
        return []
    valid = f"{', '.join(built_in)}; a file ({', '.join(SUFFIXES)}); or `package.module:function`"
    return [Problem("data.source", f"given {source!r}; valid: {valid}{did_you_mean(source, built_in)}")]


def _data(data: DataSettings) -> list[Problem]:
    return _not_plain("data.arguments", data.arguments)


def _model(model: ModelSettings) -> list[Problem]:
    problems = _not_plain("model.arguments", model.arguments)
    return problems or [
        Problem("model.arguments", text) for text in check_model_arguments(model.name, model.arguments)
    ]


def _not_plain(path: str, value: object) -> list[Problem]:
    """What the run's copy of the job could not hold; most of it only Python can give."""
    if isinstance(value, dict):
        return [
            problem
            for key, below in value.items()
            for problem in (
                _not_plain(f"{path}.{key}", below)
                if isinstance(key, str)
                else [Problem(path, f"given the key {key!r}; valid: keys that are text")]
            )
        ]
    if isinstance(value, list | tuple):
        return [p for index, below in enumerate(value) for p in _not_plain(f"{path}.{index}", below)]
    if value is None or type(value) in {bool, int, str} or (type(value) is float and math.isfinite(value)):
        return []
    valid = "text, finite numbers, true, false, null, lists and sections"
    return [Problem(path, f"given {value!r}; valid: {valid}")]


def _metrics(training: TrainingSettings) -> list[Problem]:
    return [Problem("training.metrics", text) for text in check_metrics(training)]


def _selection(selection: ScoreSettings, training: TrainingSettings) -> list[Problem]:
    valid = ("val_loss", *metric_names(training))
    metric, mode = selection.metric, selection.mode
    if metric not in valid:
        hint = did_you_mean(metric, valid) or "; other metrics must be listed in training.metrics"
        return [Problem("selection.metric", f"given {metric!r}; valid: {', '.join(valid)}{hint}")]
    if (metric in LOWER_IS_BETTER and mode == "max") or (metric in HIGHER_IS_BETTER and mode == "min"):
        other = "min" if mode == "max" else "max"
        return [
            Problem("selection.mode", f"{mode} of {metric} would select the worst trial; set it to {other}")
        ]
    return []


def _space(
    search: SearchSettings, model: ModelSettings, training: TrainingSettings, selection: ScoreSettings
) -> list[Problem]:
    problems = []
    for name, parameter in search.space.parameters.items():
        domain = parameter.domain
        values = domain.values if isinstance(domain, Choice) else (domain.low, domain.high)
        for value in values:
            found = check_configuration({name: value}, model, training, selection)
            problems += [problem.under("search.space") for problem in found]
    return problems


def check_configuration(
    configuration: Mapping[str, Any],
    model: ModelSettings,
    training: TrainingSettings,
    selection: ScoreSettings,
) -> list[Problem]:
    """What the trainer would say to the names and values of a configuration."""
    problems = []
    for name, value in configuration.items():
        unknown = _parameter_name(name, model)
        if unknown:
            problems.append(Problem(name, unknown))
        else:
            problems += _value(name, value, model, training, selection)
    return problems


def _parameter_name(name: str, model: ModelSettings) -> str | None:
    """What is wrong with the name of a search parameter, if anything."""
    section, _, key = name.partition(".")
    fixed = key.split(".")[0]
    if section == "training" and fixed in FIXED_TRAINING_KEYS:
        return f"cannot be searched: trials with different {fixed} cannot be compared"
    if section == "model" and ":" in model.name:
        return None
    valid = parameter_names(model)
    if name in valid:
        return None
    hint = did_you_mean(name, valid) or f"; valid: {', '.join(valid)}"
    return f"unknown parameter{hint}"


def parameter_names(model: ModelSettings) -> list[str]:
    """Names that a configuration may set, for a built-in model complete."""
    nested: dict[str, type[Settings]] = {
        "schedule": ScheduleSettings,
        "early_stopping": EarlyStoppingSettings,
    }
    return [
        *Hyperparameters.model_fields,
        *(f"model.{argument}" for argument in model_argument_names(model.name)),
        *(
            f"training.{key}"
            for key in TrainingSettings.model_fields
            if key not in FIXED_TRAINING_KEYS | nested.keys()
        ),
        *(f"training.{key}.{below}" for key, class_ in nested.items() for below in class_.model_fields),
    ]


def _value(
    name: str, value: Any, model: ModelSettings, training: TrainingSettings, selection: ScoreSettings
) -> list[Problem]:
    """What the trainer would say to this value of a parameter."""
    try:
        plan = plan_training(model, training, selection, {name: value}, seed=0)
    except ValidationError as error:
        return [Problem(name, problem.message) for problem in problems_of(error, None, TrainingPlan)]
    if name.startswith("model."):
        arguments = {name.partition(".")[2]: value}
        return [Problem(name, text) for text in check_model_arguments(plan.model.name, arguments)]
    return []


def _points(search: SearchSettings) -> list[Problem]:
    """Points may leave parameters out: the search proposes them."""
    unfit = [
        p for index, point in enumerate(search.points) for p in _not_plain(f"search.points.{index}", point)
    ]
    return unfit or [
        problem.under(f"search.points.{index}")
        for index, point in enumerate(search.points)
        for problem in search.space.problems(point)
        if problem.path in point
    ] + _too_many_points(search)


def _too_many_points(search: SearchSettings) -> list[Problem]:
    points = len(search.points)
    if points <= search.trials:
        return []
    return [
        Problem("search.points", f"{points} points are given, and search.trials is {search.trials}; raise it")
    ]


def _grid(search: SearchSettings) -> list[Problem]:
    if search.method != "grid" or search.space.grid_size() is not None:
        return []
    endless = [name for name, p in search.space.parameters.items() if p.domain.size() is None]
    return [
        Problem(
            f"search.space.{name}", "has no end of values for method grid; give `values: [...]` or a `step`"
        )
        for name in endless
    ]


def _grace(scheduler: SchedulerSettings, training: TrainingSettings) -> list[Problem]:
    """The default gives way to trainings that are shorter: they have no rung."""
    default = SchedulerSettings().grace_epochs
    if scheduler.method == "none" or scheduler.grace_epochs <= max(training.max_epochs, default):
        return []
    return [
        Problem(
            "scheduler.grace_epochs",
            f"given {scheduler.grace_epochs}; valid: at most training.max_epochs, which is {training.max_epochs}",
        )
    ]


def _device(training: TrainingSettings, resources: ResourceSettings) -> list[Problem]:
    if resources.workers_per_trial == 1 or training.device in {"auto", "cpu", "cuda"}:
        return []
    return [
        Problem(
            "training.device",
            f"given {training.device!r}; valid with several workers a trial (`resources.workers_per_trial`): auto, "
            "cpu or cuda, since each trains on the CPU or on a GPU of its own",
        )
    ]


def _storage(storage: str) -> list[Problem]:
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
    if ":" not in text:
        return []
    name = text.partition(":")[0].partition(".")[0]
    if hidden := hidden_by_reserved_name(name):
        return [
            Problem(path, f"{text}: {hidden} has the name of a module that tune-jobs needs; rename the file")
        ]
    return [Problem(path, message) for message in check_reference(text)]


Check = Callable[..., Sequence[Problem]]
_CHECKS: tuple[tuple[Check, tuple[str, ...]], ...] = (
    (_data, ("data",)),
    (_model, ("model",)),
    (_metrics, ("training",)),
    (_selection, ("selection", "training")),
    (_space, ("search", "model", "training", "selection")),
    (_points, ("search",)),
    (_grid, ("search",)),
    (_grace, ("scheduler", "training")),
    (_device, ("training", "resources")),
    (_storage, ("storage",)),
)


def notices(space: SearchSpace) -> list[str]:
    """What is allowed and probably not meant."""
    optimizers = space.parameters.get("optimizer")
    used_by = {
        "momentum": {"sgd", "rmsprop"},
        "nesterov": {"sgd"},
        "beta1": {"adam", "adamw"},
        "beta2": {"adam", "adamw"},
        "alpha": {"rmsprop"},
        "max_iter": {"lbfgs"},
        "history_size": {"lbfgs"},
    }
    searched = (
        set(optimizers.domain.values) if optimizers and isinstance(optimizers.domain, Choice) else {"sgd"}
    )
    found = []
    for name, users in used_by.items():
        parameter = space.parameters.get(name)
        idle = sorted(searched - users)
        if parameter and idle and "optimizer" not in parameter.when:
            used = sorted(searched & users)
            cure = (
                f"add `when: {{optimizer: [{', '.join(used)}]}}`"
                if used
                else f"leave it out, or search optimizer with {' or '.join(sorted(users))} among its values"
            )
            found.append(f"search.space.{name} does nothing for {', '.join(idle)}; {cure}")
    return found
