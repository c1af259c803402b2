"""Training of PyTorch models: data and splits, models, the epoch loop, checkpoints and evaluation.

Importing this package does not import torch; what needs it is loaded when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from tune_jobs.trainers.interface import StopReason
from tune_jobs.trainers.pytorch.plan import TrainingPlan, plan_training
from tune_jobs.trainers.results import EpochResult

if TYPE_CHECKING:
    from tune_jobs.trainers.pytorch.checkpoints import load_checkpoint, save_checkpoint
    from tune_jobs.trainers.pytorch.evaluation import Evaluation
    from tune_jobs.trainers.pytorch.trainer import Trainer, best_evaluator, best_model

_LAZY = {
    "Evaluation": "tune_jobs.trainers.pytorch.evaluation",
    "Trainer": "tune_jobs.trainers.pytorch.trainer",
    "best_model": "tune_jobs.trainers.pytorch.trainer",
    "best_evaluator": "tune_jobs.trainers.pytorch.trainer",
    "load_checkpoint": "tune_jobs.trainers.pytorch.checkpoints",
    "save_checkpoint": "tune_jobs.trainers.pytorch.checkpoints",
}

__all__ = [
    "EpochResult",
    "Evaluation",
    "StopReason",
    "Trainer",
    "TrainingPlan",
    "best_evaluator",
    "best_model",
    "load_checkpoint",
    "plan_training",
    "save_checkpoint",
]


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
