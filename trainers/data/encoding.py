"""Encode rows as features for a model: standardised numbers and one-hot texts, fitted on training rows only."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa

from tune_jobs.trainers.data.checks import check_features
from tune_jobs.trainers.data.raw import Array, Column, Features, RawData, TextColumn, row_slices, row_width
from tune_jobs.trainers.data.settings import DataSettings
from tune_jobs.trainers.data.tables import check_names, feature_columns, quoted_names
from tune_jobs.trainers.data.targets import TargetEncoding, fit_target
from tune_jobs.trainers.errors import DataError

MOST_CATEGORIES = 1000
"""The largest number of different texts in a column; each becomes one feature."""

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Number:
    """A numeric column, or a channel of an array: its mean and deviation over the training rows."""

    name: str
    mean: float
    deviation: float
    """Standard deviation; 1 if all training rows are equal."""


@dataclass(frozen=True)
class Categories:
    """A text column: its distinct texts in the training rows, one feature each."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Encoding:
    """The encoding of rows as numbers; it encodes new rows in the same way.

    A table's numeric columns are standardised one by one. So are the columns of an array [n, features], and the
    channels (axis 1) of an array of more dimensions. An unknown text becomes all zeros.
    """

    shape: tuple[int, ...]
    """Shape of one encoded row."""
    parts: tuple[Number | Categories, ...]
    """Columns of the table or array, or channels, in order."""
    table: bool
    """Whether rows come as named columns rather than as an array."""
    standardize: bool
    fill_nulls: bool
    """Whether the mean replaces nulls; otherwise nulls are refused."""
    target: TargetEncoding

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Return one name per feature, `column=text` for texts; empty for arrays of more than two dimensions."""
        if len(self.shape) > 1:
            return ()
        names: list[str] = []
        for part in self.parts:
            names += (
                [part.name] if isinstance(part, Number) else [f"{part.name}={text}" for text in part.values]
            )
        return tuple(names)

    def transform(self, features: Features, rows: Array | None = None) -> Array:
        """Encode rows that were checked.

        Args:
            features: Features as in `RawData`, with the columns or the shape of the training rows.
            rows: The numbers of the rows; None means all.

        Returns:
            float32 [rows, *shape], C-contiguous.

        Raises:
            DataError: A number is too large for float32.
        """
        if rows is None:
            first = next(iter(features.values())) if isinstance(features, Mapping) else features
            rows = np.arange(len(first))
        out = np.zeros((len(rows), *self.shape), np.float32)
        if not isinstance(features, Mapping):
            self._write(features, rows, out, tuple(part for part in self.parts if isinstance(part, Number)))
            return out
        start = 0
        for part in self.parts:
            column = features[part.name]
            if isinstance(part, Number):
                assert isinstance(column, np.ndarray)
                self._write(column, rows, out[:, start : start + 1], (part,))
                start += 1
            else:
                _write_one_hot(column, rows, out[:, start : start + len(part.values)], part)
                start += len(part.values)
        return out

    def _write(self, values: Array, rows: Array, out: Array, numbers: tuple[Number, ...]) -> None:
        means = np.array([number.mean for number in numbers])[:, None]
        deviations = np.array([number.deviation for number in numbers])[:, None]
        for part in row_slices(len(rows), row_width(values)):
            chunk = _channels(values[rows[part]], len(numbers))
            if self.fill_nulls:
                np.copyto(chunk, means, where=np.isnan(chunk))
            if self.standardize:
                chunk -= means
                chunk /= deviations
            with np.errstate(over="ignore"):
                out[part] = chunk.reshape(out[part].shape)
            if not np.isfinite(out[part]).all():
                large = np.abs(chunk).max(axis=(0, 2)) > np.finfo(np.float32).max
                names = [number.name for number, found in zip(numbers, large.tolist(), strict=True) if found]
                raise DataError(
                    f"data: numbers in {quoted_names(names)} are too large for float32; rescale them"
                )

    def unknown_texts(self, features: Features, rows: Array) -> dict[str, int]:
        """Count the rows with a text that no training row contains, by column."""
        if not isinstance(features, Mapping):
            return {}
        counts = {
            part.name: int(np.count_nonzero(_positions(features[part.name], part)[rows] < 0))
            for part in self.parts
            if isinstance(part, Categories)
        }
        return {name: count for name, count in counts.items() if count}

    def encode_coefficients(self, coefficients: Array) -> tuple[float, ...]:
        """Convert the coefficients [features] of a linear model of raw numbers to those of encoded numbers."""
        scales = [part.deviation for part in self.parts if isinstance(part, Number)]
        scaled = coefficients * np.array(scales) if self.standardize else coefficients
        return tuple(scaled.tolist())

    def encode_table(self, table: "pa.Table | pd.DataFrame") -> Array:
        """Encode new rows of a table with at least the columns of the training rows; other columns are ignored.

        Args:
            table: A pyarrow or pandas table.

        Returns:
            float32 [rows, features].

        Raises:
            DataError: A column is missing or of another type, or has nulls that are not filled in.
        """
        if not self.table:
            raise DataError("the model was trained on an array; give an array, not a table")
        if not isinstance(table, pa.Table):
            table = pa.Table.from_pandas(table, preserve_index=False)
        names = [part.name for part in self.parts]
        check_names("table", names, table.schema.names)
        columns = feature_columns(table.select(names))
        for part in self.parts:
            if isinstance(part, Categories) != isinstance(columns[part.name], TextColumn):
                kind = "numbers" if isinstance(part, Number) else "text"
                raise DataError(f"table: column {part.name!r} must be of {kind}, as in training")
        check_features(columns, (), fill_nulls=self.fill_nulls)
        return self.transform(columns)

    def encode_array(self, array: Array) -> Array:
        """Encode new rows [n, *shape] of an array.

        Raises:
            DataError: The shape differs from that of training, or there are nulls that are not filled in.
        """
        if self.table:
            raise DataError("the model was trained on a table; give a table, not an array")
        if array.shape[1:] != self.shape or array.dtype.kind not in "biuf":
            raise DataError(
                f"the array is of type {array.dtype} and shape {list(array.shape)}; "
                f"it must be of numbers and of shape [n, {', '.join(map(str, self.shape))}]"
            )
        check_features(array, tuple(part.name for part in self.parts), fill_nulls=self.fill_nulls)
        return self.transform(array)

    def to_mapping(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {
            "shape": list(self.shape),
            "parts": [asdict(part) for part in self.parts],
            "table": self.table,
            "standardize": self.standardize,
            "fill_nulls": self.fill_nulls,
            "target": self.target.to_mapping(),
        }

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Read back the result of `to_mapping`, also after JSON."""
        parts = (
            Categories(part["name"], tuple(part["values"])) if "values" in part else Number(**part)
            for part in mapping["parts"]
        )
        return cls(
            shape=tuple(mapping["shape"]),
            parts=tuple(parts),
            table=mapping["table"],
            standardize=mapping["standardize"],
            fill_nulls=mapping["fill_nulls"],
            target=TargetEncoding.from_mapping(mapping["target"]),
        )


