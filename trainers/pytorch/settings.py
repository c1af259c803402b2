"""The `model` and `training` sections of a job file, and the hyperparameters that a search may propose."""

from typing import Annotated, Literal

from pydantic import Field

from tune_jobs.trainers.data.settings import BuiltInLoss
from tune_jobs.trainers.settings import (
    Arguments,
    Count,
    EarlyStoppingSettings,
    NonNegative,
    Positive,
    Reference,
    ScoreSettings,
    Settings,
)

Optimizer = Literal["sgd", "adam", "adamw", "rmsprop", "adagrad", "lbfgs"]
ScheduleName = Literal["constant", "step", "exponential", "cosine", "one_cycle", "plateau"]
BuiltInMetric = Literal["accuracy", "f1", "mse", "mae", "rmse", "r2", "param_error"]
BuiltInModel = Literal["linear", "mlp", "cnn"]

VALIDATION_LOSS = ScoreSettings(metric="val_loss", mode="min")
"""The score of a training if the job names no other metric: its loss on validation rows, low values being good."""


class ModelSettings(Settings):
    """Which model is trained: a built-in one, or what the user's own function returns."""

    name: BuiltInModel | Reference
    """The name of a built-in model, or `package.module:function`."""
    arguments: Arguments = {}  # noqa: RUF012 (pydantic copies defaults)
    """Keyword arguments of the model."""


class ScheduleSettings(Settings):
    """The change of the learning rate over the `max_epochs` of a training."""

    name: ScheduleName | Reference = "constant"
    """The schedule by its name, or `package.module:function`, such as `torch.optim.lr_scheduler:PolynomialLR`."""
    arguments: Arguments = {}  # noqa: RUF012 (pydantic copies defaults)
    """Keyword arguments of a schedule by reference. The keys below, but for `every`, are not for it."""
    every: Literal["epoch", "batch"] = "epoch"
    """Whether a schedule by reference takes a step after each epoch, or after each batch."""
    step_size: Count = 10
    """`step` reduces the rate each time that this many epochs are over."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    """`step`, `exponential` and `plateau` multiply the rate by this factor."""
    patience: Annotated[int, Field(ge=0)] = 5
    """`plateau` reduces the rate after this many epochs without an improvement."""
    min_lr: NonNegative = 0.0
    """`cosine` and `plateau` never reduce the rate below this value."""
    warmup: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """`one_cycle` raises the rate during this share of all steps."""


class TrainingSettings(Settings):
    """The epoch loop: how long it trains, on what loss, and what it measures."""

    max_epochs: Count = 27
    """Epochs of a full training."""
    loss: BuiltInLoss | Reference
    """The loss that is minimised: a built-in one, or `package.module:function`."""
    loss_arguments: Arguments = {}  # noqa: RUF012 (as above)
    """Keyword arguments of the loss. Validation uses them in all trials; for training, `loss.X` of a configuration
    overrides them."""
    metrics: Annotated[tuple[BuiltInMetric | Reference, ...], Field(strict=False)] = ()
    """Metrics that are measured on validation rows after each epoch, in addition to the loss."""
    schedule: ScheduleSettings = ScheduleSettings()
    """The schedule of the learning rate."""
    early_stopping: EarlyStoppingSettings = EarlyStoppingSettings()
    """The conditions under which a training ends before `max_epochs`."""
    batching: Literal["shuffle", "replacement", "sequential"] = "shuffle"
    """The way in which each epoch's batches are drawn from the training rows."""
    clip_grad_norm: Positive | None = None
    """Gradients with a larger joint 2-norm are scaled down to this norm."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,2})?)$")] = "auto"
    """The device that trains a model. PyTorch takes the number of a device modulo 256: cuda:256 would be cuda:0."""


class Hyperparameters(Settings):
    """The parameters of a configuration besides `model.X` and `training.X`. Missing ones take their defaults."""

    optimizer: Optimizer | Reference = "sgd"
    """The optimizer by its name, or `package.module:function`, such as `torch.optim:RAdam`."""
    lr: Positive = 0.01
    """The learning rate."""
    batch_size: Count | Literal["full"] = 32
    """Rows of a step; `full` is gradient descent on all training rows."""
    weight_decay: NonNegative = 0.0
    """How much the weights shrink in each step."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Used by `sgd` and `rmsprop`."""
    nesterov: bool = False
    """Whether `sgd` uses Nesterov's form of momentum."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Smoothing of the gradient in `adam` and `adamw`."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Smoothing of the squared gradient in `adam` and `adamw`."""
    alpha: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Smoothing of the squared gradient in `rmsprop`."""
    eps: Positive = 1e-8
    """A number that `adam`, `adamw`, `rmsprop` and `adagrad` add to keep from dividing by zero."""
    max_iter: Count = 20
    """Inner iterations that `lbfgs` makes in a step."""
    history_size: Count = 10
    """Updates that `lbfgs` remembers."""
