"""The plan of one training, made from the settings of a job and a configuration.

A configuration is a flat mapping of names to values, as a search proposes it. A name without a dot, such as `lr`, is a
hyperparameter. `model.X` is an argument of the model, `optimizer.X` of an optimizer by reference, `loss.X` of the loss
in training, and `data.X` of the transform of the rows. `training.X` is a key of the training settings, and further
dots lead to nested keys (`training.schedule.name`).
"""

from collections.abc import Mapping
from typing import Any

from tune_jobs.trainers.pytorch.settings import (
    VALIDATION_LOSS,
    Hyperparameters,
    ModelSettings,
    TrainingSettings,
)
from tune_jobs.trainers.settings import Arguments, Reference, ScoreSettings, Settings, is_reference

FIXED_TRAINING_KEYS = frozenset({"max_epochs", "loss", "loss_arguments", "metrics", "device"})
"""Training keys that a configuration may not set, because trials could no longer be compared."""


class TrainingPlan(Settings):
    """Everything besides the data that determines a training: equal plans and data give equal curves, bit for bit."""

    model: ModelSettings
    training: TrainingSettings
    hyperparameters: Hyperparameters = Hyperparameters()
    optimizer_arguments: Arguments = {}  # noqa: RUF012 (pydantic copies defaults)
    """Keyword arguments of an optimizer by reference."""
    loss_arguments: Arguments = {}  # noqa: RUF012 (as above)
    """Keyword arguments of the loss in training that override those of the settings."""
    transform: Reference | None = None
    """The transform of the encoded rows."""
    transform_arguments: Arguments = {}  # noqa: RUF012 (as above)
    """Keyword arguments of the transform."""
    score: ScoreSettings = VALIDATION_LOSS
    seed: int = 0

    @property
    def references(self) -> list[str]:
        """Return the references to the user's code."""
        names = (
            self.model.name,
            self.training.loss,
            *self.training.metrics,
            self.hyperparameters.optimizer,
            self.training.schedule.name,
            self.transform or "",
        )
        return [name for name in names if is_reference(name)]


def plan_training(
    model: ModelSettings,
    training: TrainingSettings,
    score: ScoreSettings,
    configuration: Mapping[str, Any],
    seed: int,
) -> TrainingPlan:
    """Return the plan in which `configuration` overrides the settings.

    Raises:
        pydantic.ValidationError: A value has the wrong type, is out of range, or has an unknown name. The locations
            in the error are those of the plan, such as `("hyperparameters", "lr")`.
    """
    plan: dict[str, Any] = {
        "model": model.model_dump(),
        "training": training.model_dump(),
        "hyperparameters": {},
        "optimizer_arguments": {},
        "loss_arguments": {},
        "transform_arguments": {},
        "score": score.model_dump(),
        "seed": seed,
    }
    for name, value in configuration.items():
        section, _, rest = name.partition(".")
        if not rest:
            plan["hyperparameters"][name] = value
        elif section == "model":
            plan["model"]["arguments"][rest] = value
        elif section in {"optimizer", "loss"}:
            plan[f"{section}_arguments"][rest] = value
        elif section == "data":
            plan["transform_arguments"][rest] = value
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
