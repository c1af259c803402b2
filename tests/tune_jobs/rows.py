"""Rows of epochs in the form in which trainings report them."""

import math
from collections.abc import Mapping
from typing import Any

from tune_jobs.trainers.interface import DIVERGED


def with_divergence(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row as the built-in loop reports it: it is marked as diverged if a loss is not finite."""
    diverged = not (math.isfinite(row["train_loss"]) and math.isfinite(row["val_loss"]))
    return {**row, DIVERGED: True} if diverged else {**row}
