"""Kinds of training behind one interface, and the data that they train on; PyTorch is the first kind.

The names here are what a kind is made of. Importing this package imports no kind and no framework.
"""

from tune_jobs.trainers.facts import KindFacts, Metric
from tune_jobs.trainers.interface import (
    Capabilities,
    EpochResult,
    Evaluation,
    StopReason,
    TrainerKind,
    Training,
    TrainingRequest,
)
from tune_jobs.trainers.kinds import KindClass, KindEntry, register
from tune_jobs.trainers.settings import Settings

__all__ = [
    "Capabilities",
    "EpochResult",
    "Evaluation",
    "KindClass",
    "KindEntry",
    "KindFacts",
    "Metric",
    "Settings",
    "StopReason",
    "TrainerKind",
    "Training",
    "TrainingRequest",
    "register",
]
