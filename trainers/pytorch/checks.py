"""Facts of the PyTorch kind about a job before anything starts: names, metrics and checks, without torch.

Every function takes valid sections. `facts` puts the answers together.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

from pydantic import ValidationError

from tune_jobs.text import did_you_mean
from tune_jobs.trainers.data.files import SUFFIXES, is_file
from tune_jobs.trainers.data.settings import BuiltInLoss, BuiltInSource, DataSettings
from tune_jobs.trainers.facts import Configuration, KindFacts, Metric, Problems, Searched
from tune_jobs.trainers.messages import not_plain, place_of, problems_of
from tune_jobs.trainers.pytorch.metric_rules import check_metrics, metric_names
from tune_jobs.trainers.pytorch.model_arguments import check_model_arguments, model_argument_names
from tune_jobs.trainers.pytorch.plan import FIXED_TRAINING_KEYS, TrainingPlan, plan_training
from tune_jobs.trainers.pytorch.settings import (
    VALIDATION_LOSS,
    Hyperparameters,
    ModelSettings,
    ScheduleSettings,
    TrainingSettings,
)
from tune_jobs.trainers.settings import EarlyStoppingSettings, Settings, is_reference

BEST_VALUES = {"mse": 0.0, "mae": 0.0, "rmse": 0.0, "param_error": 0.0, "accuracy": 1.0, "f1": 1.0, "r2": 1.0}
"""The best possible value of each metric. If it is 0, low values are good; if it is 1, high values are good."""
OPTIMIZERS_USING = {
    "momentum": {"sgd", "rmsprop"},
    "nesterov": {"sgd"},
    "beta1": {"adam", "adamw"},
    "beta2": {"adam", "adamw"},
    "alpha": {"rmsprop"},
    "max_iter": {"lbfgs"},
    "history_size": {"lbfgs"},
}
"""The optimizers that use a hyperparameter, if not all do."""
LOSS_ARGUMENTS = {"cross_entropy": ("label_smoothing",), "huber": ("delta",)}
"""The keyword arguments of the built-in losses."""
ALIASES = {
    "learning_rate": "lr",
    "batch": "batch_size",
    "bs": "batch_size",
    "opt": "optimizer",
    "optim": "optimizer",
    "wd": "weight_decay",
    "beta_1": "beta1",
    "beta_2": "beta2",
    "epsilon": "eps",
}
"""Common names of hyperparameters in other tools, with their names in a job."""
ELSEWHERE = {
    **dict.fromkeys(
        (
            "epochs",
            "epoch",
            "maxepochs",
            "numepochs",
            "nepochs",
            "numtrainepochs",
            "maxt",
            "niter",
            "iterations",
        ),
        "training.max_epochs",
    ),
    **dict.fromkeys(
        ("patience", "earlystoppingpatience", "earlystopping"), "training.early_stopping.patience"
    ),
    **dict.fromkeys(("lrscheduler", "lrschedule", "schedule"), "training.schedule"),
    **dict.fromkeys(("lossfn", "lossfunction", "criterion", "loss"), "training.loss"),
    **dict.fromkeys(("hidden", "hiddensize", "hiddensizes", "layers", "units"), "model.hidden"),
    **dict.fromkeys(("dataset", "datasource", "traindata", "csv"), "data.source"),
    **dict.fromkeys(("label", "labels", "target", "ycolumn"), "data.target"),
    **dict.fromkeys(("batch", "bs", "batchsize", "minibatchsize"), "search.space.batch_size"),
    **dict.fromkeys(("lr", "learningrate"), "search.space.lr"),
    "metrics": "training.metrics",
    "device": "training.device",
    "optimizer": "search.space.optimizer",
    "weightdecay": "search.space.weight_decay",
    "momentum": "search.space.momentum",
    "dropout": "model.dropout",
}
"""Names of settings and parameters in other tools, without - _ . and in lower case, with their keys in a job."""
TEMPLATE = """\
data: {source: FILE_OR_NAME, target: COLUMN}
model: {name: mlp}
training: {max_epochs: 27, loss: cross_entropy, metrics: []}
"""
"""The sections of the kind in a job file that the user has yet to complete."""


def facts(sections: Mapping[str, Any]) -> KindFacts:
    """Return what is known from those of the sections `data`, `model` and `training` that are valid."""
    data = cast("DataSettings | None", sections.get("data"))
    model = cast("ModelSettings | None", sections.get("model"))
    training = cast("TrainingSettings | None", sections.get("training"))
    given = [section for section in (data, model, training) if section is not None]
    known: dict[str, Any] = {}
    if data is not None:
        known["files"] = {"data.source": data.source} if _names_file(data.source) else {}
        known["missing"] = partial(_missing_source, data)
    if training is not None:
        known |= {
            "max_epochs": training.max_epochs,
            "max_epochs_key": "training.max_epochs",
            "metrics": metrics(training),
            "metrics_key": "training.metrics",
            "check_workers": partial(_check_device, training.device),
        }
    if model is not None and training is not None:
        transform = None if data is None else data.transform
        known["check"] = partial(check_configuration, model, training, transform=transform)
    if model is not None:
        known["parameter_names"] = None if is_reference(model.name) else parameter_names(model)
    if data is not None and model is not None:
        known["title"] = f"{model.name} on {data.source.replace(chr(92), '/').rpartition('/')[2]}"
        known["labels"] = {"data": data.source, "model": model.name}
    references = [pair for section in given for pair in _references(section)]
    return KindFacts(
        default_metric=Metric(name=VALIDATION_LOSS.metric, direction=VALIDATION_LOSS.mode),
        reported_settings=("lr",),
        packages=("torch",),
        aliases=ALIASES,
        elsewhere=ELSEWHERE,
        template=TEMPLATE,
        references=references,
        reference_parameters=("optimizer", "training.schedule.name"),
        starts_user_code=any(key != "data.source" for key, _ in references),
        problems=[problem for section in given for problem in _problems(section)],
        notices=unused_parameters,
        **known,
    )


def metrics(training: TrainingSettings) -> list[Metric]:
    """Return the metrics that a training measures, the validation loss first."""
    bounded = training.loss in get_args(BuiltInLoss)  # the user's own loss may be negative
    loss = Metric(
        name=VALIDATION_LOSS.metric,
        direction=VALIDATION_LOSS.mode,
        best=0.0 if bounded else None,
        on_training="train_loss",
    )
    return [loss, *map(_metric, metric_names(training))]


def _metric(name: str) -> Metric:
    best = BEST_VALUES.get(name)
    return Metric(name=name, direction=None if best is None else "max" if best else "min", best=best)


def parameter_names(model: ModelSettings) -> list[str]:
    """Return the names that a configuration may set; for a function model, all but its own arguments."""
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
        *(
            f"training.{key}.{below}"
            for key, class_ in nested.items()
            for below in class_.model_fields
            if below != "arguments"
        ),
    ]


def is_parameter(name: str) -> bool:
    """Return whether a dotted name is an argument of the model or of the transform, rather than a key of a section."""
    section, _, key = name.partition(".")
    keys = {"model": ModelSettings.model_fields, "data": DataSettings.model_fields}.get(section)
    return keys is not None and key.split(".")[0] not in keys


# What is wrong in a section


def _problems(section: Settings) -> Problems:
    match section:
        case DataSettings():
            return [
                *not_plain("data.arguments", section.arguments),
                *not_plain("data.transform_arguments", section.transform_arguments),
            ]
        case ModelSettings():
            texts = check_model_arguments(section.name, section.arguments)
            return not_plain("model.arguments", section.arguments) or [
                ("model.arguments", text) for text in texts
            ]
        case TrainingSettings():
            unknown = [_check_loss_argument(key, section.loss) for key in section.loss_arguments]
            return [
                *not_plain("training.loss_arguments", section.loss_arguments),
                *not_plain("training.schedule.arguments", section.schedule.arguments),
                *(("training.loss_arguments", text) for text in unknown if text),
                *(("training.metrics", text) for text in check_metrics(section)),
            ]
        case _:
            return []


# What a section names that does not exist


def _references(section: Settings) -> list[tuple[str, str]]:
    """Return the keys that name a `package.module:function`, each with the name."""
    match section:
        case DataSettings():
            names = [] if _names_file(section.source) else [("data.source", section.source)]
            names += [("data.transform", section.transform)] if section.transform else []
        case ModelSettings():
            names = [("model.name", section.name)]
        case TrainingSettings():
            names = [
                ("training.loss", section.loss),
                *(("training.metrics", metric) for metric in section.metrics),
                ("training.schedule.name", section.schedule.name),
            ]
        case _:
            names = []
    return [(key, text) for key, text in names if is_reference(text)]


def _names_file(source: str) -> bool:
    return Path(source).suffix.lower() in SUFFIXES


def _missing_source(data: DataSettings, folder: Path) -> Problems:
    """Return the problems of a source. Its form tells whether it is a file, a function or a built-in name."""
    source = data.source
    if _names_file(source):
        problems = []
        if not is_file(folder / source):
            problems.append(("data.source", f"no such file: {folder / source}"))
        if data.target is None and Path(source).suffix.lower() != ".npz":
            problems.append(("data.target", "missing; a table needs the name of its target column"))
        return problems
    built_in = get_args(BuiltInSource)
    if is_reference(source) or source in built_in:
        return []
    valid = f"{', '.join(built_in)}; a file ({', '.join(SUFFIXES)}); or `package.module:function`"
    return [("data.source", f"given {source!r}; valid: {valid}{did_you_mean(source, built_in)}")]


# What is wrong with a configuration


def check_configuration(
    model: ModelSettings,
    training: TrainingSettings,
    configuration: Configuration,
    *,
    transform: str | None = None,
) -> Problems:
    """Return the problems that the trainer would find in the names and values of a configuration.

    Args:
        model: The section.
        training: The section.
        configuration: The configuration.
        transform: The transform of the rows; None if there is none.
    """
    problems: list[tuple[str, str]] = []
    for name, value in configuration.items():
        if name.startswith("data.") and not is_parameter(name):
            unknown: str | None = "cannot be searched: trials with different rows cannot be compared"
        elif name.startswith("data."):
            unknown = (
                None
                if transform
                else "unknown parameter; it would be an argument of data.transform, not given"
            )
        else:
            unknown = _check_name(name, model, training)
        problems += [(name, unknown)] if unknown else _check_value(name, value, model, training)
    return problems


def _check_name(name: str, model: ModelSettings, training: TrainingSettings) -> str | None:
    """Return the problem of a parameter's name; None if the name is valid."""
    section, _, key = name.partition(".")
    fixed = key.split(".")[0]
    if section == "training" and fixed in FIXED_TRAINING_KEYS:
        return f"cannot be searched: trials with different {fixed} cannot be compared"
    if section == "model" and is_reference(model.name):
        return None
    if (section == "optimizer" and key) or name.startswith("training.schedule.arguments."):
        return None
    if section == "loss" and key:
        return _check_loss_argument(key, training.loss)
    valid = parameter_names(model)
    if name in valid:
        return None
    places = {key: place.removeprefix("search.space.") for key, place in ELSEWHERE.items()}
    meant = {key: place for key, place in places.items() if not place.startswith("model.") or place in valid}
    hint = place_of(name, meant) or did_you_mean(name, valid) or f"; valid: {', '.join(valid)}"
    return f"unknown parameter{hint}"


