"""Rows from Parquet, CSV, Arrow and NumPy files."""

import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from tune_jobs.text import did_you_mean
from tune_jobs.trainers.data.raw import RawData, as_column, as_numbers
from tune_jobs.trainers.data.settings import DataSettings
from tune_jobs.trainers.data.tables import (
    check_names,
    division_column,
    feature_columns,
    is_index,
    quoted_names,
    stack_targets,
    target_column,
)
from tune_jobs.trainers.errors import DataError

SUFFIXES = (".parquet", ".csv", ".arrow", ".npz")
"""Suffixes of the files that can be read."""


@dataclass(frozen=True)
class _TableFile:
    """The column names of a file, and a function that reads some of its columns."""

    names: list[str]
    read: Callable[[list[str]], pa.Table]


def is_file(path: Path) -> bool:
    """Return whether the file exists; a name that no file can have does not."""
    try:
        return path.is_file()
    except OSError:  # the name is too long, or a folder on the way is not accessible
        return False


def read_file(path: Path, settings: DataSettings) -> RawData:
    """Read a .parquet, .csv, .arrow or .npz file.

    Tables need `data.target`; `data.arguments` may hold `columns` (only these features), `drop` (all but
    these) and, for CSV, `delimiter`. An .npz has its features in `x` and its target in `y`, or in the array
    that `data.target` names. The column of `data.split.by` is never a feature, nor are the row labels
    that pandas writes (`__index_level_0__`).

    Raises:
        DataError: The file is missing, damaged or of an unknown type, or lacks requested columns.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(
            f"data.source: {path.name!r} is of no known file type; use one of {', '.join(SUFFIXES)}"
        )
    if not is_file(path):
        beside = [other.name for other in path.parent.glob("*")] if path.parent.is_dir() else []
        raise DataError(f"data.source: there is no file {path}{did_you_mean(path.name, beside)}")
    if repeated := quoted_names(
        [name for name, count in Counter(target_names(settings)).items() if count > 1]
    ):
        raise DataError(f"data.target: {repeated} is named twice; name a column once")
    allowed = {".csv": ("columns", "drop", "delimiter"), ".npz": ()}.get(suffix, ("columns", "drop"))
    arguments = _checked_arguments(settings.arguments, allowed, suffix)
    if suffix == ".npz":
        return _read_npz(path, settings)
    table = _readable(path, lambda: _open_table(path, suffix, arguments.get("delimiter", ",")))
    return _read_table(path, table, arguments, settings)


def target_names(settings: DataSettings) -> tuple[str, ...]:
    """Return the names of `data.target`, none if it is null."""
    target = settings.target
    return () if target is None else (target,) if isinstance(target, str) else target


def _checked_arguments(
    arguments: Mapping[str, Any], allowed: Sequence[str], suffix: str
) -> Mapping[str, Any]:
    for name, value in arguments.items():
        if name not in allowed:
            takes = f"take {', '.join(allowed)}" if allowed else "take no arguments"
            raise DataError(
                f"data.arguments: {suffix} files {takes}, not {name!r}{did_you_mean(name, allowed)}"
            )
        if name == "delimiter":
            if not (isinstance(value, str) and len(value) == 1):
                raise DataError(f"data.arguments.delimiter is {value!r}; give a single character")
        elif not (isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value)):
            raise DataError(f"data.arguments.{name} is {value!r}; give a list of column names")
    return arguments


def _readable(path: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Exception as error:  # libraries raise any kind of error on damaged files
        text = str(error).strip().splitlines()
        reason = text[0] if text else type(error).__name__
        raise DataError(f"data.source: {path} cannot be read as {path.suffix.lower()}: {reason}") from error


def _open_table(path: Path, suffix: str, delimiter: str) -> _TableFile:
    match suffix:
        case ".parquet":
            return _open_parquet(path)
        case ".csv":
            return _open_csv(path, delimiter)
        case _:
            return _open_arrow(path)


def _open_parquet(path: Path) -> _TableFile:
    def read(names: list[str]) -> pa.Table:
        # pre_buffer would hold all compressed columns beside the decoded ones
        with pa.parquet.ParquetFile(path, pre_buffer=False) as file:
            return file.read(columns=names)

    with pa.parquet.ParquetFile(path) as file:
        return _TableFile(file.schema_arrow.names, read)


def _open_csv(path: Path, delimiter: str) -> _TableFile:
    parse = pa.csv.ParseOptions(delimiter=delimiter)
    in_order = pa.csv.ReadOptions(use_threads=False)

    def read(names: list[str]) -> pa.Table:
        convert = pa.csv.ConvertOptions(
            include_columns=names, strings_can_be_null=True, quoted_strings_can_be_null=False
        )
        try:
            return pa.csv.read_csv(path, parse_options=parse, convert_options=convert)
        except pa.ArrowInvalid:  # several threads do not know the number of the row
            return pa.csv.read_csv(path, in_order, parse, convert)

    with pa.csv.open_csv(path, in_order, parse) as reader:
        return _TableFile(reader.schema.names, read)


def _open_arrow(path: Path) -> _TableFile:
    def reader(options: pa.ipc.IpcReadOptions) -> Any:
        source = pa.memory_map(str(path))
        try:
            return pa.ipc.open_file(source, options=options)
        except pa.ArrowInvalid:
            source.seek(0)
            return pa.ipc.open_stream(source, options=options)

    names = reader(pa.ipc.IpcReadOptions()).schema.names

    def read(wanted: list[str]) -> pa.Table:
        fields = sorted(names.index(name) for name in wanted)
        # If fields are named, Arrow copies them. Otherwise it uses the mapped file without a copy.
        some = pa.ipc.IpcReadOptions(included_fields=fields if len(fields) < len(names) else None)
        return reader(some).read_all()

    return _TableFile(names, read)


def _read_table(
    path: Path, table: _TableFile, arguments: Mapping[str, Any], settings: DataSettings
) -> RawData:
    names = [name for name in table.names if not is_index(name)]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(
            f"data.source: {path.name} has more than one column {quoted_names(repeated)}; rename them"
        )
    targets, by = target_names(settings), settings.split.by
    if not targets:
        raise DataError(
            f"data.target: name the target column; {path.name} has the columns {quoted_names(names)}"
        )
    check_names("data.target", targets, names)
    check_names("data.split.by", [by] if by else [], names)
    if by in targets:
        raise DataError(f"data.split.by: column {by!r} is the target; divide by another column")
    features = _feature_names(names, {*targets, *([by] if by else [])}, arguments)

    wanted = [*features, *targets, *([by] if by else [])]
    rows = _readable(path, lambda: table.read(wanted))
    if rows.num_rows == 0:
        raise DataError(f"data.source: {path} has no rows")
    target = target_column({name: rows.column(name) for name in targets})
    columns = {by: division_column(by, rows.column(by))} if by else {}
    rows = rows.select(features)
    arrays = feature_columns(rows)
    del rows
    pa.default_memory_pool().release_unused()
    return RawData(arrays, target, columns, feature_names=tuple(features), target_names=targets)


def _feature_names(names: list[str], taken: set[str], arguments: Mapping[str, Any]) -> list[str]:
    for key in ("columns", "drop"):
        check_names(f"data.arguments.{key}", arguments.get(key, ()), names)
    if both := [name for name in arguments.get("columns", ()) if name in taken]:
        raise DataError(f"data.arguments.columns: {both[0]!r} is the target or the column of data.split.by")
    dropped = taken.union(arguments.get("drop", ()))
    kept = [name for name in dict.fromkeys(arguments.get("columns", names)) if name not in dropped]
    if not kept:
        raise DataError(f"data: no column is left as a feature; the columns are {quoted_names(names)}")
    return kept


def _read_npz(path: Path, settings: DataSettings) -> RawData:
    targets, by = target_names(settings) or ("y",), settings.split.by
    if not zipfile.is_zipfile(path):  # np.load would call it a pickle
        raise DataError(
            f"data.source: {path} cannot be read as .npz: it is no zip archive, or not a whole one"
        )
    with path.open("rb") as file, _readable(path, lambda: np.load(file, allow_pickle=False)) as archive:
        names = list(archive.files)
        check_names("data.source", ["x"], names)
        check_names("data.target", targets, names)
        check_names("data.split.by", [by] if by else [], names)
        if "x" in targets or by in {"x", *targets}:
            raise DataError(
                "data: x is the features; the target and the column of data.split.by are other arrays"
            )

        def read(name: str) -> Any:
            return _readable(path, lambda: archive[name])

        features = as_numbers(read("x"), "data.source: array 'x'")
        target = stack_targets(
            {name: as_column(read(name), f"data.target: array {name!r}") for name in targets}
        )
        columns = {by: as_column(read(by), f"data.split.by: array {by!r}")} if by else {}
    return RawData(features, target, columns, target_names=targets)
