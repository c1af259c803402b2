"""Kinds of training behind one interface, and the data that they train on; PyTorch is the first kind.

Importing this package does not import torch; what needs it is loaded when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from tune_jobs.trainers.interface import EpochResult, Evaluation, StopReason
from tune_jobs.trainers.pytorch.plan import TrainingPlan, plan_training

if TYPE_CHECKING:
    from tune_jobs.trainers.pytorch.best import best_evaluator, best_model
    from tune_jobs.trainers.pytorch.trainer import Trainer

_LAZY = {
    "Trainer": "tune_jobs.trainers.pytorch.trainer",
    "best_model": "tune_jobs.trainers.pytorch.best",
    "best_evaluator": "tune_jobs.trainers.pytorch.best",
}

__all__ = [
    "EpochResult",
    "Evaluation",
    "StopReason",
    "Trainer",
    "TrainingPlan",
    "best_evaluator",
    "best_model",
    "plan_training",
]


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
