"""Rows as they were read, before they are divided and encoded."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tune_jobs.trainers.errors import DataError

Array = npt.NDArray[Any]

CHUNK = 1 << 20
"""Numbers in a chunk at most, so that no whole array is copied as float64."""


@dataclass(frozen=True, eq=False)
class TextColumn:
    """A column of text, each distinct text stored once."""

    codes: Array
    """[n] int32: position in `values`; -1 is a null."""
    values: tuple[str, ...]
    """The distinct texts, sorted."""

    @classmethod
    def from_arrow(cls, column: pa.ChunkedArray) -> "TextColumn":
        """Convert a column of strings, or of a dictionary of strings or numbers."""
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        encoded = column.unify_dictionaries().combine_chunks()
        if isinstance(encoded, pa.ChunkedArray):
            encoded = pa.concat_arrays(encoded.chunks)
        texts = [None if text is None else str(text) for text in encoded.dictionary.to_pylist()]
        indices = encoded.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
        used = np.unique(indices[indices >= 0]).tolist()
        values = sorted({text for text in (texts[index] for index in used) if text is not None})
        position = {text: code for code, text in enumerate(values)}
        codes = np.array([*(-1 if text is None else position.get(text, -1) for text in texts), -1], np.int32)
        return cls(codes[indices], tuple(values))

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the column, [n]."""
        return self.codes.shape

    def __len__(self) -> int:
        return len(self.codes)

    def strings(self) -> Array:
        """Return the texts, [n] of str; nulls are None."""
        return np.array([*self.values, None], object)[self.codes]


Column = Array | TextColumn
Features = Array | Mapping[str, Column]


@dataclass(frozen=True, eq=False)
class RawData:
    """All rows of a source, in its order and its own types; a null of a numeric column is NaN."""

    features: Features
    """[n, *shape] of numbers, or named columns [n] in order."""
    target: Column
    """[n] or [n, k]."""
    columns: Mapping[str, Column] = field(default_factory=dict)
    """Columns [n] that `data.split.by` may name."""
    feature_names: tuple[str, ...] = ()
    """One name per feature; empty for features of more than one dimension, such as images."""
    target_names: tuple[str, ...] = ("target",)
    truth: Array | None = None
    """[features]: the coefficients that made the target; None if unknown."""

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return len(self.target)


def numbers_of(column: Column) -> Array:
    """Return the column as an array of numbers: texts as their codes."""
    return column.codes if isinstance(column, TextColumn) else column


def as_column(values: object, name: str) -> Column:
    """Convert the values of `name`, from a function or an array file, to an array of numbers or times, or to text.

    Raises:
        DataError: The values are neither numbers, nor times, nor text, or there is only one.
    """
    try:
        array = np.asarray(values)
    except Exception as error:
        raise DataError(f"{name} is no array: {type(error).__name__}: {error}") from error
    if array.dtype.kind in "biufmM" and array.ndim:
        if array.dtype.kind == "f" and array.itemsize > 8:
            with np.errstate(over="ignore"):  # infinities are refused with the column's name
                return array.astype(np.float64)
        return array
    if array.dtype.kind in "OUT" and array.ndim == 1:
        try:
            texts = pa.array(array.tolist(), pa.string(), from_pandas=True)
        except (pa.ArrowException, TypeError):
            pass
        else:
            return TextColumn.from_arrow(pa.chunked_array([texts]))
    shape = list(array.shape)
    raise DataError(f"{name} is of type {array.dtype} and shape {shape}; give numbers or a list of texts")


def as_numbers(values: object, name: str) -> Array:
    """Convert the values of `name`, from a function or an array file, to an array of numbers.

    Raises:
        DataError: The values are not numbers.
    """
    column = as_column(values, name)
    if isinstance(column, TextColumn) or column.dtype.kind in "mM":
        kind = "text" if isinstance(column, TextColumn) else str(column.dtype)
        raise DataError(f"{name} is of type {kind}; give an array of numbers [n, ...] or a table")
    return column


def row_slices(rows: int, width: int) -> Iterator[slice]:
    """Yield slices of consecutive rows, of about `CHUNK` numbers each if a row has `width` numbers."""
    step = max(1, CHUNK // max(1, width))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def row_width(array: Array) -> int:
    """Return the count of numbers in one row."""
    return math.prod(array.shape[1:])


def feature_blocks(features: Features) -> dict[str, Array]:
    """Return the features by name as arrays of numbers, texts as codes. A single array is one block."""
    if isinstance(features, Mapping):
        return {name: numbers_of(column) for name, column in features.items()}
    return {"x": features}
