"""Learning rate schedules of torch.optim.lr_scheduler."""

import warnings
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)

from tune_jobs.trainers.errors import ModelError
from tune_jobs.trainers.pytorch.own_code import build, select_accepted
from tune_jobs.trainers.pytorch.settings import ScheduleSettings
from tune_jobs.trainers.references import load_reference
from tune_jobs.trainers.settings import is_reference


class Schedule:
    """Sets the learning rate of an optimizer, after each epoch or, for `one_cycle`, after each batch.

    The rate in epoch e, counted from 0, if the optimizer has the rate `lr`:
    - `constant`: lr.
    - `step`: lr * gamma ** (e // step_size).
    - `exponential`: lr * gamma ** e.
    - `cosine`: from lr at e = 0 down half a cosine to min_lr at e = max_epochs (Loshchilov and Hutter, 2017).
    - `one_cycle`: from lr / 25 up to lr in the share `warmup` of all steps, then down to lr / 250000 (Smith,
      2018).
    - `plateau`: times gamma whenever the score has not improved for more than `patience` epochs.
    - a reference: what the user's function returns for the optimizer and `arguments`. If its signature names them, it
      also gets `max_epochs` and `total_steps`. It takes a step after each epoch or batch, as `every` says.

    A `min_lr` above lr leaves lr as it is.

    Args:
        optimizer: The optimizer, whose groups are changed.
        settings: The schedule's section of the training settings.
        lr: The rate that the schedule starts from or, for `one_cycle`, rises to.
        max_epochs: The number of epochs of the whole training.
        steps_per_epoch: The number of batches in an epoch.
        mode: Whether a lower or a higher score is better. Only `plateau` uses it.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        settings: ScheduleSettings,
        *,
        lr: float,
        max_epochs: int,
        steps_per_epoch: int,
        mode: Literal["min", "max"],
    ) -> None:
        own = is_reference(settings.name)
        self.every_batch = settings.every == "batch" if own else settings.name == "one_cycle"
        steps = max_epochs * steps_per_epoch
        self._scheduler = (
            _from_reference(optimizer, settings, {"max_epochs": max_epochs, "total_steps": steps})
            if own
            else _build(optimizer, settings, lr=lr, max_epochs=max_epochs, steps=steps, mode=mode)
        )

    def after_batch(self) -> None:
        """Advance by one batch. Unless `every_batch` is set, do nothing."""
        if self.every_batch and self._scheduler is not None:
            self._scheduler.step()

    def after_epoch(self, score: float) -> None:
        """Advance by one epoch, which had this score."""
        if isinstance(self._scheduler, ReduceLROnPlateau):
            self._scheduler.step(score)
        elif self._scheduler is not None and not self.every_batch:
            self._scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs. The rate itself is part of the optimizer's state."""
        return {} if self._scheduler is None else self._scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict()` of the same settings."""
        if self._scheduler is not None:
            self._scheduler.load_state_dict(state)

    def skip(self, epochs: int, steps_per_epoch: int) -> None:
        """Set the rate that a training by this schedule has after so many epochs; `plateau` keeps its first rate."""
        if self._scheduler is None or isinstance(self._scheduler, ReduceLROnPlateau):
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch expects a step of the optimizer before each of these
            for _ in range(epochs * (steps_per_epoch if self.every_batch else 1)):
                self._scheduler.step()


def _from_reference(optimizer: Optimizer, settings: ScheduleSettings, given: dict[str, int]) -> LRScheduler:
    function = load_reference(settings.name)
    arguments = {**select_accepted(function, given), **settings.arguments}
    scheduler = build("schedule", settings.name, function, arguments, optimizer)
    if not isinstance(scheduler, LRScheduler):
        raise ModelError(
            f"schedule {settings.name} returned a {type(scheduler).__name__}; it must return a "
            "torch.optim.lr_scheduler.LRScheduler"
        )
    return scheduler


def _build(
    optimizer: Optimizer,
    settings: ScheduleSettings,
    *,
    lr: float,
    max_epochs: int,
    steps: int,
    mode: Literal["min", "max"],
) -> LRScheduler | None:
    match settings.name:
        case "step":
            return StepLR(optimizer, settings.step_size, settings.gamma)
        case "exponential":
            return ExponentialLR(optimizer, settings.gamma)
        case "cosine":
            return CosineAnnealingLR(optimizer, max_epochs, eta_min=min(settings.min_lr, lr))
        case "one_cycle":
            # Momentum stays as the configuration sets it; PyTorch would cycle it too.
            return OneCycleLR(
                optimizer,
                lr,
                total_steps=steps,
                pct_start=_warmup(settings.warmup, steps),
                cycle_momentum=False,
            )
        case "plateau" if settings.gamma < 1:
            return ReduceLROnPlateau(
                optimizer,
                mode,
                settings.gamma,
                settings.patience,
                threshold=0.0,
                min_lr=settings.min_lr,
                eps=0.0,
            )
        case _:
            return None


def _warmup(share: float, steps: int) -> float:
    # A warm-up of exactly one step is 0 / 0 in OneCycleLR. A slightly smaller share starts at the peak instead.
    return share * (1 - 1e-9) if share * steps == 1 else share
