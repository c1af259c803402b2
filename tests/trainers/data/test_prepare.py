import dataclasses
import json
import pickle
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

import tune_jobs.trainers.data
from tune_jobs.trainers.data import DataInfo, PreparedData, prepare_data
from tune_jobs.trainers.data.settings import DataSettings, SplitSettings
from tune_jobs.trainers.errors import DataError, SplitError


def prepare(base: Path, source: str, loss: str = "cross_entropy", **options: Any) -> PreparedData:
    return prepare_data(DataSettings(source=source, **options), loss, base)


def save(base: Path, x: Any, y: Any, **more: Any) -> str:
    np.savez(base / "t.npz", x=x, y=y, **more)
    return "t.npz"


@pytest.mark.parametrize(
    ("source", "loss", "shape", "classes"),
    [
        ("digits", "cross_entropy", (1, 8, 8), tuple(range(10))),
        ("breast_cancer", "binary_cross_entropy", (30,), (0, 1)),
        ("wine", "cross_entropy", (13,), (0, 1, 2)),
        ("diabetes", "huber", (10,), ()),
        ("linear_gaussian", "mse", (2,), ()),
    ],
)
def test_built_in_sources_are_ready_to_train_on(tmp_path, source, loss, shape, classes):
    data = prepare(tmp_path, source, loss)
    info = data.info
    assert (info.input_shape, info.classes) == (shape, classes)
    assert info.kind == ("classification" if classes else "regression")
    assert info.outputs == (len(classes) if loss == "cross_entropy" else 1)
    assert len(info.feature_names) == (shape[0] if len(shape) == 1 else 0)
    for rows, count in zip((data.train, data.validation, data.test), data.report.rows.values(), strict=True):
        assert rows.x.shape == (count, *shape)
        assert len(rows) == len(rows.y) == count
        assert rows.x.dtype == np.float32
    assert data.train.x.mean() == pytest.approx(0, abs=1e-5)
    assert data.train.x.std() == pytest.approx(1, abs=1e-3)


