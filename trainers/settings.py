"""What a training is made of, as frozen and checked settings.

These are the `model` and `training` sections of a job file and the hyperparameters that a search may propose.
The `data` section is in `tune_jobs.trainers.data.settings`. Nothing here imports torch: settings can be checked in a
fraction of a second.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

REFERENCE = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"

Optimizer = Literal["sgd", "adam", "adamw", "rmsprop", "adagrad", "lbfgs"]
ScheduleName = Literal["constant", "step", "exponential", "cosine", "one_cycle", "plateau"]
BuiltInLoss = Literal["mse", "mae", "huber", "cross_entropy", "binary_cross_entropy"]
BuiltInMetric = Literal["accuracy", "f1", "mse", "mae", "rmse", "r2", "param_error"]
BuiltInModel = Literal["linear", "mlp", "cnn"]

Reference = Annotated[str, Field(pattern=REFERENCE)]
"""A `package.module:function` of the user's."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Names = Annotated[tuple[str, ...], Field(strict=False)]
Arguments = dict[str, Any]


class Settings(BaseModel):
    """Base of all settings: frozen, strict about types, closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class ModelSettings(Settings):
    """A built-in model or `package.module:function`, and its arguments."""

    name: BuiltInModel | Reference
    arguments: Arguments = {}


class ScheduleSettings(Settings):
    """How the learning rate changes over the `max_epochs` of a training."""

    name: ScheduleName = "constant"
    step_size: Count = 10
    """step: epochs between two reductions."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    """step, exponential: factor of a reduction. plateau: factor too."""
    patience: Annotated[int, Field(ge=0)] = 5
    """plateau: epochs without improvement before a reduction."""
    min_lr: NonNegative = 0.0
    """cosine, plateau: the rate is never below this."""
    warmup: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """one_cycle: share of the steps in which the rate rises."""


class EarlyStoppingSettings(Settings):
    """When a training ends by itself, judged by the selection metric on validation rows."""

    patience: Count | None = None
    """Epochs without an improvement of more than `min_delta`; null never stops."""
    min_delta: NonNegative = 0.0
    threshold: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """Stop once the metric is as good as this."""


class TrainingSettings(Settings):
    """The epoch loop: how long, on what loss, and what is measured."""

    max_epochs: Count = 27
    loss: BuiltInLoss | Reference
    metrics: Annotated[tuple[BuiltInMetric | Reference, ...], Field(strict=False)] = ()
    schedule: ScheduleSettings = ScheduleSettings()
    early_stopping: EarlyStoppingSettings = EarlyStoppingSettings()
    batching: Literal["shuffle", "replacement", "sequential"] = "shuffle"
    clip_grad_norm: Positive | None = None
    """Gradients whose joint 2-norm is above this are scaled down to it."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,2})?)$")] = "auto"
    """PyTorch takes the number of a device modulo 256, so that cuda:256 would be cuda:0."""


class Hyperparameters(Settings):
    """What a configuration may set beside `model.X` and `training.X`; defaults apply where it does not."""

    optimizer: Optimizer = "sgd"
    lr: Positive = 0.01
    batch_size: Count | Literal["full"] = 32
    """Rows a step; `full` is gradient descent on all training rows."""
    weight_decay: NonNegative = 0.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """sgd, rmsprop."""
    nesterov: bool = False
    """sgd with momentum."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """adam, adamw."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """adam, adamw."""
    alpha: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """rmsprop: smoothing of the squared gradient."""
    eps: Positive = 1e-8
    """adam, adamw, rmsprop, adagrad."""
    max_iter: Count = 20
    """lbfgs: inner iterations a step."""
    history_size: Count = 10
    """lbfgs."""


class ScoreSettings(Settings):
    """The number that judges an epoch: `val_loss`, or one of the training's metrics on validation rows."""

    metric: str = "val_loss"
    mode: Literal["min", "max"] = "min"

    def cost(self, score: float) -> float:
        """`score`, turned so that lower is better."""
        return score if self.mode == "min" else -score
