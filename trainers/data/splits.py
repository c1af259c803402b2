"""Divide rows into training, validation and test: seeded, and as pure functions of their columns."""

from dataclasses import dataclass

import numpy as np

from tune_jobs.trainers.data.raw import Array, Column, RawData, TextColumn, numbers_of
from tune_jobs.trainers.data.settings import SplitSettings
from tune_jobs.trainers.data.tables import quoted_names
from tune_jobs.trainers.errors import SplitError

PARTS = ("train", "validation", "test")
"""Names of the parts, in the order in which they are numbered."""


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers (int64) of each part: chronological if divided by time, ascending otherwise."""

    train: Array
    validation: Array
    test: Array

    def parts(self) -> dict[str, Array]:
        """Return the row numbers of each part by its name."""
        return {name: getattr(self, name) for name in PARTS}

    def held_out(self) -> Array:
        """Return the row numbers of validation and test together."""
        return np.concatenate([self.validation, self.test])


def split_data(raw: RawData, settings: SplitSettings) -> Split:
    """Divide the rows of `raw` as the settings ask.

    Raises:
        SplitError: The rows cannot be divided in this way, or a part would be empty.
    """
    by = None if settings.by is None else raw.columns[settings.by]
    return split_rows(settings, raw.rows, raw.target, by)


def split_rows(
    settings: SplitSettings, rows: int, target: Column | None = None, by: Column | None = None
) -> Split:
    """Divide `rows` rows as the settings ask.

    - random: a permutation, cut at the shares.
    - stratified: each class of `target` [rows] keeps the shares within one row (largest remainder).
    - group: rows of equal `by` stay together; groups, shuffled, go to the part furthest below its share.
    - time: training lies before validation and validation before test; rows of equal `by` stay together.
    - column: `by` says train, validation or test.

    Raises:
        SplitError: The rows cannot be divided in this way, or a part would be empty.
    """
    shares = np.array([settings.train, settings.validation, settings.test])
    shares = shares / shares.sum()
    random = np.random.Generator(np.random.PCG64(settings.seed))
    if by is not None:
        _refuse_nulls(settings, by)
    match settings.method:
        case "random":
            labels = _split_at_random(rows, shares, random)
        case "stratified":
            labels = _split_within_classes(_class_codes(target), shares, random)
        case "group":
            labels = _split_groups(_group_codes(by), shares, random)
        case "time":
            return _refuse_empty(settings, _split_by_time(settings, by, shares))
        case "column":
            labels = _split_by_column(settings, by)
    return _refuse_empty(settings, Split(*(np.flatnonzero(labels == part) for part in range(len(PARTS)))))


def allot(count: int, shares: Array, behind: Array | None = None) -> Array:
    """Divide `count` into whole numbers that differ from their shares by less than one (largest remainder).

    Args:
        count: The number to divide.
        shares: The share of each part, [parts]. They add up to 1.
        behind: A number for each part, [parts]. Of equal remainders, the part with the larger number comes first.
    """
    exact = count * shares
    whole = np.floor(exact + 1e-9).astype(np.int64)
    behind = np.zeros(len(shares)) if behind is None else behind
    order = np.lexsort((-behind, -np.round(exact - whole, 9)))
    whole[order[: count - whole.sum()]] += 1
    return whole


def _split_at_random(rows: int, shares: Array, random: np.random.Generator) -> Array:
    labels = np.repeat(np.arange(len(shares)), allot(rows, shares))
    return random.permutation(labels)


def _class_codes(target: Column | None) -> Array:
    if target is None or len(target.shape) != 1:
        raise SplitError("data.split.method: stratified needs a single target of classes; use random instead")
    codes = numbers_of(target)
    if codes.dtype.kind == "f" and np.any(codes != np.floor(codes)):
        raise SplitError(
            "data.split.method: stratified needs classes, but the target has fractions; use random instead"
        )
    values, codes, counts = np.unique(codes, return_inverse=True, return_counts=True)
    if few := [
        (value, count) for value, count in zip(values.tolist(), counts.tolist(), strict=True) if count < 3
    ]:
        named = quoted_names([_name(target, value) for value, _ in few], most=10)
        raise SplitError(
            f"data.split.method: stratified needs 3 rows a class, but {len(few)} of {len(values)} classes "
            f"have fewer: {named}; drop or merge them, or use random"
        )
    return codes


def _name(column: Column, value: float) -> str:
    return column.values[int(value)] if isinstance(column, TextColumn) else f"{value:g}"


def _split_within_classes(codes: Array, shares: Array, random: np.random.Generator) -> Array:
    labels = np.empty(len(codes), np.int64)
    given = np.zeros(len(shares))
    order = np.argsort(codes, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        counts = allot(len(members), shares, behind=(given.sum() + len(members)) * shares - given)
        labels[random.permutation(members)] = np.repeat(np.arange(len(shares)), counts)
        given += counts
    return labels


def _group_codes(by: Column | None) -> Array:
    assert by is not None
    return np.unique(numbers_of(by), return_inverse=True)[1]


def _split_groups(codes: Array, shares: Array, random: np.random.Generator) -> Array:
    sizes = np.bincount(codes)
    if len(sizes) < len(shares):
        raise SplitError(
            f"data.split.by: the column holds {len(sizes)} group(s); three parts need at least three groups"
        )
    wanted, given = shares * len(codes), np.zeros(len(shares))
    part_of = np.empty(len(sizes), np.int64)
    for group in random.permutation(len(sizes)):
        part = int(np.argmin(given / wanted))
        part_of[group] = part
        given[part] += sizes[group]
    return part_of[codes]


def _split_by_time(settings: SplitSettings, by: Column | None, shares: Array) -> Split:
    assert by is not None
    if isinstance(by, TextColumn):
        raise SplitError(
            f"data.split.by: column {settings.by!r} is of text; division by time needs numbers or dates"
        )
    order = np.argsort(by, kind="stable")
    times = by[order]
    edges = np.flatnonzero(times[1:] != times[:-1]) + 1  # the only places at which no tie is divided
    if len(edges) < 2:
        raise SplitError(
            f"data.split.by: column {settings.by!r} holds {len(edges) + 1} distinct time(s); "
            "three parts need at least three"
        )
    first = _nearest(edges[:-1], len(times) * shares[0])
    second = _nearest(edges[edges > first], len(times) * (shares[0] + shares[1]))
    return Split(order[:first], order[first:second], order[second:])


def _nearest(edges: Array, wanted: float) -> int:
    return int(edges[np.argmin(np.abs(edges - wanted))])


def _split_by_column(settings: SplitSettings, by: Column | None) -> Array:
    assert by is not None
    values = (
        by.values if isinstance(by, TextColumn) else tuple(str(value) for value in np.unique(by).tolist())
    )
    if not (isinstance(by, TextColumn) and set(values) <= set(PARTS)):
        raise SplitError(
            f"data.split.by: column {settings.by!r} must hold 'train', 'validation' and 'test' only; "
            f"it holds {quoted_names(values, most=10)}"
        )
    return np.array([PARTS.index(value) for value in values], np.int64)[by.codes]


def _refuse_nulls(settings: SplitSettings, by: Column) -> None:
    codes = numbers_of(by)
    if len(codes.shape) != 1:
        raise SplitError(f"data.split.by: {settings.by!r} is of shape {list(codes.shape)}; it must be [n]")
    nulls = codes < 0 if isinstance(by, TextColumn) else codes != codes  # noqa: PLR0124  # NaN and NaT
    if count := int(np.count_nonzero(nulls)):
        raise SplitError(
            f"data.split.by: column {settings.by!r} holds {count} null(s); fill in or drop these rows"
        )


def _refuse_empty(settings: SplitSettings, split: Split) -> Split:
    counts = {name: len(rows) for name, rows in split.parts().items()}
    if empty := [name for name, count in counts.items() if count == 0]:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise SplitError(
            f"data.split: {' and '.join(empty)} would be empty with method {settings.method!r} "
            f"(rows: {told}); use more rows or other shares"
        )
    return split
