"""Checks of rows before a model is trained on them. Each check reports all problems of its kind at once."""

from collections.abc import Mapping
from typing import get_args

import numpy as np

from tune_jobs.trainers.data.raw import (
    Array,
    Column,
    Features,
    RawData,
    TextColumn,
    numbers_of,
    row_slices,
    row_width,
)
from tune_jobs.trainers.data.settings import BuiltInLoss
from tune_jobs.trainers.data.tables import quoted_names
from tune_jobs.trainers.data.targets import CLASS_LOSSES, target_form
from tune_jobs.trainers.errors import DataError


def check_features(features: Features, names: tuple[str, ...], *, fill_nulls: bool) -> None:
    """Refuse infinities, and nulls unless they are to be filled in; texts cannot be filled in.

    Raises:
        DataError: The rows have infinities or nulls. The message names the columns and counts the rows.
    """
    nulls: dict[str, int] = {}
    infinities: dict[str, int] = {}
    null_texts: dict[str, int] = {}
    if isinstance(features, Mapping):
        for name, column in features.items():
            if isinstance(column, TextColumn):
                _add(null_texts, [name], np.array([np.count_nonzero(column.codes < 0)]))
            else:
                _count_not_finite(column, (name,), nulls, infinities)
    else:
        _count_not_finite(features, names, nulls, infinities)
    problems = []
    if infinities:
        problems.append(f"infinities in {_count_text(infinities)}; mend or drop these rows")
    if nulls and not fill_nulls:
        problems.append(
            f"nulls in {_count_text(nulls)}; fill in or drop these rows, or set data.missing: mean"
        )
    if null_texts:
        problems.append(
            f"nulls in {_count_text(null_texts)}, which are texts; write a text such as 'unknown', or drop these rows"
        )
    if problems:
        raise DataError(f"data: {'. '.join(problems)}")


def check_target(target: Column, names: tuple[str, ...], loss: str) -> None:
    """Refuse a target with nulls or infinities, or that does not fit the loss.

    Args:
        target: The target, [n] or [n, k].
        names: The names of the k columns.
        loss: `training.loss`.

    Raises:
        DataError: The target cannot be used. The message says what the loss takes.
    """
    values = numbers_of(target)
    nulls: dict[str, int] = {}
    infinities: dict[str, int] = {}
    if isinstance(target, TextColumn):
        _add(nulls, names, np.array([np.count_nonzero(target.codes < 0)]))
    else:
        _count_not_finite(values, names, nulls, infinities)
    for what, found in (("nulls", nulls), ("infinities", infinities)):
        if found:
            raise DataError(
                f"data.target: {what} in {_count_text(found)}; drop these rows, as a target is never filled in"
            )
    if values.dtype.kind == "f" and target_form(target, loss) == "values":
        _check_size(values, names)
    if loss in CLASS_LOSSES:
        _check_classes(target, names, loss)
    elif isinstance(target, TextColumn) and loss in get_args(BuiltInLoss):
        raise DataError(
            f"data.target: {quoted_names(names)} is of text, but training.loss {loss!r} takes numbers; {_OTHER}"
        )


_OTHER = "use cross_entropy, or another target"


def _check_size(values: Array, names: tuple[str, ...]) -> None:
    large: dict[str, int] = {}
    for part in row_slices(len(values), row_width(values)):
        beyond = np.abs(values[part].reshape(-1, len(names))) > np.finfo(np.float32).max
        _add(large, names, beyond.sum(axis=0))
    if large:
        raise DataError(
            f"data.target: numbers in {_count_text(large)} are too large for float32; rescale them"
        )


def _check_classes(target: Column, names: tuple[str, ...], loss: str) -> None:
    if len(target.shape) > 1:
        raise DataError(
            f"data.target: training.loss {loss!r} takes a single column of classes, not {quoted_names(names)}; "
            "name one column, or use mse"
        )
    if isinstance(target, TextColumn) or target.dtype.kind != "f":
        return
    for part in row_slices(len(target), 1):
        bad = target[part][(target[part] != np.floor(target[part])) | (np.abs(target[part]) > 2**53)]
        if len(bad):
            raise DataError(
                f"data.target: training.loss {loss!r} takes classes as whole numbers or text, "
                f"but {names[0]!r} holds {bad[0]:g}; use mse, mae or huber, or another target"
            )


def check_training_rows(raw: RawData, train: Array, others: Array, loss: str) -> None:
    """Refuse a constant training target and, of classes, one that training rows lack.

    Args:
        raw: The rows. Only those in `train` and `others` are read.
        train: Numbers of the rows that a model is trained on.
        others: Numbers of the rows that the model is evaluated on.
        loss: `training.loss`.

    Raises:
        DataError: The target is constant, or classes are missing. The message names the value or the classes.
    """
    values = numbers_of(raw.target)
    seen = values[train]
    if np.all(seen == seen[0]):
        shown = _values(raw.target, np.unique(seen)) if values.ndim == 1 else quoted_names(raw.target_names)
        raise DataError(
            f"data.target: all {len(train)} training rows have the same value ({shown}); "
            "there is nothing to learn: use another target or split"
        )
    form = target_form(raw.target, loss)
    if form == "values":
        return
    known = np.unique(seen)
    lacking = np.setdiff1d(values[others], known)
    if len(lacking):
        raise DataError(
            f"data.target: no training row is of class {_values(raw.target, lacking)}, but others are; "
            "use data.split.method: stratified, another data.split.seed, or drop these rows"
        )
    if form == "binary" and len(known) != 2:
        raise DataError(
            "data.target: training.loss 'binary_cross_entropy' takes two classes, "
            f"but there are {len(known)} ({_values(raw.target, known)}); use cross_entropy"
        )


def _values(target: Column, values: Array) -> str:
    if isinstance(target, TextColumn):
        return quoted_names([target.values[code] for code in values.tolist()], most=10)
    more = f" and {len(values) - 10} more" if len(values) > 10 else ""
    return ", ".join(str(value) for value in values[:10].tolist()) + more


def _count_not_finite(
    values: Array, names: tuple[str, ...], nulls: dict[str, int], infinities: dict[str, int]
) -> None:
    if values.dtype.kind != "f":
        return
    for part in row_slices(len(values), row_width(values)):
        chunk = values[part]
        if np.isfinite(chunk).all():
            continue
        columns = chunk.reshape(len(chunk), len(names) or 1, -1)
        _add(nulls, names or ("x",), np.isnan(columns).any(axis=2).sum(axis=0))
        _add(infinities, names or ("x",), np.isinf(columns).any(axis=2).sum(axis=0))


def _add(counts: dict[str, int], names: tuple[str, ...] | list[str], more: Array) -> None:
    for name, count in zip(names, more.tolist(), strict=True):
        if count:
            counts[name] = counts.get(name, 0) + count


def _count_text(rows: Mapping[str, int], most: int = 20) -> str:
    shown = ", ".join(
        f"{name!r} ({count} row{'s' * (count > 1)})" for name, count in list(rows.items())[:most]
    )
    return shown + (f" and {len(rows) - most} more" if len(rows) > most else "")
