"""Columns of Arrow tables, and the types that features, targets and columns to divide by may have."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tune_jobs.text import did_you_mean
from tune_jobs.trainers.data.raw import Array, Column, TextColumn
from tune_jobs.trainers.errors import DataError

Kind = Literal["number", "text", "time", "null", "other"]


def kind_of(type_: pa.DataType) -> Kind:
    """Return the use of a column of this Arrow type."""
    if pa.types.is_dictionary(type_):
        return "text" if kind_of(type_.value_type) in {"text", "number"} else "other"
    if pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_boolean(type_):
        return "number"
    if pa.types.is_decimal(type_):
        return "number"
    if pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_):
        return "text"
    if pa.types.is_timestamp(type_) or pa.types.is_date(type_) or pa.types.is_duration(type_):
        return "time"
    return "null" if pa.types.is_null(type_) else "other"


def to_column(column: pa.ChunkedArray) -> Column:
    """Return a column as numbers (nulls as NaN), times (nulls as NaT) or text, without a copy if Arrow allows it."""
    if kind_of(column.type) == "text":
        return TextColumn.from_arrow(column)
    if pa.types.is_decimal(column.type):
        column = pc.cast(column, pa.float64())
    elif pa.types.is_boolean(column.type) and column.null_count:
        column = pc.cast(column, pa.uint8())
    array = column.chunk(0) if column.num_chunks == 1 else column
    return array.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]  # Arrow's arrays have no type


def is_index(name: str) -> bool:
    """Return whether pandas wrote this column to keep its row labels: never data."""
    return re.fullmatch(r"__index_level_\d+__", name) is not None


def check_names(setting: str, given: Sequence[str], known: Iterable[str]) -> None:
    """Refuse names that are not among the columns.

    Raises:
        DataError: A name is unknown. The message has the setting, the name, the closest one and all columns.
    """
    columns = list(known)
    for name in given:
        if name not in columns:
            raise DataError(
                f"{setting}: there is no column {name!r}; the columns are "
                f"{quoted_names(columns)}{did_you_mean(name, columns)}"
            )


def quoted_names(names: Sequence[str], most: int = 30) -> str:
    """Return the names in one line, shortened if there are many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def feature_columns(table: pa.Table) -> dict[str, Column]:
    """Return all columns of a table as features.

    Raises:
        DataError: Some columns are neither numbers nor text. The message names each with its type.
    """
    problems = []
    for name, type_ in zip(table.schema.names, table.schema.types, strict=True):
        match kind_of(type_):
            case "time":
                problems.append(f"column {name!r} is of type {type_}: turn it into a number")
            case "null":
                problems.append(f"column {name!r} is empty: give it values")
            case "other":
                problems.append(f"column {name!r} is of type {type_}: turn it into numbers or text")
    if problems:
        leave_out = ", or leave it out" if len(problems) == 1 else "; or leave these columns out"
        raise DataError(f"{'; '.join(problems)}{leave_out} with data.arguments.drop")
    arrow = dict(zip(table.schema.names, table.columns, strict=True))
    del table
    return {name: to_column(arrow.pop(name)) for name in list(arrow)}  # frees each column as it goes


def target_column(columns: Mapping[str, pa.ChunkedArray]) -> Column:
    """Return one target column as it is, or several numeric ones as [n, k].

    Raises:
        DataError: A target holds neither numbers nor text, or one of several is not numeric.
    """
    for name, column in columns.items():
        if kind_of(column.type) not in {"number", "text"}:
            raise DataError(
                f"data.target: column {name!r} is of type {column.type}; a target is of numbers or of text"
            )
    return stack_targets({name: to_column(column) for name, column in columns.items()})


def stack_targets(targets: Mapping[str, Column]) -> Column:
    """Return a single target as it is, or several, which must be numeric, as [n, k].

    Raises:
        DataError: One of several targets is not numeric.
    """
    if len(targets) == 1:
        return next(iter(targets.values()))
    numbers: list[Array] = []
    for name, column in targets.items():
        if isinstance(column, TextColumn):
            raise DataError(
                f"data.target: column {name!r} is of text; of several targets, all must be numbers"
            )
        numbers.append(column)
    return np.column_stack(numbers)


def division_column(name: str, column: pa.ChunkedArray) -> Column:
    """Return the column that `data.split.by` names.

    Raises:
        DataError: The column holds neither numbers, nor text, nor times.
    """
    if kind_of(column.type) not in {"number", "text", "time"}:
        raise DataError(
            f"data.split.by: column {name!r} is of type {column.type}; use numbers, text or times"
        )
    return to_column(column)
