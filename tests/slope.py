"""A second kind of training: least squares by gradient descent, in NumPy alone.

It proves that nothing but `tune_jobs.trainers` knows the PyTorch kind. A job chooses it by the section `slope`:

    slope: {rows: 60, max_epochs: 9}
    search: {space: {rate: {low: 0.01, high: 0.5, log: true}}}
"""

import json
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Self

import numpy as np

from tune_jobs.trainers.data import DataInfo, PreparedData, Rows, TrainingData, prepare_data
from tune_jobs.trainers.data.settings import DataSettings
from tune_jobs.trainers.errors import CheckpointError, Diverged
from tune_jobs.trainers.facts import Configuration, KindFacts, Metric, Problems
from tune_jobs.trainers.interface import (
    Capabilities,
    EpochResult,
    Evaluation,
    StopReason,
    TrainingRequest,
)
from tune_jobs.trainers.kinds import KindEntry, register
from tune_jobs.trainers.settings import Count, Settings

METRICS = (Metric(name="error", direction="min", best=0.0), Metric(name="norm"))


class SlopeSettings(Settings):
    """The section `slope` of a job."""

    rows: Count = 60
    max_epochs: Count = 9
    seconds_per_epoch: float = 0.0
    """How long an epoch sleeps, for tests that stop a run."""


class Descent:
    """One training: the weights of a linear model, moved against the gradient once an epoch."""

    def __init__(self, settings: SlopeSettings, request: TrainingRequest, data: TrainingData) -> None:
        self._settings, self._request, self._data = settings, request, data
        random = np.random.Generator(np.random.PCG64(request.seed))
        self._weights = random.standard_normal(data.train.x.shape[1])
        self._best: tuple[int, float, list[float]] | None = None
        self.epoch = 0

    @property
    def stop_reason(self) -> StopReason | None:
        return StopReason.MAX_EPOCHS if self.epoch >= self._request.max_epochs else None

    def epochs(self) -> Generator[EpochResult, None, None]:
        while self.stop_reason is None:
            began = time.perf_counter()
            time.sleep(self._settings.seconds_per_epoch)
            x, y = self._data.train.x, self._data.train.y[:, 0]
            self._weights = self._weights - self._request.configuration["rate"] * 2 * x.T @ (
                x @ self._weights - y
            ) / len(x)
            error = squared_error(self._weights, self._data.validation)
            self.epoch += 1
            score = self._request.score.cost(
                {"error": error, "norm": self._norm()}[self._request.score.metric]
            )
            if self._best is None or score < self._best[1]:
                self._best = (self.epoch, score, self._weights.tolist())
            diverged = not np.isfinite(error)
            yield EpochResult(
                epoch=self.epoch,
                metrics={"error": error, "norm": self._norm()},
                seconds=time.perf_counter() - began,
                diverged=diverged,
            )
            if diverged:
                raise Diverged(f"the error of epoch {self.epoch} is {error}")

    def _norm(self) -> float:
        return float(np.abs(self._weights).max())

    def save(self, file: BinaryIO) -> bool:
        state = {"epoch": self.epoch, "weights": self._weights.tolist(), "best": self._best}
        file.write(json.dumps(state).encode())
        return True

    def load(self, file: BinaryIO, *, inherit: bool = False) -> None:
        state = _read(file)
        self.epoch, self._weights = state["epoch"], np.array(state["weights"])
        self._best = None if state["best"] is None else tuple(state["best"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None


@dataclass(frozen=True, kw_only=True)
class Slope:
    """The kind."""

    name: ClassVar[str] = "slope"
    capabilities: ClassVar[Capabilities] = Capabilities(
        resumes=True, exact=True, seals_test=True, data_parallel=False, vectorises=False, inherits=False
    )
    sections: ClassVar[Mapping[str, type[Settings]]] = {"slope": SlopeSettings}
    changeable: ClassVar[tuple[str, ...]] = ()

    slope: SlopeSettings

    @staticmethod
    def facts(sections: Mapping[str, Any]) -> KindFacts:
        slope = sections.get("slope")
        return KindFacts(
            title="slope on made-up rows",
            labels={"data": "made-up rows"},
            max_epochs=None if slope is None else slope.max_epochs,
            max_epochs_key="slope.max_epochs",
            metrics=METRICS,
            parameter_names=("rate",),
            check=check,
        )

    @staticmethod
    def is_parameter(name: str) -> bool:
        return False

    @property
    def max_epochs(self) -> int:
        return self.slope.max_epochs

    def prepare(self, base: Path) -> PreparedData:
        rows = DataSettings(source="linear_gaussian", arguments={"n": self.slope.rows})
        return prepare_data(rows, "mse", base)

    def start(self, request: TrainingRequest, data: TrainingData | None) -> Descent:
        assert data is not None
        return Descent(self.slope, request, data)

    def evaluator(
        self, request: TrainingRequest, file: BinaryIO, info: DataInfo | None
    ) -> Callable[[Rows], Evaluation]:
        weights = self.load_model(request, file, info)
        return lambda rows: Evaluation(metrics={"error": squared_error(weights, rows)})

    def load_model(self, request: TrainingRequest, file: BinaryIO, info: DataInfo | None) -> Any:
        best = _read(file)["best"]
        if best is None:
            raise CheckpointError("no epoch was the best")
        return np.array(best[2])


def check(configuration: Configuration) -> Problems:
    """Return what is wrong with a configuration."""
    problems = []
    for name, value in configuration.items():
        if name != "rate":
            problems.append((name, "unknown parameter; valid: rate"))
        elif not isinstance(value, int | float) or not value > 0:
            problems.append((name, f"given {value!r}; valid: a number above 0"))
    return problems


def squared_error(weights: Any, rows: Rows) -> float:
    """Return the mean squared error of a linear model."""
    return float(np.mean((rows.x @ weights - rows.y[:, 0]) ** 2))


def _read(file: BinaryIO) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read()))
    except ValueError as error:
        raise CheckpointError(f"the state of the training is damaged: {error}") from error


def register_slope() -> None:
    """Make the kind known in this process."""
    register(KindEntry("slope", ("slope",), f"{__name__}:Slope"))


JOB: Mapping[str, Any] = {
    "name": "slope",
    "slope": {"max_epochs": 9},
    "search": {"space": {"rate": {"low": 0.01, "high": 0.5, "log": True}}, "trials": 4},
    "selection": {"metric": "error"},
}
"""The sections of a job of this kind."""
