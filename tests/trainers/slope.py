"""A small kind of training in pure Python: a line through points by stochastic gradient descent.

It shows what a kind needs, and proves that tune-jobs does not depend on the built-in kind elsewhere: it imports
no framework, and its section and its metrics have their own names.

    slope: {epochs: 9}
    search: {space: {rate: {low: 0.001, high: 0.5, log: true}}}
"""

import json
import math
import os
import random
import signal
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, BinaryIO, ClassVar, Literal, Self

from pydantic import Field, ValidationError

from tune_jobs.trainers import kinds
from tune_jobs.trainers.data import DataInfo, PreparedData, Rows, TrainingData, prepare_data
from tune_jobs.trainers.data.settings import DataSettings
from tune_jobs.trainers.errors import CheckpointError, Diverged, ModelError
from tune_jobs.trainers.facts import KindFacts, Metric
from tune_jobs.trainers.interface import Capabilities, EpochResult, Evaluation, StopReason, TrainingRequest
from tune_jobs.trainers.kinds import KindEntry, register
from tune_jobs.trainers.messages import problems_of
from tune_jobs.trainers.scores import BestEpoch, better
from tune_jobs.trainers.settings import Count, NonNegative, Positive, Settings

ENTRY = KindEntry("slope", ("slope",), f"{__name__}:Slope")
ERROR = Metric(name="error", direction="min", best=0.0, on_training="training_error")


def register_slope() -> None:
    """Register the kind in this process, as code with an own kind does."""
    register(ENTRY)


@contextmanager
def slope_registered() -> Iterator[None]:
    """Register the kind within the block alone: other tests know the kinds of the package."""
    before = kinds.ENTRIES
    kinds.ENTRIES = dict(before)
    try:
        register_slope()
        yield
    finally:
        kinds.ENTRIES = before


class SlopeSettings(Settings):
    """The section of a job that chooses this kind."""

    epochs: Count = 9
    """Epochs of a full training."""
    rows: Count = 40
    """The number of points, with those of validation and test."""
    settled: NonNegative = 0.0
    """A training stops after an epoch that moves the line by less than this."""
    pause: NonNegative = 0.0
    """Seconds that an epoch sleeps."""
    hold: str | None = None
    """Path of a file: while it exists, no training begins its last epoch."""
    fail_at: Count | None = None
    """Epoch in which every training fails."""
    ballast: Annotated[int, Field(ge=0)] = 0
    """Bytes that a checkpoint has beside its content."""
    folder: str = "."
    """Path of the folder with the marks of what happens once, see `how`."""


class SlopeConfiguration(Settings):
    """Parameters of a configuration."""

    rate: Positive = 0.01
    decay: NonNegative = 0.0
    bad: NonNegative = 0.0
    """How far from the points the line begins."""
    how: Literal["", "raise", "crash", "crash_once", "crash_later", "hang_once", "held"] = ""
    """What happens to the training when an epoch begins, see `_suffer`."""


@dataclass(frozen=True, kw_only=True)
class Slope:
    """The kind."""

    name: ClassVar[str] = "slope"
    capabilities: ClassVar[Capabilities] = Capabilities(
        resumes=True, exact=True, seals_test=True, data_parallel=False, vectorises=False, inherits=True
    )
    sections: ClassVar[Mapping[str, type[Settings]]] = MappingProxyType({"slope": SlopeSettings})
    changeable: ClassVar[tuple[str, ...]] = ("slope.pause", "slope.hold", "slope.fail_at", "slope.folder")

    slope: SlopeSettings

    @property
    def max_epochs(self) -> int:
        return self.slope.epochs

    @staticmethod
    def facts(sections: Mapping[str, Any]) -> KindFacts:
        settings: SlopeSettings | None = sections.get("slope")
        return KindFacts(
            title="a line through points",
            max_epochs=None if settings is None else settings.epochs,
            max_epochs_key="slope.epochs",
            metrics=(ERROR,),
            default_metric=ERROR,
            parameter_names=tuple(SlopeConfiguration.model_fields),
            check=_check,
        )

    @staticmethod
    def is_parameter(name: str) -> bool:
        return False

    def prepare(self, base: Path) -> PreparedData:
        arguments = {"n": self.slope.rows, "features": 1, "sigma": 0.1}
        return prepare_data(DataSettings(source="linear_gaussian", arguments=arguments), "mse", base)

    def start(self, request: TrainingRequest, data: TrainingData | None) -> "SlopeTraining":
        assert data is not None
        if request.worker.workers > 1:
            raise ModelError("several workers cannot train one line together")
        return SlopeTraining(self.slope, request, _points(data.train), _points(data.validation))

    def evaluator(
        self, request: TrainingRequest, file: BinaryIO, info: DataInfo | None
    ) -> Callable[[Rows], Evaluation]:
        weight, bias = self.load_model(request, file, info)
        return lambda rows: Evaluation(metrics={"error": _error(_points(rows), weight, bias)})

    def load_model(
        self, request: TrainingRequest, file: BinaryIO, info: DataInfo | None
    ) -> tuple[float, float]:
        best = _read(file, request, inherit=False)["best_line"]
        if best is None:
            raise CheckpointError("the checkpoint has no best epoch: no error was a finite number")
        weight, bias = best
        return weight, bias


