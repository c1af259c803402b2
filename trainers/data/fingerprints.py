"""Fingerprints, which tell whether two runs saw the same rows in the same parts."""

import hashlib
import json
from collections.abc import Iterable, Mapping

import numpy as np

from tune_jobs.trainers.data.raw import Array, Column, RawData, TextColumn, numbers_of, row_slices, row_width
from tune_jobs.trainers.data.settings import DataSettings
from tune_jobs.trainers.data.splits import Split


def data_fingerprint(raw: RawData, settings: DataSettings) -> str:
    """Return the SHA-256, in hex digits, of the bytes of all rows and the settings that affect trainings.

    The order, names and types of the columns count; their origin does not.
    """
    features = raw.features if isinstance(raw.features, Mapping) else {"x": raw.features}
    seen = settings.model_dump(mode="json", include={"split", "standardize", "missing"})
    columns = [*features.items(), ("target", raw.target), *raw.columns.items()]
    header = {
        "settings": seen,
        "targets": raw.target_names,
        "columns": [_description(name, column) for name, column in columns],
    }
    return _sha256(header, (numbers_of(column) for _, column in columns))


def split_fingerprint(split: Split) -> str:
    """Return the SHA-256, in hex digits, of the row numbers of the three parts."""
    parts = split.parts()
    return _sha256({name: len(rows) for name, rows in parts.items()}, parts.values())


def _description(name: str, column: Column) -> list[object]:
    numbers = numbers_of(column)
    texts = column.values if isinstance(column, TextColumn) else None
    return [name, numbers.dtype.str, numbers.shape, texts]


def _sha256(header: object, arrays: Iterable[Array]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for array in arrays:
        for part in row_slices(len(array), row_width(array)):
            digest.update(np.ascontiguousarray(array[part]).view(np.uint8).data)
    return digest.hexdigest()
