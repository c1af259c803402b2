"""Small data, plans and user code for the tests of the training side."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tune_jobs.trainers.data import DataInfo, Encoding, Number, Rows, TargetEncoding, TrainingData
from tune_jobs.trainers.pytorch.plan import TrainingPlan

MakeData = Callable[..., TrainingData]
MakePlan = Callable[..., TrainingPlan]

USER_CODE = """
import random
import numpy as np
import torch
from torch import nn

class InPlace(nn.Module):
    '''Changes its input, which it multiplies by a weight.'''
    def __init__(self, input_shape, outputs):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(input_shape))
        self.linear = nn.Linear(input_shape[0], outputs)
    def forward(self, x):
        return self.linear(x.mul_(self.scale).add_(1.0))

class Noisy(nn.Module):
    '''Draws from all three global generators.'''
    def __init__(self, input_shape, outputs):
        super().__init__()
        self.linear = nn.Linear(input_shape[0], outputs)
    def forward(self, x):
        if self.training:
            x = x + 0.1 * torch.randn_like(x) + random.gauss(0, 0.1) + np.random.normal() * 0.1
        return self.linear(x)

class Restless(Noisy):
    '''Is made in evaluation mode, and draws in every mode.'''
    def __init__(self, input_shape, outputs):
        super().__init__(input_shape, outputs)
        self.modes = []
        self.eval()
    def forward(self, x):
        self.modes.append(self.training)
        np.random.normal(), random.random(), torch.rand(1)
        return self.linear(x)

class Caching(nn.Module):
    '''Keeps what it computes in its first call, in which nothing is trained, for all others.'''
    def __init__(self, input_shape, outputs):
        super().__init__()
        self.scale, self.linear = None, nn.Linear(input_shape[0], outputs)
    def forward(self, x):
        if self.scale is None or not self.training:
            self.scale = torch.full((1,), 0.5)
        return self.linear(x) * self.scale

class Squeezed(nn.Module):
    '''Loses a dimension for a batch of one row.'''
    def __init__(self, input_shape):
        super().__init__()
        self.linear = nn.Linear(input_shape[0], 1)
    def forward(self, x):
        out = self.linear(x)
        return out if len(x) > 1 else out.squeeze(0)

def double(input_shape, outputs):
    return nn.Linear(input_shape[0], outputs).double()

def defaulting(input_shape, outputs):
    torch.set_default_dtype(torch.float64)
    return nn.Linear(input_shape[0], outputs)

def flat(input_shape):
    return nn.Sequential(nn.Linear(input_shape[0], 1), nn.Flatten(0))

def frozen(input_shape, outputs):
    return nn.Linear(input_shape[0], outputs).requires_grad_(False)

def net(width, input_shape, outputs):
    return nn.Sequential(nn.Linear(input_shape[0], width), nn.Linear(width, outputs))

def no_module(outputs):
    return "a string"

def raises(outputs):
    raise RuntimeError("out of ideas")

def failing(input_shape, outputs):
    return nn.Linear(input_shape[0] + 1, outputs)

def half_mse(outputs, targets):
    return ((outputs - targets) ** 2).mean() / 2

def per_row(outputs, targets):
    return (outputs - targets) ** 2

def greedy_loss(outputs, targets):
    loss = ((outputs - targets) ** 2).mean()
    targets.zero_()
    return loss

def bias(outputs, targets):
    return (outputs - targets).mean()

def destructive(outputs, targets):
    outputs.zero_()
    targets.zero_()
    return 0

def mse(outputs, targets):
    return 7

def wordy(outputs, targets):
    return "good"

def always_nan(outputs, targets):
    return float("nan")

def smoothed(outputs, targets, smoothing, power=2):
    return (1 - smoothing) * ((outputs - targets).abs() ** power).mean()

class Weighted:
    def __init__(self, weight=1.0):
        self.weight = weight
    def __call__(self, outputs, targets):
        return self.weight * ((outputs - targets) ** 2).mean()

