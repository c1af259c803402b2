"""Training of PyTorch models: data and splits, models, the epoch loop, checkpoints and evaluation.

Importing this package does not import torch; what needs it is loaded when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from trainers.early_stopping import Outcome
from trainers.plan import TrainingPlan, plan_training
from trainers.results import EpochResult

if TYPE_CHECKING:
    from trainers.checkpoints import load_checkpoint, save_checkpoint
    from trainers.evaluation import Evaluation
    from trainers.trainer import Trainer, best_evaluator, best_model

_LAZY = {
    "Evaluation": "trainers.evaluation",
    "Trainer": "trainers.trainer",
    "best_model": "trainers.trainer",
    "best_evaluator": "trainers.trainer",
    "load_checkpoint": "trainers.checkpoints",
    "save_checkpoint": "trainers.checkpoints",
}

__all__ = [
    "EpochResult",
    "Evaluation",
    "Outcome",
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
