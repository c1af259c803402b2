"""From the data settings to three parts, of which trials get two."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import pyarrow as pa

from trainers.data.checks import check_features, check_parts, check_target
from trainers.data.duplicates import count_duplicates
from trainers.data.encoding import Encoding, channel_names, fit_encoding
from trainers.data.fingerprints import data_fingerprint, split_fingerprint
from trainers.data.raw import Array, RawData
from trainers.data.sources import read_source
from trainers.data.splits import PARTS, Split, split_rows
from trainers.data.tables import listed
from trainers.data.targets import Class
from trainers.errors import DataError
from trainers.settings import DataSettings, SplitSettings, TrainingSettings


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
    """What a model and its metrics need to know of the data; nothing in it comes from test rows."""

    input_shape: tuple[int, ...]
    """Of one row."""
    outputs: int
    """Numbers that a model gives for a row: classes or targets; 1 for binary_cross_entropy."""
    kind: Literal["classification", "regression"]
    classes: tuple[Class, ...]
    """In ascending order, empty for regression."""
    feature_names: tuple[str, ...]
    """One a feature; empty for rows of more than one dimension."""
    target_names: tuple[str, ...]
    truth: tuple[float, ...] | None
    """The coefficients that made the target, for features as they are encoded, where they are known."""
    encoding: Encoding

    def to_mapping(self) -> dict[str, Any]:
        """As JSON types."""
        mapping = {name: getattr(self, name) for name in self.__dataclass_fields__}
        lists = {name: list(value) for name, value in mapping.items() if isinstance(value, tuple)}
        return {**mapping, **lists, "encoding": self.encoding.to_mapping()}

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """From what `to_mapping` gave, also after a way through JSON."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in mapping.items()
        }
        values["encoding"] = Encoding.from_mapping(mapping["encoding"])
        return cls(**values)


@dataclass(frozen=True)
class DataReport:
    """What is worth knowing of the data and their division; for people, not for trials."""

    rows: Mapping[str, int]
    """Rows of train, validation and test."""
    duplicates: Mapping[str, int]
    """Rows of validation and test that also stand in an earlier part."""
    notices: tuple[str, ...]
    """Sentences to show."""
    fingerprint: str
    """SHA-256 of all rows and the settings that matter."""
    split_fingerprint: str
    """SHA-256 of the row numbers of the three parts."""

    def to_mapping(self) -> dict[str, Any]:
        """As JSON types."""
        return {**asdict(self), "notices": list(self.notices)}


@dataclass(frozen=True, eq=False)
class TrainingData:
    """All that a trial may see."""

    train: Rows
    validation: Rows
    info: DataInfo


@dataclass(frozen=True, eq=False)
class PreparedData:
    """The three parts, encoded; arrays are not shared between parts."""

    train: Rows
    validation: Rows
    test: Rows
    info: DataInfo
    report: DataReport

    def for_trials(self) -> TrainingData:
        """Training and validation rows, without a trace of the test rows."""
        return TrainingData(self.train, self.validation, self.info)


def prepare_data(settings: DataSettings, training: TrainingSettings, base: Path) -> PreparedData:
    """Read, check, divide and encode the rows of a job.

    Args:
        settings: the `data` section.
        training: the `training` section, whose loss decides the form of the target.
        base: folder of the job file, from which relative file paths count.

    Raises:
        DataError: the rows cannot be read or used as asked.
        SplitError: the rows cannot be divided as asked.
        ReferenceNotFound: the function of `data.source` is not there.
    """
    raw = read_source(settings, base)
    fill_nulls, loss = settings.missing == "mean", training.loss
    check_target(raw.target, raw.target_names, loss)
    check_features(raw.features, _column_names(raw), fill_nulls=fill_nulls)
    by = None if settings.split.by is None else raw.columns[settings.split.by]
    split = split_rows(settings.split, raw.rows, raw.target, by)
    check_parts(raw, split, loss=loss)
    duplicates = count_duplicates(raw, split)
    notices = _duplicate_notices(duplicates, split)
    if notices and settings.duplicates == "error":
        raise DataError(f"data.duplicates: {' '.join(notices)} Drop them, or set data.duplicates: report.")

    encoding = fit_encoding(
        raw, split.train, standardize=settings.standardize, fill_nulls=fill_nulls, loss=loss
    )
    report = DataReport(
        rows={name: len(rows) for name, rows in split.parts().items()},
        duplicates=duplicates,
        notices=(
            *notices,
            *_share_notices(settings.split, split),
            *_encoding_notices(raw, split, encoding, loss),
        ),
        fingerprint=data_fingerprint(raw, settings),
        split_fingerprint=split_fingerprint(split),
    )
    info = _info(raw, encoding)
    train, validation, test = (
        Rows(encoding.transform(raw.features, rows), encoding.target.transform(raw.target, rows))
        for rows in split.parts().values()
    )
    del raw
    pa.default_memory_pool().release_unused()
    return PreparedData(train, validation, test, info, report)


def _column_names(raw: RawData) -> tuple[str, ...]:
    if isinstance(raw.features, Mapping) or raw.features.ndim == 2:
        return raw.feature_names
    return channel_names(raw.features.shape[1])


def _info(raw: RawData, encoding: Encoding) -> DataInfo:
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


def _duplicate_notices(duplicates: Mapping[str, int], split: Split) -> list[str]:
    earlier = {"validation": "training", "test": "training or validation"}
    return [
        f"{count} of the {len(split.parts()[name])} {name} rows also stand in {earlier[name]}."
        for name, count in duplicates.items()
        if count
    ]


def _share_notices(settings: SplitSettings, split: Split) -> list[str]:
    if settings.method == "column":
        return []
    parts = split.parts()
    total = sum(map(len, parts.values()))
    got = {name: len(parts[name]) / total for name in PARTS}
    return [
        f"{name} holds {got[name]:.0%} of the rows, although {getattr(settings, name):.0%} were asked for."
        for name in PARTS
        if abs(got[name] - getattr(settings, name)) > 0.05
    ]


def _encoding_notices(raw: RawData, split: Split, encoding: Encoding, loss: str) -> list[str]:
    notices = [
        f"{count} {name} rows hold a text in {column!r} that no training row holds; it is encoded as zeros."
        for name in ("validation", "test")
        for column, count in encoding.unknown_texts(raw.features, split.parts()[name]).items()
    ]
    if ":" in loss and encoding.target.form == "classes":
        notices.append(
            f"The loss {loss} gets {listed(raw.target_names)} as class numbers "
            f"0 to {encoding.target.outputs - 1}; write it with decimals (float) if its values are meant."
        )
    return notices