def fit_encoding(raw: RawData, train: Array, settings: DataSettings, loss: str) -> Encoding:
    """Fit an encoding to the training rows of checked data.

    Args:
        raw: The rows. Only those in `train` are read.
        train: Numbers of the training rows, such as those of a fold.
        settings: The `data` section, of which `standardize` and `missing` count.
        loss: `training.loss`. It decides the form of the target.

    Raises:
        DataError: A column has only nulls, too large numbers or too many texts in the training rows.
    """
    features = raw.features
    if isinstance(features, Mapping):
        parts = tuple(_fit_column(name, column, train) for name, column in features.items())
        shape: tuple[int, ...] = (sum(1 if isinstance(p, Number) else len(p.values) for p in parts),)
    else:
        shape = features.shape[1:]
        names = raw.feature_names if len(shape) == 1 else channel_names(shape[0])
        parts = _fit_numbers(names, features, train)
    return Encoding(
        shape=shape,
        parts=parts,
        table=isinstance(features, Mapping),
        standardize=settings.standardize,
        fill_nulls=settings.missing == "mean",
        target=fit_target(raw.target, raw.target_names, loss, train),
    )


def channel_names(count: int) -> tuple[str, ...]:
    """Return the names of the channels of an array of three or more dimensions."""
    return tuple(f"channel {channel}" for channel in range(count))


