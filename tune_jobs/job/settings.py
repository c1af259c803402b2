"""Settings of the search, the scheduler, resources, limits and tracking; trainers has those of data and training."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, model_validator
from pydantic_core import PydanticCustomError

from tune_jobs.search_spaces import SearchSpace, SearchSpaceError, parse_space
from tune_jobs.trainers.settings import Count, NonNegative, Positive, Reference, Settings

SearchMethod = Literal["gp", "tpe", "random", "grid"]
SchedulerMethod = Literal["asha", "asha_stopping", "median", "none"]


def _parse_space(given: object) -> SearchSpace:
    if isinstance(given, SearchSpace):
        return given
    if not isinstance(given, Mapping):
        raise PydanticCustomError("dict_type", "a section of parameters")
    try:
        return parse_space(given)
    except SearchSpaceError as error:
        raise PydanticCustomError("search_space", "search space", {"problems": error.problems}) from error


Space = Annotated[
    SearchSpace, PlainValidator(_parse_space), PlainSerializer(lambda space: space.to_mapping())
]


class SearchSettings(Settings):
    """Search space, method and number of trials."""

    space: Space
    method: SearchMethod = "gp"
    trials: Count = 48
    """Configurations to try; none is tried twice, so a finite space is tried once at most."""
    points: Annotated[tuple[dict[str, Any], ...], Field(strict=False)] = ()
    """Configurations to try first; parameters that a point leaves out are drawn at random."""

    @property
    def is_model_based(self) -> bool:
        """Return whether the method uses a model, which takes time for each proposal."""
        return self.method in {"gp", "tpe"}


class SchedulerSettings(Settings):
    """The rule that decides which trials continue.

    Rungs are `grace_epochs * reduction_factor ** k` epochs; at each rung one trial in `reduction_factor` continues
    (successive halving: Jamieson and Talwalkar 2016; asynchronous: Li et al. 2020).
    """

    method: SchedulerMethod = "asha"
    grace_epochs: Count = 2
    """Epochs that every trial is trained. The first epoch often shows the start of a training, not its result."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3

    @property
    def pauses_trials(self) -> bool:
        """Return whether trials pause at their rungs until they are promoted."""
        return self.method == "asha"


SMALLEST_SHARE = 1e-4
"""Smallest share of a CPU or a GPU in Ray."""


def _gpus(count: float) -> float:
    """Refuse a value that Ray would refuse only when the first trial starts."""
    if 0 < count < SMALLEST_SHARE or (count > 1 and count % 1):
        raise ValueError(
            f"given {count:g}; valid: 0, a share of a GPU from {SMALLEST_SHARE:g} to 1, or a whole number"
        )
    return count


class ResourceSettings(Settings):
    """Resources of one trial, and the number of trials at a time."""

    workers_per_trial: Annotated[int, Field(ge=1, le=1024)] = 1
    """Processes that train one trial together, on one machine or several; each has its share of every batch."""
    cpus_per_trial: Annotated[float, Field(ge=SMALLEST_SHARE, le=4096, allow_inf_nan=False)] = 1
    """CPUs of a trial, or of each of its workers if it has several. Each process computes with as many threads.

    There is a limit, because a process that asks for more threads than the system allows dies without a message.
    """
    gpus_per_trial: Annotated[NonNegative, AfterValidator(_gpus)] = 0
    """GPUs of a trial, or of each worker of a trial; each of several workers uses at most one."""
    max_concurrent: Count | None = None
    """Trials at a time; null takes as many as fit on the machine or cluster."""

    @model_validator(mode="after")
    def _one_gpu_a_worker(self) -> Self:
        if self.workers_per_trial > 1 and self.gpus_per_trial not in {0, 1}:
            raise ValueError(
                f"gpus_per_trial is {self.gpus_per_trial:g} for each of {self.workers_per_trial} workers; a worker "
                "of several trains on its own GPU: set gpus_per_trial to 1, or to 0 for CPUs"
            )
        return self

    @property
    def bundles(self) -> tuple[dict[str, float], ...]:
        """Return the bundles that Ray reserves for one trial: each is on one node, the first for the trial's process.

        With several workers that process takes nothing, and each worker has a bundle. Resources with amount zero are
        left out.
        """
        asked = {"CPU": self.cpus_per_trial, "GPU": self.gpus_per_trial}
        worker = {name: float(amount) for name, amount in asked.items() if amount}
        if self.workers_per_trial == 1:
            return (worker,)
        return ({}, *(dict(worker) for _ in range(self.workers_per_trial)))


class LimitSettings(Settings):
    """Limits of time and of retries."""

    minutes: Positive | None = None
    """Minutes of the search; then the best trial so far is selected."""
    minutes_per_epoch: Positive | None = None
    """Minutes without a report after which a trial's worker is ended and counts as lost."""
    retries_per_trial: Annotated[int, Field(ge=0)] = 2
    """Number of times that a trial that lost its worker continues from its last checkpoint."""


def _project(name: str) -> str:
    """Refuse a value that W&B would refuse only when the first trial starts."""
    if not 1 <= len(name) <= 128 or set(name) & set("/\\#?%:"):
        raise ValueError(f"given {name!r}; valid: 1 to 128 characters, none of them / \\ # ? % :")
    return name


def _tag(tag: str) -> str:
    if not 1 <= len(tag) <= 64:
        raise ValueError(f"given {tag!r}; valid: 1 to 64 characters")
    return tag


class WandbSettings(Settings):
    """Project, account and mode of the W&B runs."""

    project: Annotated[str, AfterValidator(_project)]
    entity: str | None = None
    mode: Literal["offline", "online"] = "offline"
    """In both modes everything is written into the run folder; online, a process beside the run uploads it."""
    tags: Annotated[tuple[Annotated[str, AfterValidator(_tag)], ...], Field(strict=False)] = ()
    """Tags in addition to the names of the search method and the scheduler."""


class TrackingSettings(Settings):
    """Dashboards beside the run folder; they never delay a trial."""

    wandb: WandbSettings | None = None
    tensorboard: bool = False
    trackers: Annotated[tuple[Reference, ...], Field(strict=False)] = ()
    """The user's own trackers: functions that take a `TrackedRun` and return a `Tracker`."""
