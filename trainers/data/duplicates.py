"""Duplicate rows across parts: a row that a model has seen in training does not test it."""

from collections.abc import Sequence

import numpy as np

from tune_jobs.trainers.data.raw import Array, RawData, feature_blocks, numbers_of, row_slices, row_width
from tune_jobs.trainers.data.splits import PARTS, Split


def count_duplicates(raw: RawData, split: Split) -> dict[str, int]:
    """Count the validation and test rows whose features and target equal those of a row of an earlier part.

    Rows are compared exactly, with null equal to null; hashes only select the rows to compare.
    """
    blocks = [*feature_blocks(raw.features).values(), numbers_of(raw.target)]
    part = np.empty(raw.rows, np.int8)
    for number, rows in enumerate(split.parts().values()):
        part[rows] = number
    hashes = _row_hashes(blocks, raw.rows)
    counts = np.zeros(len(PARTS), np.int64)
    pending = np.lexsort((part, hashes))
    while len(pending):  # one pass, unless different rows share a hash
        first, last = _runs(hashes[pending])
        spanning = part[pending[first]] < part[pending[last]]
        rows, leaders = pending[spanning], pending[first][spanning]
        same = _equal(blocks, rows, leaders)
        counts += np.bincount(part[rows[same & (part[rows] > part[leaders])]], minlength=len(PARTS))
        pending = rows[~same]
    return {name: int(count) for name, count in zip(PARTS[1:], counts[1:], strict=True)}


def _runs(hashes: Array) -> tuple[Array, Array]:
    """Return the positions of the first and the last member of each hash's run, for sorted hashes."""
    starts = np.flatnonzero(np.r_[True, hashes[1:] != hashes[:-1]])
    lengths = np.diff(np.r_[starts, len(hashes)])
    return np.repeat(starts, lengths), np.repeat(starts + lengths - 1, lengths)


def _row_hashes(blocks: Sequence[Array], rows: int) -> Array:
    hashes = np.zeros(rows, np.uint64)
    for salt, block in enumerate(blocks):
        width = row_width(block)
        random = np.random.Generator(np.random.PCG64(salt))
        multipliers = random.integers(2**64, size=width, dtype=np.uint64, endpoint=False) | np.uint64(1)
        for part in row_slices(rows, width):
            numbers = block[part].reshape(-1, width).astype(np.float64) + 0.0  # -0.0 equals 0.0
            numbers[np.isnan(numbers)] = np.nan  # nulls of any bits are equal
            bits = numbers.view(np.uint64)
            bits ^= bits >> np.uint64(29)
            bits *= multipliers
            bits ^= bits >> np.uint64(32)
            hashes[part] += bits.sum(axis=1, dtype=np.uint64)
    return hashes


def _equal(blocks: Sequence[Array], left: Array, right: Array) -> Array:
    equal = np.ones(len(left), bool)
    for block in blocks:
        width = row_width(block)
        for part in row_slices(len(left), width):
            one, other = block[left[part]], block[right[part]]
            same = (one == other) | ((one != one) & (other != other))  # noqa: PLR0124  # NaN
            equal[part] &= same.reshape(-1, width).all(axis=1)
    return equal
