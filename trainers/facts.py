"""Facts that a kind of training knows about a job before anything starts.

A kind is asked for its facts with those of its sections that are valid. If one of them is invalid, the facts that
depend on it are left at their defaults, so one bad section does not hide what is wrong with the others.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tune_jobs.trainers.interface import Seal

Problems = Sequence[tuple[str, str]]
"""Problems: pairs of a dotted key, such as `training.loss`, and a message."""
Configuration = Mapping[str, Any]
"""Values by the names of parameters, as a search proposes them."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number that trainings measure after every epoch."""

    name: str
    direction: Literal["min", "max"] | None = None
    """Whether low or high values are good; None if the job alone can tell."""
    best: float | None = None
    """The value that no result can be better than; None if there is none, or it is unknown."""
    on_training: str | None = None
    """The name under which the same quantity is measured on training rows; None if it is not."""


@dataclass(frozen=True, kw_only=True)
class Searched:
    """A parameter of a search space, as far as a kind needs to know it."""

    values: Sequence[Any] | None
    """All values that it can take; None for a range."""
    depends_on: Sequence[str] = ()
    """The parameters that decide whether this one applies."""


def _find_nothing(*_: Any) -> Sequence[Any]:
    return ()


@dataclass(frozen=True, kw_only=True)
class KindFacts:
    """The facts about one job. Functions are pure; none of them imports a framework or the user's code."""

    title: str = ""
    """Model and data, for a sentence: `mlp on digits`."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Model and data, for filters of a dashboard: `{"data": "digits", "model": "mlp"}`. A plan names the data by
    `data`, or by the title."""
    max_epochs: int | None = None
    """Epochs of a full training; None if the section that sets them is invalid."""
    max_epochs_key: str = ""
    """The key of a job that sets `max_epochs`, for messages."""
    metrics: Sequence[Metric] | None = ()
    """Possible selection metrics, the training's own loss first; None if unknown before the first epoch."""
    default_metric: Metric | None = None
    """The selection metric of a job that names none; None if each job must name one. It depends on no section."""
    reported_settings: Sequence[str] = ()
    """Names of reported numbers that say nothing about how good a model is, such as the learning rate of an epoch."""
    metrics_key: str = ""
    """The key that lists the metrics, for messages; empty if there is none."""
    parameter_names: Sequence[str] | None = None
    """Names that a configuration may set; None if any name is allowed."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Data files by the key that names them, as the job writes them; a relative path counts from the job's folder."""
    references: Sequence[tuple[str, str]] = ()
    """Keys that name a function of the user's code, with its `package.module:function`."""
    reference_parameters: Sequence[str] = ()
    """Parameters of a configuration whose values may name such functions too."""
    modules: Sequence[str] = ()
    """Dotted names of further modules of the user's code, whose files a run keeps and compares."""
    seal: Seal = Seal.NONE
    """How well test rows are sealed if `prepare` returns none; it is `Seal.ROWS` otherwise."""
    starts_user_code: bool = False
    """Whether starting a training runs code of the user that `tune-jobs validate` tries in a process of its own."""
    problems: Problems = ()
    """Problems in and between the sections."""
    missing: Callable[[Path], Problems] = _find_nothing
    """Takes the job's folder; returns the data files and sources that the sections name and that do not exist."""
    check: Callable[[Configuration], Problems] = _find_nothing
    """Takes a configuration; returns the problems of its names and values, by the names of the parameters."""
    check_names: Callable[[Collection[str], Path], Problems] = _find_nothing
    """Takes the names of the searched parameters and the job's folder; returns the problems of names that the user's
    code does not take, or lacks. The code is read, not imported."""
    check_metric: Callable[[str], Problems] = _find_nothing
    """Takes the selection metric; returns why it cannot select, apart from not being one of `metrics`."""
    check_workers: Callable[[int], Problems] = _find_nothing
    """Takes the number of workers that train one model; returns the keys that do not go with it.

    It is not called with more than one worker if the kind lacks the capability `data_parallel`.
    """
    notices: Callable[[Mapping[str, Searched]], Sequence[str]] = _find_nothing
    """Takes a search space; returns sentences about entries that are valid but probably a mistake."""
    packages: Sequence[str] = ()
    """Names of the installed packages that curves depend on. Their versions are recorded with a run, and must be the
    same on all machines of a run."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Common names of parameters in other tools, each with the parameter's name in a job of this kind."""
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """Names of settings and parameters in other tools, without - _ . and in lower case, each with its dotted key in a
    job of this kind."""
    template: str = ""
    """The kind's sections as lines of a job file, with placeholders for what the user must fill in."""

    def metric(self, name: str) -> Metric:
        """Return the metric of this name; its unknown fields are None."""
        return next((metric for metric in self.metrics or () if metric.name == name), Metric(name=name))
