"""Targets, in the form that a loss takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np

from tune_jobs.trainers.data.raw import Array, Column, TextColumn, numbers_of, row_width
from tune_jobs.trainers.data.settings import BuiltInLoss

Form = Literal["classes", "binary", "values"]
Class = int | str | bool

CLASS_LOSSES = frozenset({"cross_entropy", "binary_cross_entropy"})
"""Built-in losses that learn classes."""


@dataclass(frozen=True)
class TargetEncoding:
    """The encoding of a target as numbers for a loss."""

    form: Form
    """classes: int64 [n]; binary: float32 [n, 1] of 0 and 1; values: float32 [n, k]."""
    names: tuple[str, ...]
    """Names of the target's columns."""
    classes: tuple[Class, ...] = ()
    """The classes in ascending order. The number of a row is the position of its class here."""

    @property
    def outputs(self) -> int:
        """Return how many numbers a model gives for a row: one for each class or target, and 1 for binary."""
        return {"classes": len(self.classes), "binary": 1, "values": len(self.names)}[self.form]

    def transform(self, target: Column, rows: Array) -> Array:
        """Return the target of `rows`: int64 [rows], or float32 [rows, k]."""
        values = numbers_of(target)[rows]
        if self.form == "values":
            return np.ascontiguousarray(values.reshape(len(rows), row_width(values)), np.float32)
        known = np.array(
            [target.values.index(str(name)) for name in self.classes]
            if isinstance(target, TextColumn)
            else self.classes
        )
        numbers = np.searchsorted(known, values)
        return numbers.astype(np.float32)[:, None] if self.form == "binary" else numbers.astype(np.int64)

    def to_mapping(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {"form": self.form, "names": list(self.names), "classes": list(self.classes)}

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Read back the result of `to_mapping`."""
        return cls(mapping["form"], tuple(mapping["names"]), tuple(mapping["classes"]))


def target_form(target: Column, loss: str) -> Form:
    """Return the form in which the loss takes this target. For the user's function, integers and texts are classes."""
    if loss in CLASS_LOSSES:
        return "binary" if loss == "binary_cross_entropy" else "classes"
    single_discrete = len(target.shape) == 1 and (
        isinstance(target, TextColumn) or target.dtype.kind in "biu"
    )
    return "classes" if loss not in get_args(BuiltInLoss) and single_discrete else "values"


def fit_target(target: Column, names: tuple[str, ...], loss: str, train: Array) -> TargetEncoding:
    """Return the encoding of a checked target. Its classes are those of the training rows.

    Args:
        target: The target, [n] or [n, k].
        names: The names of the k columns.
        loss: `training.loss`.
        train: The numbers of the training rows.
    """
    form = target_form(target, loss)
    if form == "values":
        return TargetEncoding(form, names)
    known = np.unique(numbers_of(target)[train])
    if isinstance(target, TextColumn):
        return TargetEncoding(form, names, tuple(target.values[code] for code in known.tolist()))
    if known.dtype.kind == "f":
        known = known.astype(np.int64)
    return TargetEncoding(form, names, tuple(known.tolist()))
