"""Prepare the data of a job in one call: read, check, divide and encode.

The steps are separate functions, for callers that divide rows in another way: `read_rows`, `split_data`,
`fit_encoding` and `encode_rows`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from tune_jobs.trainers.data.checks import check_training_rows
from tune_jobs.trainers.data.duplicates import count_duplicates
from tune_jobs.trainers.data.encoding import Encoding, fit_encoding
from tune_jobs.trainers.data.fingerprints import data_fingerprint, split_fingerprint
from tune_jobs.trainers.data.raw import RawData
from tune_jobs.trainers.data.read import read_rows
from tune_jobs.trainers.data.rows import DataInfo, Rows, TrainingData, describe_data, encode_rows
from tune_jobs.trainers.data.settings import DataSettings, SplitSettings
from tune_jobs.trainers.data.splits import PARTS, Split, split_data
from tune_jobs.trainers.data.tables import quoted_names
from tune_jobs.trainers.errors import DataError
from tune_jobs.trainers.settings import is_reference


@dataclass(frozen=True)
class DataReport:
    """Facts about the data and their division, for people, not for trials."""

    rows: Mapping[str, int]
    """Rows of train, validation and test."""
    duplicates: Mapping[str, int]
    """Numbers of validation and test rows that are also in an earlier part."""
    notices: tuple[str, ...]
    """Sentences to show."""
    fingerprint: str
    """SHA-256 of all rows and the settings that affect them."""
    split_fingerprint: str
    """SHA-256 of the row numbers of the three parts."""

    def to_mapping(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {**asdict(self), "notices": list(self.notices)}


@dataclass(frozen=True, eq=False)
class PreparedData:
    """The three parts, encoded; arrays are not shared between parts."""

    train: Rows
    validation: Rows
    test: Rows
    info: DataInfo
    report: DataReport

    def for_trials(self) -> TrainingData:
        """Return the training and validation rows, without any test row."""
        return TrainingData(self.train, self.validation, self.info)


def prepare_data(settings: DataSettings, loss: str, base: Path) -> PreparedData:
    """Read, check, divide and encode the rows of a job.

    Args:
        settings: The `data` section.
        loss: `training.loss`. It decides the form of the target.
        base: Folder of the job file. Relative file paths count from here.

    Raises:
        DataError: The rows cannot be read or used as the settings ask.
        SplitError: The rows cannot be divided as the settings ask.
        ReferenceNotFound: The function of `data.source` does not exist.
    """
    raw = read_rows(settings, loss, base)
    split = split_data(raw, settings.split)
    check_training_rows(raw, split.train, split.held_out(), loss)
    duplicates = count_duplicates(raw, split)
    notices = _duplicate_notices(duplicates, split)
    if notices and settings.duplicates == "error":
        raise DataError(f"data.duplicates: {' '.join(notices)} Drop them, or set data.duplicates: report.")

    encoding = fit_encoding(raw, split.train, settings, loss)
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
    info = describe_data(raw, encoding)
    train, validation, test = (encode_rows(raw, rows, encoding) for rows in split.parts().values())
    del raw
    pa.default_memory_pool().release_unused()
    return PreparedData(train, validation, test, info, report)


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
    if is_reference(loss) and encoding.target.form == "classes":
        notices.append(
            f"The loss {loss} gets {quoted_names(raw.target_names)} as class numbers "
            f"0 to {encoding.target.outputs - 1}; write it with decimals (float) if its values are meant."
        )
    return notices
