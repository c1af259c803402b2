import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_jobs.trainers.data.raw import Array, TextColumn
from tune_jobs.trainers.data.settings import SplitSettings
from tune_jobs.trainers.data.splits import Split, allot, split_rows
from tune_jobs.trainers.errors import SplitError

quick = settings(max_examples=40, deadline=None)
shares = st.tuples(st.integers(1, 8), st.integers(1, 8), st.integers(1, 8)).map(
    lambda parts: dict(
        zip(("train", "validation", "test"), (part / sum(parts) for part in parts), strict=True)
    )
)


def text(values: list[str | None]) -> TextColumn:
    names = sorted({value for value in values if value is not None})
    codes = [-1 if value is None else names.index(value) for value in values]
    return TextColumn(np.array(codes, np.int32), tuple(names))


def arrays(split: Split) -> list[Array]:
    return list(split.parts().values())


def is_partition(split: Split, rows: int) -> bool:
    return np.array_equal(np.sort(np.concatenate(arrays(split))), np.arange(rows))


@quick
@given(rows=st.integers(30, 400), shares=shares, seed=st.integers(0, 2**32))
def test_random_parts_are_disjoint_ascending_and_cover_all_rows_in_their_shares(rows, shares, seed):
    split = split_rows(SplitSettings(**shares, seed=seed), rows)
    assert is_partition(split, rows)
    for part, share in zip(arrays(split), shares.values(), strict=True):
        assert np.all(np.diff(part) > 0)
        assert abs(len(part) - share * rows) < 1


@quick
@given(count=st.integers(0, 10_000), shares=shares)
def test_whole_numbers_are_allotted_within_one_of_their_shares(count, shares):
    exact = np.array(list(shares.values()))
    allotted = allot(count, exact)
    assert allotted.sum() == count
    assert np.all(np.abs(allotted - exact * count) < 1)


@quick
@given(
    counts=st.lists(st.integers(3, 40), min_size=2, max_size=6).filter(lambda counts: sum(counts) > 40),
    seed=st.integers(0, 1000),
    as_text=st.booleans(),
)
def test_stratified_parts_keep_each_class_within_one_row_of_its_share(counts, seed, as_text):
    target = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    column = text([f"class {value}" for value in target]) if as_text else target
    split = split_rows(SplitSettings(method="stratified", seed=seed), len(target), column)
    assert is_partition(split, len(target))
    for part, share in zip(arrays(split), (0.6, 0.2, 0.2), strict=True):
        assert np.all(np.diff(part) > 0)
        for value, count in enumerate(counts):
            assert abs(np.count_nonzero(target[part] == value) - share * count) < 1


def test_many_small_stratified_classes_leave_no_part_behind():
    target = np.repeat(np.arange(100), 3)
    split = split_rows(SplitSettings(method="stratified"), 300, target)
    assert np.allclose([len(part) for part in arrays(split)], [180, 60, 60], atol=20)


@quick
@given(groups=st.lists(st.integers(0, 12), min_size=20, max_size=200), seed=st.integers(0, 1000))
def test_no_group_is_in_two_parts(groups, seed):
    by = np.array([*groups, 100, 101, 102])
    split = split_rows(SplitSettings(method="group", by="person", seed=seed), len(by), by=by)
    assert is_partition(split, len(by))
    parts = [set(by[part].tolist()) for part in arrays(split)]
    assert sum(map(len, parts)) == len(set.union(*parts))


def test_many_equal_groups_come_near_their_shares():
    by = np.repeat(np.arange(100), 5)
    split = split_rows(SplitSettings(method="group", by="person"), 500, by=by)
    assert [len(part) for part in arrays(split)] == [300, 100, 100]


@quick
@given(
    times=st.lists(st.integers(0, 30), min_size=10, max_size=200).filter(lambda times: len(set(times)) > 2),
    shares=shares,
)
def test_training_lies_strictly_before_validation_and_validation_before_test(times, shares):
    by = np.array(times)
    split = split_rows(SplitSettings(**shares, method="time", by="day"), len(by), by=by)
    assert is_partition(split, len(by))
    assert by[split.train].max() < by[split.validation].min()
    assert by[split.validation].max() < by[split.test].min()
    for part in arrays(split):
        assert np.all(np.diff(by[part]) >= 0)


def test_times_without_ties_are_cut_at_the_shares():
    by = np.datetime64("2024-01-01") + np.random.default_rng(0).permutation(100)
    split = split_rows(SplitSettings(method="time", by="day"), 100, by=by)
    assert [len(part) for part in arrays(split)] == [60, 20, 20]


