"""Ready search spaces to start from, as data.

Each is written as in a job file, so that you can copy it there and change it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tune_jobs.problem import Problem
from tune_jobs.search_spaces.errors import SearchSpaceError, suggestion
from tune_jobs.search_spaces.parsing import parse_space
from tune_jobs.search_spaces.space import SearchSpace

_LR = {"low": 1e-4, "high": 1.0, "log": True}
_ADAPTIVE_LR = {"low": 1e-5, "high": 1e-1, "log": True}
_BATCH_SIZE = {"values": [16, 32, 64, 128, 256]}


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadySpace:
    """A search space with its purpose and the source of its ranges."""

    description: str
    source: str | None
    """Publications behind the ranges or methods; None if all are rules of thumb."""
    space: SearchSpace


def ready_space(name: str) -> SearchSpace:
    """Return the space called `name` in the catalogue.

    Raises:
        SearchSpaceError: There is no space with that name.
    """
    if name not in READY_SPACES:
        hint = suggestion(name, READY_SPACES)
        raise SearchSpaceError([Problem("", f"there is no ready space '{name}'; {hint}")])
    return READY_SPACES[name].space


def _ready(description: str, source: str | None, mapping: Mapping[str, Any]) -> ReadySpace:
    return ReadySpace(description=description, source=source, space=parse_space(mapping))


READY_SPACES: Mapping[str, ReadySpace] = MappingProxyType(
    {
        "learning_rate": _ready(
            "The learning rate alone: the first thing to tune.",
            "Bengio (2012), Practical recommendations for gradient-based training of deep architectures: "
            "for standardized inputs, above 1e-6 and below 1.",
            {"lr": {"low": 1e-6, "high": 1.0, "log": True}},
        ),
        "sgd": _ready(
            "Stochastic gradient descent with momentum, plain or Nesterov's.",
            "Sutskever et al. (2013), On the importance of initialization and momentum in deep learning: "
            "momentum of 0.9 and above, and Nesterov's form of it.",
            {
                "optimizer": "sgd",
                "lr": _LR,
                "batch_size": _BATCH_SIZE,
                "momentum": {"low": 0.5, "high": 0.99},
                "nesterov": {"values": [False, True]},
                "weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
            },
        ),
        "adam": _ready(
            "Adam, its three own constants included.",
            "Kingma and Ba (2015), Adam: the ranges surround the published 0.001, 0.9, 0.999 and 1e-8. "
            "Choi et al. (2019), On empirical comparisons of optimizers for deep learning: eps matters too.",
            {
                "optimizer": "adam",
                "lr": _ADAPTIVE_LR,
                "batch_size": _BATCH_SIZE,
                "beta1": {"low": 0.8, "high": 0.99},
                "beta2": {"low": 0.9, "high": 0.9999},
                "eps": {"low": 1e-10, "high": 1e-3, "log": True},
            },
        ),
        "adamw": _ready(
            "Adam with decoupled weight decay: learning rate and decay.",
            "Loshchilov and Hutter (2019), Decoupled weight decay regularization.",
            {
                "optimizer": "adamw",
                "lr": _ADAPTIVE_LR,
                "batch_size": _BATCH_SIZE,
                "weight_decay": {"low": 1e-4, "high": 1.0, "log": True},
            },
        ),
        "optimizers": _ready(
            "The choice of optimizer, with the constants that belong to each.",
            None,
            {
                "optimizer": {"values": ["sgd", "rmsprop", "adam", "adamw"]},
                "lr": {"low": 1e-5, "high": 1.0, "log": True},
                "batch_size": _BATCH_SIZE,
                "momentum": {"low": 0.0, "high": 0.99, "when": {"optimizer": ["sgd", "rmsprop"]}},
                "beta1": {"low": 0.8, "high": 0.99, "when": {"optimizer": ["adam", "adamw"]}},
                "weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
            },
        ),
        "mlp": _ready(
            "A multilayer perceptron on a table: width, depth, dropout and AdamW's two main constants.",
            None,
            {
                "optimizer": "adamw",
                "lr": {"low": 1e-5, "high": 1e-2, "log": True},
                "batch_size": {"values": [32, 64, 128, 256]},
                "weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
                "model.hidden": {
                    "values": [[64], [256], [64, 64], [256, 256], [64, 64, 64], [256, 256, 256]]
                },
                "model.dropout": {"low": 0.0, "high": 0.5},
            },
        ),
        "schedules": _ready(
            "How the learning rate changes over a training, with the rate itself.",
            "Cosine: Loshchilov and Hutter (2017), SGDR. "
            "One cycle: Smith and Topin (2019), Super-convergence.",
            {
                "lr": _LR,
                "training.schedule.name": {"values": ["constant", "exponential", "cosine", "one_cycle"]},
                "training.schedule.gamma": {
                    "low": 0.8,
                    "high": 0.99,
                    "when": {"training.schedule.name": "exponential"},
                },
                "training.schedule.warmup": {
                    "low": 0.1,
                    "high": 0.5,
                    "when": {"training.schedule.name": "one_cycle"},
                },
            },
        ),
    }
)
"""Ready spaces by name."""