def _check_loss_argument(key: str, loss: str) -> str | None:
    if is_reference(loss):
        return None
    valid = LOSS_ARGUMENTS.get(loss, ())
    if key in valid:
        return None
    return (
        f"loss {loss} has no argument {key!r}; valid: {', '.join(valid) or 'none'}{did_you_mean(key, valid)}"
    )


def _check_value(name: str, value: Any, model: ModelSettings, training: TrainingSettings) -> Problems:
    """Return the problems of this value of a parameter."""
    try:
        plan = plan_training(model, training, VALIDATION_LOSS, {name: value}, seed=0)
    except ValidationError as error:
        return [(name, message) for _, message in problems_of(error, None, TrainingPlan)]
    if name.startswith("model."):
        arguments = {name.partition(".")[2]: value}
        return [(name, text) for text in check_model_arguments(plan.model.name, arguments)]
    return []


def _check_device(device: str, workers: int) -> Problems:
    if workers == 1 or device in {"auto", "cpu", "cuda"}:
        return []
    return [
        (
            "training.device",
            f"given {device!r}; valid with several workers a trial (`resources.workers_per_trial`): auto, "
            "cpu or cuda, since each trains on the CPU or on its own GPU",
        )
    ]


def unused_parameters(space: Mapping[str, Searched]) -> list[str]:
    """Return a sentence for each parameter that does nothing for one of the searched optimizers."""
    optimizers = space.get("optimizer")
    searched = set(optimizers.values) if optimizers and optimizers.values is not None else {"sgd"}
    own = {name for name in searched if is_reference(str(name))} or {"`package.module:function`"}
    found = []
    for name, users in (
        *OPTIMIZERS_USING.items(),
        *((name, own) for name in space if name.startswith("optimizer.")),
    ):
        parameter = space.get(name)
        idle = sorted(searched - users)
        if parameter and idle and "optimizer" not in parameter.depends_on:
            used = sorted(searched & users)
            cure = (
                f"add `when: {{optimizer: [{', '.join(used)}]}}`"
                if used
                else f"leave it out, or search optimizer with {' or '.join(sorted(users))} among its values"
            )
            found.append(f"search.space.{name} does nothing for {', '.join(idle)}; {cure}")
    return found
