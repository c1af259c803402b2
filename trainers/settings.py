"""Settings that every kind of training shares: their base class, scalar types, the score, early stopping.

The sections of a job that belong to a kind stand beside it: `data.settings`, `pytorch.settings`. Importing settings
imports no framework of training, so a job is checked in a fraction of a second.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

REFERENCE = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"
"""Regular expression of a reference to the user's code, `package.module:function`."""


def is_reference(name: str) -> bool:
    """Return whether `name` is meant as a reference to the user's code, well formed or not; no built-in name is."""
    return ":" in name


Reference = Annotated[str, Field(pattern=REFERENCE)]
"""A function of the user, as `package.module:function`."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Names = Annotated[tuple[str, ...], Field(strict=False)]
Arguments = dict[str, Any]


Mode = Literal["min", "max"]
"""Whether low or high values of a number are good."""


def cost(score: float, mode: Mode) -> float:
    """Return `score` with the sign that makes lower better: every comparison of two scores is one of their costs."""
    return score if mode == "min" else -score


class Settings(BaseModel):
    """Base of all settings: frozen, strict about types, closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class EarlyStoppingSettings(Settings):
    """The conditions on the selection metric, on validation rows, under which a training ends by itself."""

    patience: Count | None = None
    """End the training after this many epochs without an improvement of more than `min_delta`; null never does."""
    min_delta: NonNegative = 0.0
    """A smaller improvement of the metric does not count as one."""
    threshold: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """End the training as soon as the metric is as good as this; null never does."""


class ScoreSettings(Settings):
    """The number that judges an epoch: one of the metrics that the training measures on validation rows."""

    metric: str
    """The name of the metric. In a job it has a default: the `default_metric` of the kind of training."""
    mode: Mode = "min"
    """Whether low or high values are good."""

    def cost(self, score: float) -> float:
        """Return `score` with the sign that makes lower better."""
        return cost(score, self.mode)