def test_rows_of_equal_time_move_together():
    by = np.array([0] * 10 + [1] * 45 + [2] * 45)
    split = split_rows(SplitSettings(method="time", by="day"), 100, by=by)
    assert [len(part) for part in arrays(split)] == [10, 45, 45]


def test_three_times_make_three_parts_whatever_the_shares():
    by = np.array([0] * 98 + [1, 2])
    split = split_rows(SplitSettings(method="time", by="day"), 100, by=by)
    assert [len(part) for part in arrays(split)] == [98, 1, 1]


def test_a_column_says_the_part_of_each_row():
    by = text(["test", "train", "validation", "train"])
    split = split_rows(SplitSettings(method="column", by="part"), 4, by=by)
    assert [part.tolist() for part in arrays(split)] == [[1, 3], [2], [0]]


@pytest.mark.parametrize("method", ["random", "stratified", "group"])
def test_a_seed_fixes_the_split_and_another_seed_changes_it(method):
    target, by = np.arange(200) % 4, np.arange(200) // 2

    def parts(seed: int) -> list[list[int]]:
        options = SplitSettings(method=method, by="person" if method == "group" else None, seed=seed)
        split = split_rows(options, 200, target, by if method == "group" else None)
        return [part.tolist() for part in arrays(split)]

    assert parts(1) == parts(1)
    assert parts(1) != parts(2)


@pytest.mark.parametrize(
    ("options", "rows", "target", "by", "message"),
    [
        (
            {},
            3,
            None,
            None,
            "data.split: test would be empty with method 'random' (rows: train 2, validation 1, test 0)",
        ),
        (
            {"method": "stratified"},
            4,
            np.array([[1, 2]] * 4),
            None,
            "stratified needs a single target of classes",
        ),
        (
            {"method": "stratified"},
            4,
            np.array([0.5, 1, 2, 3]),
            None,
            "the target has fractions; use random instead",
        ),
        (
            {"method": "stratified"},
            6,
            text(["a", "a", "a", "a", "b", "c"]),
            None,
            "data.split.method: stratified needs 3 rows a class, but 2 of 3 classes have fewer: 'b', 'c'",
        ),
        ({"method": "stratified"}, 4, np.array([7.0, 7, 7, 8]), None, "1 of 2 classes have fewer: '8'"),
        (
            {"method": "group", "by": "person"},
            4,
            None,
            np.array([0, 0, 1, 1]),
            "data.split.by: the column holds 2 group(s); three parts need at least three groups",
        ),
        (
            {"method": "time", "by": "day"},
            4,
            None,
            np.array([0, 0, 1, 1]),
            "data.split.by: column 'day' holds 2 distinct time(s); three parts need at least three",
        ),
        (
            {"method": "time", "by": "day"},
            3,
            None,
            text(["1/2/24", "2/2/24", "3/2/24"]),
            "data.split.by: column 'day' is of text; division by time needs numbers or dates",
        ),
        (
            {"method": "time", "by": "day"},
            4,
            None,
            np.array(["2024-01-01", "NaT", "2024-01-02", "2024-01-03"], "datetime64[D]"),
            "data.split.by: column 'day' holds 1 null(s)",
        ),
        (
            {"method": "group", "by": "person"},
            4,
            None,
            text(["a", None, None, "b"]),
            "data.split.by: column 'person' holds 2 null(s); fill in or drop these rows",
        ),
        (
            {"method": "group", "by": "person"},
            2,
            None,
            np.zeros((2, 2)),
            "'person' is of shape [2, 2]; it must be [n]",
        ),
        (
            {"method": "column", "by": "part"},
            3,
            None,
            text(["train", "val", "Test"]),
            "data.split.by: column 'part' must hold 'train', 'validation' and 'test' only; "
            "it holds 'Test', 'train', 'val'",
        ),
        ({"method": "column", "by": "part"}, 3, None, np.array([0, 1, 2]), "it holds '0', '1', '2'"),
        (
            {"method": "column", "by": "part"},
            3,
            None,
            text(["train", "train", "train"]),
            "data.split: validation and test would be empty with method 'column' "
            "(rows: train 3, validation 0, test 0)",
        ),
    ],
)
def test_data_that_cannot_be_divided_are_reported(options, rows, target, by, message):
    with pytest.raises(SplitError, match=re.escape(message)):
        split_rows(SplitSettings(**options), rows, target, by)