def _fit_column(name: str, column: Column, train: Array) -> Number | Categories:
    if not isinstance(column, TextColumn):
        return _fit_numbers((name,), column, train)[0]
    used = np.unique(column.codes[train])
    values = tuple(column.values[code] for code in used[used >= 0].tolist())
    if len(values) > MOST_CATEGORIES:
        raise DataError(
            f"data: text column {name!r} holds {len(values)} different texts, one feature each; at most "
            f"{MOST_CATEGORIES} are taken: leave it out with data.arguments.drop, or group the texts"
        )
    return Categories(name, values)


def _fit_numbers(names: tuple[str, ...], values: Array, train: Array) -> tuple[Number, ...]:
    """Return means and deviations of columns or channels, summed as float64 in chunks, without nulls."""
    width = len(names)
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    total, count, squares = np.zeros(width), np.zeros(width), np.zeros(width)
    slices = list(row_slices(len(train), row_width(values)))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for part in slices:
            chunk = _channels(values[train[part]], width)
            low = np.fmin(low, np.fmin.reduce(chunk, axis=(0, 2)))
            high = np.fmax(high, np.fmax.reduce(chunk, axis=(0, 2)))
            total += np.nansum(chunk, axis=(0, 2))
            count += np.count_nonzero(~np.isnan(chunk), axis=(0, 2))
        means = total / count
        for part in slices:
            chunk = _channels(values[train[part]], width)
            chunk -= means[:, None]
            squares += np.nansum(np.square(chunk, out=chunk), axis=(0, 2))
        deviations = np.sqrt(squares / count)
    if empty := [name for name, known in zip(names, count.tolist(), strict=True) if not known]:
        raise DataError(f"data: all training rows are null in {quoted_names(empty)}; drop these columns")
    finite = np.isfinite(means) & np.isfinite(deviations)
    if large := [name for name, ok in zip(names, finite.tolist(), strict=True) if not ok]:
        raise DataError(f"data: numbers in {quoted_names(large)} are too large to be averaged; rescale them")
    constant = low == high  # rounding gives constant numbers a deviation of nearly 0
    means, deviations = (
        np.where(constant, low, means),
        np.where(constant | (deviations == 0), 1.0, deviations),
    )
    return tuple(map(Number, names, means.tolist(), deviations.tolist()))


def _channels(chunk: Array, width: int) -> Array:
    """Return a float64 copy [rows, width, values of a row and channel]."""
    return chunk.astype(np.float64, order="C").reshape(len(chunk), width, -1)


def _positions(column: Column, categories: Categories) -> Array:
    """Return [n]: index of each row's text among the categories, -1 if it is unknown."""
    assert isinstance(column, TextColumn)
    place = {text: number for number, text in enumerate(categories.values)}
    lookup = np.array([*(place.get(text, -1) for text in column.values), -1], np.int64)
    positions: Array = lookup[column.codes]
    return positions


def _write_one_hot(column: Column, rows: Array, out: Array, categories: Categories) -> None:
    positions = _positions(column, categories)[rows]
    known = np.flatnonzero(positions >= 0)
    out[known, positions[known]] = 1.0
