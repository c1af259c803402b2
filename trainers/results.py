"""What is known of an epoch once it is over."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Self

from tune_jobs.trainers.interface import DIVERGED
from tune_jobs.trainers.pytorch.metric_rules import RESULT_COLUMNS


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochResult:
    """One epoch of a training."""

    epoch: int
    """From 1."""
    train_loss: float
    """Mean over the samples of the epoch, each under the weights of its own batch's time."""
    val_loss: float
    """Mean over the validation rows after the epoch."""
    metrics: dict[str, float]
    """Of all validation rows after the epoch, by the names of `metric_names`."""
    lr: float
    """Learning rate of the epoch's last step."""
    seconds: float
    """Training and evaluation, by the wall clock."""

    def value(self, metric: str) -> float:
        """`val_loss`, or a metric by its name."""
        return self.val_loss if metric == "val_loss" else self.metrics[metric]

    @property
    def diverged(self) -> bool:
        """Whether the training cannot continue: a loss is no finite number any more."""
        return not self.is_finite

    @property
    def is_finite(self) -> bool:
        """Whether both losses are finite numbers."""
        return isfinite(self.train_loss) and isfinite(self.val_loss)

    def to_mapping(self) -> dict[str, float]:
        """A flat row: epoch, train_loss, val_loss, the metrics in order, lr, seconds; and whether it diverged."""
        row = {
            "epoch": self.epoch,
            "train_loss": self.train_loss,
            "val_loss": self.val_loss,
            **self.metrics,
            "lr": self.lr,
            "seconds": self.seconds,
        }
        return {**row, DIVERGED: True} if self.diverged else row

    @classmethod
    def from_mapping(cls, row: Mapping[str, float]) -> Self:
        """The result of a `to_mapping()`."""
        return cls(
            epoch=int(row["epoch"]),
            train_loss=row["train_loss"],
            val_loss=row["val_loss"],
            metrics={name: value for name, value in row.items() if name not in {*RESULT_COLUMNS, DIVERGED}},
            lr=row["lr"],
            seconds=row["seconds"],
        )