class SlopeTraining:
    """One training: a `Training` of the interface."""

    def __init__(
        self, settings: SlopeSettings, request: TrainingRequest, train: "Points", validation: "Points"
    ) -> None:
        self.epoch = 0
        self._settings, self._request = settings, request
        self._train, self._validation = train, validation
        self._parameters = SlopeConfiguration.model_validate(dict(request.configuration))
        self._random = random.Random(request.seed)
        self._line = (self._random.gauss(), self._random.gauss() + self._parameters.bad)
        self._moved = math.inf
        self._last: EpochResult | None = None
        self._best: BestEpoch | None = None
        self._best_line: tuple[float, float] | None = None

    @property
    def stop_reason(self) -> StopReason | None:
        if self._last is None or self._last.diverged:
            return None
        if self.epoch >= self._request.max_epochs:
            return StopReason.MAX_EPOCHS
        return StopReason.USER if self._moved < self._settings.settled else None

    def epochs(self) -> Generator[EpochResult, None, None]:
        while self.stop_reason is None:
            if self._last is not None and self._last.diverged:
                raise Diverged(f"the error is no finite number at epoch {self.epoch}; lower rate")
            yield self._run_epoch()

    def save(self, file: BinaryIO) -> bool:
        if self._last is None:
            return False
        state = {
            "by": _signature(self._request),
            "epoch": self.epoch,
            "line": self._line,
            "moved": self._moved,
            "random": self._random.getstate(),
            "last": self._last.to_mapping(),
            "best": None if self._best is None else (self._best.epoch, self._best.score),
            "best_line": self._best_line,
        }
        file.write(json.dumps(state).encode())
        file.write(b" " * self._settings.ballast)
        return True

    def load(self, file: BinaryIO, *, inherit: bool = False) -> None:
        state = _read(file, self._request, inherit=inherit)
        version, words, gauss = state["random"]
        self._random.setstate((version, tuple(words), gauss))
        self.epoch, self._moved = state["epoch"], state["moved"]
        self._line, self._best_line = tuple(state["line"]), state["best_line"] and tuple(state["best_line"])
        self._last = EpochResult.from_mapping(state["last"])
        self._best = None if state["best"] is None else BestEpoch(*state["best"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def _run_epoch(self) -> EpochResult:
        start = time.perf_counter()
        epoch = self.epoch + 1
        if epoch == self._settings.fail_at:
            raise RuntimeError(f"told to fail at epoch {epoch}")
        _suffer(self._parameters.how, Path(self._settings.folder), epoch)
        time.sleep(self._settings.pause)
        while epoch == self._request.max_epochs and Path(self._settings.hold or "").is_file():
            time.sleep(0.05)
        before = self._line
        for x, y in self._random.sample(self._train, len(self._train)):
            self._step(x, y)
        self._moved = math.dist(before, self._line)
        metrics = {
            "training_error": _error(self._train, *self._line),
            "error": _error(self._validation, *self._line),
        }
        self._last = EpochResult(
            epoch=epoch,
            metrics=metrics,
            seconds=time.perf_counter() - start,
            diverged=not all(map(math.isfinite, self._line)),
        )
        best = better(self._best, self._last.to_mapping(), self._request.score)
        if best is not self._best:
            self._best, self._best_line = best, self._line
        self.epoch = epoch
        return self._last

    def _step(self, x: float, y: float) -> None:
        weight, bias = self._line
        off = weight * x + bias - y
        rate, decay = self._parameters.rate, self._parameters.decay
        self._line = (weight - rate * (off * x + decay * weight), bias - rate * off)


def _suffer(how: str, folder: Path, epoch: int) -> None:
    """Let happen what a configuration asks for when an epoch begins. What happens once leaves a mark in the folder."""
    if how == "raise":
        raise RuntimeError("the user's own fault")
    mark = folder / how
    again = mark.exists()
    if how == "crash" or (not again and (how == "crash_once" or (how == "crash_later" and epoch == 3))):
        mark.touch()
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "hang_once" and not again:
        mark.touch()
        time.sleep(1000)
    while how == "held" and not (folder / "go").exists():
        time.sleep(0.05)


Points = Sequence[tuple[float, float]]


def _points(rows: Rows) -> Points:
    return [(x, y) for (x,), (y,) in zip(rows.x.tolist(), rows.y.tolist(), strict=True)]


def _error(points: Points, weight: float, bias: float) -> float:
    try:
        return math.fsum((weight * x + bias - y) ** 2 for x, y in points) / len(points)
    except OverflowError:
        return math.inf


def _signature(request: TrainingRequest) -> list[Any]:
    return [dict(request.configuration), request.seed, request.max_epochs]


def _read(file: BinaryIO, request: TrainingRequest, *, inherit: bool) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads(file.read())
        by = state["by"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            "the checkpoint is not of a training of a line; continue from another one"
        ) from error
    if not inherit and by != json.loads(json.dumps(_signature(request))):
        raise CheckpointError(
            "the checkpoint is of another training of a line: its configuration or seed differs"
        )
    return state


def _check(configuration: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    try:
        SlopeConfiguration.model_validate(dict(configuration))
    except ValidationError as error:
        return problems_of(error, configuration, SlopeConfiguration)
    return ()
