"""From settings and a configuration to the plan of one training.

A configuration is a flat mapping of names to values, as a search proposes it. `lr` and its like are
hyperparameters; `model.X` is an argument of the model; `training.X` a key of the training settings, nested
with further dots (`training.schedule.name`).
"""

from collections.abc import Mapping
from typing import Any

from tune_jobs.trainers.pytorch.settings import (
    VALIDATION_LOSS,
    Hyperparameters,
    ModelSettings,
    TrainingSettings,
)
from tune_jobs.trainers.settings import ScoreSettings, Settings

FIXED_TRAINING_KEYS = frozenset({"max_epochs", "loss", "metrics", "device"})
"""Training keys that a configuration may not set: trials would no longer be comparable."""


class TrainingPlan(Settings):
    """All that fixes a training beside its data: the same plan and data give the same curve, bit for bit."""

    model: ModelSettings
    training: TrainingSettings
    hyperparameters: Hyperparameters = Hyperparameters()
    score: ScoreSettings = VALIDATION_LOSS
    seed: int = 0


def plan_training(
    model: ModelSettings,
    training: TrainingSettings,
    score: ScoreSettings,
    configuration: Mapping[str, Any],
    seed: int,
) -> TrainingPlan:
    """Return the plan in which `configuration` overrides the settings.

    Raises:
        pydantic.ValidationError: A value is of the wrong type, out of range, or of no known name. The error's
            locations are those of the plan, such as `("hyperparameters", "lr")`.
    """
    plan: dict[str, Any] = {
        "model": model.model_dump(),
        "training": training.model_dump(),
        "hyperparameters": {},
        "score": score.model_dump(),
        "seed": seed,
    }
    for name, value in configuration.items():
        section, _, rest = name.partition(".")
        if not rest:
            plan["hyperparameters"][name] = value
        elif section == "model":
            plan["model"]["arguments"][rest] = value
        else:
            _set_nested(plan, name.split("."), value)
    return TrainingPlan.model_validate(plan)


def _set_nested(tree: dict[str, Any], path: list[str], value: object) -> None:
    for key in path[:-1]:
        below = tree.get(key)
        if not isinstance(below, dict):
            below = tree[key] = {}
        tree = below
    tree[path[-1]] = value
