"""Find the source of rows: a built-in one, a file or a function."""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa

from tune_jobs.text import did_you_mean
from tune_jobs.trainers.data.files import SUFFIXES, read_file
from tune_jobs.trainers.data.raw import Array, Column, RawData, as_column, as_numbers
from tune_jobs.trainers.data.settings import BuiltInSource, DataSettings
from tune_jobs.trainers.data.tables import check_names, feature_columns, is_index
from tune_jobs.trainers.errors import DataError
from tune_jobs.trainers.references import calling, load_reference
from tune_jobs.trainers.settings import REFERENCE

LARGEST_SIGMA = 1e30
"""Largest `sigma` of `linear_gaussian`, because models compute in single precision."""


def read_source(settings: DataSettings, base: Path) -> RawData:
    """Read all rows of `data.source`.

    A function gets `data.arguments` and returns `(x, y)`, or a mapping with `x`, `y` and columns to divide
    by. `x` is an array of numbers [n, *shape] or a table (Arrow, pandas); `y` is [n] or [n, k].

    Args:
        settings: The `data` section of the job.
        base: Folder of the job file, from which relative file paths count.

    Raises:
        DataError: The source is unknown, cannot be read, or gives no usable rows.
        ReferenceNotFound: The function does not exist.
    """
    source = settings.source
    if source in get_args(BuiltInSource):
        raw = _built_in(source, settings)
    elif re.fullmatch(REFERENCE, source):
        raw = _call(source, settings)
    elif Path(source).suffix.lower() in SUFFIXES:
        raw = read_file(base / source, settings)
    else:
        known = get_args(BuiltInSource)
        raise DataError(
            f"data.source: {source!r} is unknown; use {', '.join(known)}, a file ({', '.join(SUFFIXES)}) or "
            f"package.module:function{did_you_mean(source, known)}"
        )
    if (by := settings.split.by) is not None and by not in raw.columns:
        if not raw.columns:
            raise DataError(f"data.split.by: {source!r} has no column to divide by; use random or stratified")
        check_names("data.split.by", [by], raw.columns)
    return _normalise(raw)


def _normalise(raw: RawData) -> RawData:
    """Return `raw` in the shapes that `RawData` promises, with names for its features.

    Raises:
        DataError: The shapes or the numbers of rows do not fit.
    """
    arrays = dict(raw.features) if isinstance(raw.features, Mapping) else {"x": raw.features}
    lengths = {name: len(column) for name, column in {**arrays, "y": raw.target, **raw.columns}.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name!r} {count}" for name, count in lengths.items())
        raise DataError(f"data.source: the numbers of rows differ: {counts}")
    if raw.rows == 0:
        raise DataError("data.source: there are no rows")
    features, names, target = raw.features, raw.feature_names, raw.target
    if len(target.shape) > 2 or 0 in target.shape:
        raise DataError(f"data.target is of shape {list(target.shape)}; it must be [n] or [n, k]")
    if isinstance(target, np.ndarray) and target.dtype.kind in "mM":
        raise DataError(f"data.target is of type {target.dtype}; a target is of numbers or of text")
    if isinstance(target, np.ndarray) and target.ndim == 2 and target.shape[1] == 1:
        target = target[:, 0]
    if not isinstance(features, Mapping):
        features = features.reshape(-1, 1) if features.ndim == 1 else features
        if 0 in features.shape:
            raise DataError(f"data.source: x is of shape {list(features.shape)}; a row has no features")
        if features.ndim == 2 and not names:
            names = tuple(f"x{column}" for column in range(features.shape[1]))
    targets, width = raw.target_names, 1 if len(target.shape) == 1 else target.shape[1]
    if len(targets) != width:
        targets = tuple(f"{targets[0]}{column}" for column in range(width))
    return replace(raw, features=features, target=target, feature_names=names, target_names=targets)


def _refuse_target(settings: DataSettings) -> None:
    if settings.target is not None:
        raise DataError(f"data.target is for files; {settings.source!r} has its own target: remove it")