def layerwise(model, lr, factor=0.5):
    first, *rest = model.parameters()
    return torch.optim.AdamW([{"params": [first], "lr": lr * factor}, {"params": rest}], lr=lr)

def no_optimizer(parameters, lr):
    return "words"

def warm_up(optimizer, total_steps, start=0.1):
    return torch.optim.lr_scheduler.LinearLR(optimizer, start, total_iters=total_steps)

def window(x, length=2):
    x *= 1.0  # the rows are its own
    return x[:, -length:]

def centred(x):
    return x - x.mean(0)

def summed(x):
    return x.sum(1)

RISE_AND_FALL = [1.0, 3.0, float("nan"), 3.0, 2.0]
seen = []
def scripted(outputs, targets):
    seen.append(0)
    return RISE_AND_FALL[(len(seen) - 1) % len(RISE_AND_FALL)]
"""


@pytest.fixture
def user_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the name of an importable user module."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "user_code.py").write_text(USER_CODE)
    monkeypatch.syspath_prepend(folder)
    yield "user_code"
    sys.modules.pop("user_code", None)


@pytest.fixture
def make_data() -> MakeData:
    return _make_data


@pytest.fixture
def make_info() -> Callable[..., DataInfo]:
    return info_of


@pytest.fixture
def make_plan() -> MakePlan:
    return _make_plan


def _make_data(
    kind: str = "regression",
    rows: int = 21,
    validation: int = 11,
    shape: tuple[int, ...] = (4,),
    seed: int = 0,
) -> TrainingData:
    """Return learnable data. `kind` is regression, classification (3 classes) or binary."""
    generator = np.random.default_rng(seed)
    weights = generator.normal(size=(int(np.prod(shape)), 3 if kind == "classification" else 1))

    def draw(n: int) -> Rows:
        x = generator.normal(size=(n, *shape)).astype(np.float32)
        scores = x.reshape(n, -1) @ weights + 0.1 * generator.normal(size=(n, 1))
        y = {
            "regression": scores.astype(np.float32),
            "classification": scores.argmax(1),
            "binary": (scores > 0).astype(np.float32),
        }[kind]
        return Rows(x, y)

    return TrainingData(draw(rows), draw(validation), info_of(kind, shape))


def info_of(kind: str, shape: tuple[int, ...], **changes: Any) -> DataInfo:
    form = {"regression": "values", "classification": "classes", "binary": "binary"}[kind]
    classes = {"regression": (), "classification": (0, 1, 2), "binary": (0, 1)}[kind]
    target = TargetEncoding(form, ("target",), classes)  # type: ignore[arg-type]
    numbers = tuple(Number(f"feature {i}", 0.0, 1.0) for i in range(shape[0]))
    values: dict[str, Any] = {
        "input_shape": shape,
        "outputs": target.outputs,
        "kind": "regression" if kind == "regression" else "classification",
        "classes": classes,
        "feature_names": (),
        "target_names": ("target",),
        "truth": None,
        "encoding": Encoding(shape, numbers, False, True, False, target),
    }
    return DataInfo(**{**values, **changes})


def _make_plan(
    loss: str = "mse",
    *,
    model: str = "mlp",
    arguments: dict[str, Any] | None = None,
    metrics: tuple[str, ...] = (),
    score: dict[str, str] | None = None,
    seed: int = 0,
    training: dict[str, Any] | None = None,
    changes: dict[str, Any] | None = None,
    **hyperparameters: Any,
) -> TrainingPlan:
    """Return a small plan. `changes` are further keys of it; other keyword arguments are hyperparameters."""
    if arguments is None:
        arguments = {"hidden": [5], "dropout": 0.2} if model == "mlp" else {}
    return TrainingPlan.model_validate(
        {
            "model": {"name": model, "arguments": arguments},
            "training": {
                "loss": loss,
                "metrics": metrics,
                "max_epochs": 4,
                "device": "cpu",
                **(training or {}),
            },
            "hyperparameters": {"batch_size": 8, **hyperparameters},
            "score": {"metric": "val_loss", **(score or {})},
            "seed": seed,
            **(changes or {}),
        }
    )
