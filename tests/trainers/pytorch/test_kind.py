"""The PyTorch kind keeps the promises of every kind, in several configurations."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.conformance import Case, KindConformance
from tune_jobs.trainers.data.settings import DataSettings
from tune_jobs.trainers.interface import StopReason
from tune_jobs.trainers.pytorch.kind import PyTorchKind
from tune_jobs.trainers.pytorch.settings import ModelSettings, TrainingSettings
from tune_jobs.trainers.settings import ScoreSettings


def kind(model: Mapping[str, Any], data: Mapping[str, Any] | None = None, **training: Any) -> PyTorchKind:
    small = {"source": "linear_gaussian", "arguments": {"n": 60, "features": 3, "sigma": 0.5}}
    return PyTorchKind(
        data=DataSettings.model_validate(small if data is None else data),
        model=ModelSettings.model_validate(model),
        training=TrainingSettings.model_validate(
            {"max_epochs": 4, "loss": "mse", "device": "cpu", **training}
        ),
    )


WINE = {"source": "wine", "split": {"method": "stratified"}}
MLP = {"name": "mlp", "arguments": {"hidden": [5], "dropout": 0.2}}
CASES: dict[str, tuple[PyTorchKind, Mapping[str, Any], Mapping[str, Any]]] = {
    "plain": (kind({"name": "linear"}), {"lr": 0.05}, {"lr": 0.01}),
    "dropout and a schedule": (
        kind(MLP, WINE, loss="cross_entropy", metrics=["accuracy"], schedule={"name": "one_cycle"}),
        {"optimizer": "adam", "lr": 0.01, "batch_size": 16},
        {"optimizer": "sgd", "lr": 0.01, "momentum": 0.9},
    ),
    "a module that draws from all generators": (
        kind({"name": "user_code:Noisy"}, clip_grad_norm=1.0),
        {"optimizer": "rmsprop", "lr": 0.01, "momentum": 0.5},
        {"optimizer": "adagrad", "lr": 0.02},
    ),
    "full batches": (
        kind({"name": "linear"}, schedule={"name": "plateau", "patience": 0}),
        {"optimizer": "lbfgs", "lr": 0.1, "batch_size": "full"},
        {"optimizer": "adamw", "lr": 0.1, "batch_size": 7},
    ),
}


@pytest.mark.parametrize("name", CASES)
class TestPyTorchKind(KindConformance):
    @pytest.fixture
    def case(self, name: str, user_code: str, tmp_path: Path) -> Case:
        own, configuration, other = CASES[name]
        early = {"early_stopping": {"patience": 2, "min_delta": 1e6}}
        good = {"early_stopping": {"threshold": 1e6}}
        return Case(
            kind=own,
            configuration=configuration,
            other=other,
            diverging={"optimizer": "sgd", "lr": 1e30},
            score=ScoreSettings(metric="val_loss"),
            evaluated="loss",
            early=[
                (changed(own, early), configuration, StopReason.PATIENCE),
                (changed(own, good), configuration, StopReason.THRESHOLD),
            ],
            failing=(changed(own, {"metrics": ["user_code:wordy"]}), configuration, "wordy"),
            base=tmp_path,
        )


def changed(own: PyTorchKind, training: Mapping[str, Any]) -> PyTorchKind:
    settings = TrainingSettings.model_validate({**own.training.model_dump(), **training})
    return PyTorchKind(data=own.data, model=own.model, training=settings)