def _call(source: str, settings: DataSettings) -> RawData:
    _refuse_target(settings)
    function = load_reference(source)
    try:
        inspect.signature(function).bind(**settings.arguments)
    except TypeError as error:
        raise DataError(f"data.arguments do not fit {source}: {error}") from error
    except ValueError:  # compiled functions may have no signature
        pass
    try:
        with calling(source):
            given = function(**settings.arguments)
    except (Exception, SystemExit) as error:  # the user's code may do anything
        raise DataError(f"data.source: {source} failed: {type(error).__name__}: {error}") from error
    if isinstance(given, tuple) and len(given) == 2:
        given = dict(zip("xy", given, strict=True))
    if not (isinstance(given, Mapping) and {"x", "y"} <= set(given)):
        found = (
            f"a mapping of {', '.join(map(repr, given))}"
            if isinstance(given, Mapping)
            else type(given).__name__
        )
        raise DataError(
            f"data.source: {source} returned {found}; return (x, y) or a mapping with 'x' and 'y'"
        )
    columns = {name: _column(given[name], source, name) for name in given if name not in {"x", "y"}}
    target = _column(given["y"], source, "y")
    x = given["x"]
    if hasattr(x, "__arrow_c_stream__") and not isinstance(x, pa.ChunkedArray):
        table = pa.table(x)
        table = table.drop_columns([name for name in table.schema.names if is_index(name)])
        return RawData(feature_columns(table), target, columns, tuple(table.schema.names))
    return RawData(as_numbers(x, f"data.source: 'x' of {source}"), target, columns)


def _column(values: object, source: str, name: str) -> Column:
    return as_column(values, f"data.source: {name!r} of {source}")


def _built_in(name: str, settings: DataSettings) -> RawData:
    _refuse_target(settings)
    makers: dict[str, Callable[..., RawData]] = {
        "digits": _digits,
        "breast_cancer": _breast_cancer,
        "wine": _wine,
        "diabetes": _diabetes,
        "linear_gaussian": linear_gaussian,
    }
    make, arguments = makers[name], settings.arguments
    valid = list(inspect.signature(make).parameters)
    for key in arguments:
        if key not in valid:
            takes = f"takes {', '.join(valid)}" if valid else "takes no arguments"
            raise DataError(f"data.arguments: {name} {takes}, not {key!r}{did_you_mean(key, valid)}")
    return make(**arguments)


def linear_gaussian(n: int = 500, features: int = 2, sigma: float = 0.001, seed: int = 0) -> RawData:
    """Draw rows of y = x·θ + σε, in which x [n, features], θ [features] and ε [n] are standard normal.

    Raises:
        DataError: An argument is out of range.
    """
    for name, value, least in (("n", n, 1), ("features", features, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise DataError(f"data.arguments.{name} is {value!r}; give a whole number of at least {least}")
    if isinstance(sigma, bool) or not isinstance(sigma, int | float) or not 0 <= sigma <= LARGEST_SIGMA:
        raise DataError(
            f"data.arguments.sigma is {sigma!r}; give a number of at least 0 and at most {LARGEST_SIGMA:g}"
        )
    random = np.random.Generator(np.random.PCG64(seed))
    try:
        x = random.standard_normal((n, features))
        theta = random.standard_normal(features)
        y = x @ theta + sigma * random.standard_normal(n)
    except (MemoryError, ValueError) as error:  # NumPy's words for an array that no machine can hold
        raise DataError(
            f"data.arguments: {n} rows of {features} features do not fit into memory; give a smaller n or "
            "fewer features"
        ) from error
    return RawData(x, y, truth=theta)


def _digits() -> RawData:
    from sklearn.datasets import load_digits  # noqa: PLC0415  # slow to import

    data = load_digits()
    return RawData((data.images[:, None] / 16).astype(np.float32), data.target)


def _breast_cancer() -> RawData:
    from sklearn.datasets import load_breast_cancer  # noqa: PLC0415  # slow to import

    return _bunch(load_breast_cancer())


def _wine() -> RawData:
    from sklearn.datasets import load_wine  # noqa: PLC0415  # slow to import

    return _bunch(load_wine())


def _diabetes() -> RawData:
    from sklearn.datasets import load_diabetes  # noqa: PLC0415  # slow to import

    return _bunch(load_diabetes(scaled=False))  # scaled=True would scale by means over the test rows too


def _bunch(data: Any) -> RawData:
    x: Array = data.data
    return RawData(x, data.target, feature_names=tuple(map(str, data.feature_names)))
