"""Last step of data preparation: from chosen rows to the numbers that a model takes.

`fit_encoding` learns an encoding from the rows that it is given, and `encode_rows` applies it to any others:

    encoding = fit_encoding(raw, fold.train, settings, loss)
    train = encode_rows(raw, fold.train, encoding)
    validation = encode_rows(raw, fold.validation, encoding)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from tune_jobs.trainers.data.encoding import Encoding
from tune_jobs.trainers.data.raw import Array, RawData
from tune_jobs.trainers.data.targets import Class


@dataclass(frozen=True, eq=False)
class Rows:
    """Encoded rows."""

    x: Array
    """[n, *shape] float32."""
    y: Array
    """[n] int64 classes, or [n, k] float32."""

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class DataInfo:
    """Facts about the data that a model and its metrics need. None of them comes from test rows."""

    input_shape: tuple[int, ...]
    """Shape of one encoded row."""
    outputs: int
    """Numbers that a model gives for a row: classes or targets; 1 for binary_cross_entropy."""
    kind: Literal["classification", "regression"]
    classes: tuple[Class, ...]
    """The classes in ascending order, empty for regression."""
    feature_names: tuple[str, ...]
    """One name a feature, empty for rows of more than one dimension."""
    target_names: tuple[str, ...]
    truth: tuple[float, ...] | None
    """The coefficients that made the target, for encoded features. None if they are unknown."""
    encoding: Encoding

    def to_mapping(self) -> dict[str, Any]:
        """Return it as JSON types."""
        mapping = {name: getattr(self, name) for name in self.__dataclass_fields__}
        lists = {name: list(value) for name, value in mapping.items() if isinstance(value, tuple)}
        return {**mapping, **lists, "encoding": self.encoding.to_mapping()}

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Read back the result of `to_mapping`, also after JSON."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in mapping.items()
        }
        values["encoding"] = Encoding.from_mapping(mapping["encoding"])
        return cls(**values)


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Everything that a trial may see."""

    train: Rows
    validation: Rows
    info: DataInfo


def encode_rows(raw: RawData, rows: Array, encoding: Encoding) -> Rows:
    """Return the rows with the numbers `rows`, encoded. No other row of `raw` influences them.

    Raises:
        DataError: A number is too large for float32.
    """
    return Rows(encoding.transform(raw.features, rows), encoding.target.transform(raw.target, rows))


def describe_data(raw: RawData, encoding: Encoding) -> DataInfo:
    """Return the facts that a model needs about rows in this encoding. No row of `raw` is read."""
    target = encoding.target
    return DataInfo(
        input_shape=encoding.shape,
        outputs=target.outputs,
        kind="regression" if target.form == "values" else "classification",
        classes=target.classes,
        feature_names=encoding.feature_names,
        target_names=raw.target_names,
        truth=None if raw.truth is None else encoding.encode_coefficients(raw.truth),
        encoding=encoding,
    )
