import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_jobs.trainers.data import duplicates
from tune_jobs.trainers.data.checks import check_features, check_target, check_training_rows
from tune_jobs.trainers.data.duplicates import count_duplicates
from tune_jobs.trainers.data.raw import RawData, TextColumn
from tune_jobs.trainers.data.splits import Split
from tune_jobs.trainers.errors import DataError


def text(values: list[str | None]) -> TextColumn:
    return TextColumn.from_arrow(pa.chunked_array([pa.array(values, pa.string())]))


def split(train: list[int], validation: list[int], test: list[int]) -> Split:
    return Split(np.array(train), np.array(validation), np.array(test))


FEATURES: list[tuple[Any, bool, str]] = [
    (
        {"a": np.array([1.0, np.nan, np.nan]), "b": text(["x", None, "y"]), "c": np.array([1, 2, 3])},
        False,
        "data: nulls in 'a' (2 rows); fill in or drop these rows, or set data.missing: mean. "
        "nulls in 'b' (1 row), which are texts; write a text such as 'unknown', or drop these rows",
    ),
    (
        {"a": np.array([1.0, np.nan, np.nan]), "b": text(["x", None, "y"])},
        True,
        "data: nulls in 'b' (1 row), which are texts; write a text such as 'unknown', or drop these rows",
    ),
    (
        np.array([[1, np.inf, np.nan], [-np.inf, -np.inf, 1]], np.float32),
        True,
        "data: infinities in 'x0' (1 row), 'x1' (2 rows); mend or drop these rows",
    ),
    (
        np.array([[1, np.inf, np.nan], [0, 0, 1]], np.float32),
        False,
        "data: infinities in 'x1' (1 row); mend or drop these rows. nulls in 'x2' (1 row); fill in or drop",
    ),
]


@pytest.mark.parametrize(("features", "fill", "message"), FEATURES)
def test_nulls_and_infinities_are_reported_with_columns_and_counts(features, fill, message):
    names = tuple(features) if isinstance(features, dict) else ("x0", "x1", "x2")
    with pytest.raises(DataError, match=re.escape(message)):
        check_features(features, names, fill_nulls=fill)


def test_nulls_of_images_are_reported_by_channel():
    images = np.zeros((3, 2, 2, 2))
    images[1, 1, 0, 0] = images[1, 1, 1, 1] = np.nan
    with pytest.raises(DataError, match=re.escape("nulls in 'channel 1' (1 row);")):
        check_features(images, ("channel 0", "channel 1"), fill_nulls=False)


def test_whole_rows_pass():
    check_features({"a": np.array([1.0, 2]), "b": text(["x", "y"])}, ("a", "b"), fill_nulls=False)
    check_features(np.array([[1.0, np.nan]]), ("a", "b"), fill_nulls=True)
    check_target(np.array([0, 1]), ("y",), "cross_entropy")
    check_target(text(["a", "b"]), ("y",), "mine:loss")
    check_target(np.array([1.0, 2.0]), ("y",), "cross_entropy")


TARGETS: list[tuple[Any, str, str]] = [
    (
        np.array([1.0, np.nan]),
        "mse",
        "data.target: nulls in 'y' (1 row); drop these rows, as a target is never filled in",
    ),
    (text(["a", None]), "cross_entropy", "data.target: nulls in 'y' (1 row)"),
    (np.array([1.0, np.inf]), "mse", "data.target: infinities in 'y' (1 row)"),
    (
        np.array([[1.0, 2.0], [-1e39, 2.0]]),
        "mse",
        "data.target: numbers in 'y' (1 row) are too large for float32; rescale them",
    ),
    (
        np.array([0.5, 1]),
        "cross_entropy",
        "data.target: training.loss 'cross_entropy' takes classes as whole numbers or text, "
        "but 'y' holds 0.5; use mse, mae or huber, or another target",
    ),
    (np.array([1e300, 1]), "binary_cross_entropy", "but 'y' holds 1e+300"),
    (
        np.array([[0, 1], [1, 0]]),
        "cross_entropy",
        "data.target: training.loss 'cross_entropy' takes a single column of classes, not 'y', 'z'",
    ),
    (
        text(["a", "b"]),
        "mae",
        "data.target: 'y' is of text, but training.loss 'mae' takes numbers; "
        "use cross_entropy, or another target",
    ),
]


@pytest.mark.parametrize(("target", "loss", "message"), TARGETS)
def test_a_target_that_does_not_fit_its_loss_is_reported(target, loss, message):
    names = ("y", "z")[: 1 if len(target.shape) == 1 else 2]
    with pytest.raises(DataError, match=re.escape(message)):
        check_target(target, names, loss)