def test_a_table_file_goes_all_the_way(tmp_path):
    n = 60
    table = pa.table(
        {
            "size": pa.array([None if row == 1 else float(row) for row in range(n)]),
            "colour": ["red", "blue", "green"] * (n // 3),
            "person": [f"p{row // 4}" for row in range(n)],
            "label": ["no", "yes"] * (n // 2),
        }
    )
    pa.parquet.write_table(table, tmp_path / "t.parquet")
    split = SplitSettings(method="group", by="person")
    data = prepare(tmp_path, "t.parquet", target="label", split=split, missing="mean")
    assert data.info.feature_names == ("size", "colour=blue", "colour=green", "colour=red")
    assert data.info.classes == ("no", "yes")
    assert data.report.rows == {"train": 36, "validation": 12, "test": 12}
    new = data.info.encoding.encode_table(table.slice(0, 2))
    assert new.shape == (2, 4)
    assert new[1, 0] == 0


def test_trials_get_no_trace_of_the_test_rows(tmp_path):
    x = np.random.default_rng(0).normal(size=(100, 3))
    name = save(tmp_path, x, np.arange(100) % 2)
    data = prepare(tmp_path, name, standardize=False)
    pickled = pickle.dumps(data.for_trials())
    for row in data.train.x:
        assert row.tobytes() in pickled
    for row in data.test.x:
        assert row.tobytes() not in pickled
    assert {field.name for field in dataclasses.fields(data.for_trials())} == {"train", "validation", "info"}
    arrays = [array for rows in (data.train, data.validation, data.test) for array in (rows.x, rows.y)]
    assert all(array.base is None or array.base.nbytes == array.nbytes for array in arrays)


def test_changing_the_test_rows_changes_nothing_but_the_test_rows_and_the_fingerprint(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(100, 3)), np.arange(100) % 2
    split = SplitSettings(seed=3)
    before = prepare(tmp_path, save(tmp_path, x, y), split=split)
    test = tune_jobs.trainers.data.split_rows(split, 100).test
    changed = x.copy()
    changed[test] = changed[test] * 1000 + 7
    after = prepare(tmp_path, save(tmp_path, changed, y), split=split)
    assert after.info == before.info
    np.testing.assert_array_equal(after.train.x, before.train.x)
    np.testing.assert_array_equal(after.validation.x, before.validation.x)
    assert not np.array_equal(after.test.x, before.test.x)
    assert after.report.split_fingerprint == before.report.split_fingerprint
    assert after.report.fingerprint != before.report.fingerprint


def test_fingerprints_distinguish_data_settings_and_split(tmp_path):
    x, y = np.arange(60.0).reshape(20, 3), np.arange(20) % 2
    name = save(tmp_path, x, y)
    first = prepare(tmp_path, name).report
    assert prepare(tmp_path, name).report == first
    (tmp_path / "t.npz").rename(tmp_path / "moved.npz")
    assert prepare(tmp_path, "moved.npz", duplicates="error").report == first
    name = save(tmp_path, x, y)
    other = [
        prepare(tmp_path, name, standardize=False),
        prepare(tmp_path, name, missing="mean"),
        prepare(tmp_path, name, split=SplitSettings(seed=1)),
        prepare(tmp_path, save(tmp_path, x[::-1], y)),
        prepare(tmp_path, save(tmp_path, x.astype(np.float32), y)),
        prepare(tmp_path, save(tmp_path, x, y[::-1])),
    ]
    prints = [first.fingerprint, *(data.report.fingerprint for data in other)]
    assert len(set(prints)) == len(prints)
    assert all(re.fullmatch("[0-9a-f]{64}", text) for text in prints)
    assert other[2].report.split_fingerprint != first.split_fingerprint
    assert other[0].report.split_fingerprint == first.split_fingerprint


def test_duplicates_across_parts_are_reported_or_refused(tmp_path):
    x = np.repeat(np.arange(10.0), 10)[:, None]
    name = save(tmp_path, x, np.repeat(np.arange(10.0), 10))
    report = prepare(tmp_path, name, "mse").report
    assert report.duplicates == {"validation": 20, "test": 20}
    assert report.notices == (
        "20 of the 20 validation rows also stand in training.",
        "20 of the 20 test rows also stand in training or validation.",
    )
    with pytest.raises(DataError) as caught:
        prepare(tmp_path, name, "mse", duplicates="error")
    assert str(caught.value) == (
        f"data.duplicates: {' '.join(report.notices)} Drop them, or set data.duplicates: report."
    )


def test_unknown_texts_and_missed_shares_are_reported(tmp_path):
    table = pa.table(
        {
            "colour": ["red"] * 8 + ["blue"] * 2 + ["red"] * 10,
            "size": range(20),
            "part": ["train"] * 8 + ["validation"] * 6 + ["test"] * 6,
            "person": [0] * 16 + [1, 1, 2, 2],
            "y": range(20),
        }
    )
    pa.parquet.write_table(table, tmp_path / "t.parquet")
    split = SplitSettings(method="column", by="part")
    report = prepare(tmp_path, "t.parquet", "mse", target="y", split=split).report
    assert report.notices == (
        "2 validation rows hold a text in 'colour' that no training row holds; it is encoded as zeros.",
    )
    split = SplitSettings(method="group", by="person", seed=1)
    report = prepare(
        tmp_path, "t.parquet", "mse", target="y", split=split, arguments={"columns": ["size"]}
    ).report
    large = max(report.rows, key=lambda part: report.rows[part])
    assert any(f"{large} holds 80% of the rows, although" in notice for notice in report.notices)


def test_a_loss_function_gets_integers_as_class_numbers_with_a_notice(tmp_path):
    name = save(tmp_path, np.arange(40.0)[:, None], np.arange(40) % 3 + 5)
    data = prepare(tmp_path, name, "my.losses:focal")
    assert set(data.train.y.tolist()) == {0, 1, 2}
    assert data.report.notices == (
        "The loss my.losses:focal gets 'y' as class numbers 0 to 2; "
        "write it with decimals (float) if its values are meant.",
    )


def test_truth_is_that_of_the_encoded_features(tmp_path):
    for standardize in (True, False):
        data = prepare(tmp_path, "linear_gaussian", "mse", arguments={"sigma": 0.0}, standardize=standardize)
        assert data.info.truth is not None
        residue = data.train.y[:, 0] - data.train.x @ np.array(data.info.truth)
        assert np.ptp(residue) < 1e-5


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_info_comes_back_unchanged_from_json(tmp_path, loss):
    for source in ("wine", "linear_gaussian" if loss == "mse" else "digits"):
        data = prepare(tmp_path, source, loss)
        assert DataInfo.from_mapping(json.loads(json.dumps(data.info.to_mapping()))) == data.info
        assert json.loads(json.dumps(data.report.to_mapping()))["rows"] == dict(data.report.rows)


def test_problems_of_every_stage_are_reported(tmp_path):
    y = np.arange(30) % 2
    x = np.arange(30.0)[:, None]
    holes = np.where(x == 3, np.nan, x)
    cases: list[tuple[Any, Any, str, dict[str, Any], str]] = [
        (
            holes,
            y,
            "cross_entropy",
            {},
            "data: nulls in 'x0' (1 row); fill in or drop these rows, or set data.missing",
        ),
        (x, y + 0.5, "cross_entropy", {}, "data.target: training.loss 'cross_entropy' takes classes"),
        (x, np.zeros(30), "mse", {}, "data.target: all 18 training rows have the same value (0.0)"),
        (x, np.arange(30), "cross_entropy", {}, "data.target: no training row is of class"),
        (x, np.arange(30) % 3, "binary_cross_entropy", {}, "takes two classes, but there are 3"),
        (
            x,
            np.arange(30),
            "cross_entropy",
            {"split": SplitSettings(method="stratified")},
            "needs 3 rows a class",
        ),
        (x[:2], y[:2], "cross_entropy", {}, "data.split: test would be empty"),
    ]
    for features, target, loss, options, message in cases:
        with pytest.raises((DataError, SplitError), match=re.escape(message)):
            prepare(tmp_path, save(tmp_path, features, target), loss, **options)


@pytest.mark.slow
def test_large_float32_arrays_are_held_about_twice_and_never_as_float64(tmp_path):
    x = np.random.default_rng(0).standard_normal((200_000, 100), dtype=np.float32)
    name, size = save(tmp_path, x, np.arange(200_000) % 2), x.nbytes
    del x
    tracemalloc.start()
    try:
        prepare(tmp_path, name)
        assert tracemalloc.get_traced_memory()[1] < 2.8 * size
    finally:
        tracemalloc.stop()


def test_neither_torch_nor_ray_nor_scikit_learn_is_imported():
    code = """
import sys
from pathlib import Path
from tune_jobs.trainers.data import prepare_data
from tune_jobs.trainers.data.settings import DataSettings
prepare_data(DataSettings(source="linear_gaussian"), "mse", Path("."))
assert not {"torch", "ray", "optuna", "sklearn", "scipy", "pandas"} & set(sys.modules), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_exported_names_exist_once():
    assert all(hasattr(tune_jobs.trainers.data, name) for name in tune_jobs.trainers.data.__all__)
    assert len(set(tune_jobs.trainers.data.__all__)) == len(tune_jobs.trainers.data.__all__)