PARTS: list[tuple[Any, str, str]] = [
    (
        np.array([3, 3, 1, 2]),
        "mse",
        "data.target: all 2 training rows have the same value (3); there is nothing",
    ),
    (text(["a", "a", "b", "b"]), "cross_entropy", "all 2 training rows have the same value ('a')"),
    (
        np.array([0, 1, 2, 3]),
        "cross_entropy",
        "data.target: no training row is of class 2, 3, but others are; use data.split.method: stratified, "
        "another data.split.seed, or drop these rows",
    ),
    (text(["a", "b", "c", "a"]), "mine:loss", "data.target: no training row is of class 'c'"),
]


@pytest.mark.parametrize(("target", "loss", "message"), PARTS)
def test_constant_targets_and_classes_missing_in_training_are_reported(target, loss, message):
    raw = RawData(np.zeros((4, 1)), target, target_names=("y",))
    with pytest.raises(DataError, match=re.escape(message)):
        check_training_rows(raw, np.array([0, 1]), np.array([2, 3]), loss)


def test_binary_cross_entropy_takes_two_classes_exactly():
    raw = RawData(np.zeros((5, 1)), np.array([0, 1, 2, 0, 1]), target_names=("y",))
    message = "takes two classes, but there are 3 (0, 1, 2); use cross_entropy"
    with pytest.raises(DataError, match=re.escape(message)):
        check_training_rows(raw, np.arange(3), np.array([3, 4]), "binary_cross_entropy")


def test_a_regression_target_may_have_values_that_training_lacks():
    raw = RawData(np.zeros((4, 1)), np.array([0, 1, 2, 3]))
    check_training_rows(raw, np.array([0, 1]), np.array([2, 3]), "mse")


def test_rows_of_neither_training_nor_evaluation_are_not_judged():
    raw = RawData(np.zeros((5, 1)), np.array([0, 1, 0, 1, 7]), target_names=("y",))
    check_training_rows(raw, np.array([0, 1]), np.array([2, 3]), "binary_cross_entropy")


rows = st.lists(
    st.tuples(
        st.sampled_from([0.0, -0.0, 1.5, np.nan, 2.0**60]),
        st.sampled_from(["a", "b", None]),
        st.integers(0, 1),
    ),
    min_size=3,
    max_size=40,
)


def expected(keys: list[Any], parts: Split) -> dict[str, int]:
    seen: set[Any] = {keys[row] for row in parts.train}
    validation = sum(keys[row] in seen for row in parts.validation)
    seen |= {keys[row] for row in parts.validation}
    return {"validation": validation, "test": sum(keys[row] in seen for row in parts.test)}


@pytest.mark.parametrize("collide", [False, True])
@settings(max_examples=40, deadline=None)
@given(rows=rows, seed=st.integers(0, 50))
def test_rows_in_earlier_parts_are_counted_exactly_even_if_all_hashes_collide(collide, rows, seed):
    order = np.random.default_rng(seed).permutation(len(rows))
    parts = Split(*np.split(order, [len(rows) // 3, 2 * len(rows) // 3]))
    raw = RawData(
        {"number": np.array([row[0] for row in rows]), "word": text([row[1] for row in rows])},
        np.array([row[2] for row in rows]),
    )
    keys = [(None if row[0] != row[0] else row[0] + 0.0, row[1], row[2]) for row in rows]
    with pytest.MonkeyPatch.context() as patch:
        if collide:
            patch.setattr(duplicates, "_row_hashes", lambda blocks, count: np.zeros(count, np.uint64))
        assert count_duplicates(raw, parts) == expected(keys, parts)


def test_equal_images_with_other_targets_are_no_duplicates():
    images = np.ones((3, 1, 4, 4), np.float32)
    parts = split([0], [1], [2])
    assert count_duplicates(RawData(images, np.array([0, 1, 1])), parts) == {"validation": 0, "test": 1}
    images[2, 0, 3, 3] = np.nextafter(np.float32(1), np.float32(2))
    assert count_duplicates(RawData(images, np.array([0, 1, 1])), parts) == {"validation": 0, "test": 0}


def test_nulls_are_equal_whatever_their_bits():
    x = np.array([[np.nan], [-np.nan], [1.0]])
    assert x[0].tobytes() != x[1].tobytes()
    assert count_duplicates(RawData(x, np.zeros(3)), split([0], [1], [2])) == {"validation": 1, "test": 0}


def test_integers_beyond_float64_are_distinguished():
    x = np.array([[2**60], [2**60 + 1], [2**60 + 1]])
    assert count_duplicates(RawData(x, np.zeros(3)), split([0], [1], [2])) == {"validation": 0, "test": 1}
