import json
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tune_jobs.trainers.data import raw as raw_module
from tune_jobs.trainers.data.encoding import Categories, Encoding, Number, fit_encoding
from tune_jobs.trainers.data.raw import Array, Features, RawData, TextColumn
from tune_jobs.trainers.data.settings import DataSettings
from tune_jobs.trainers.data.tables import to_column
from tune_jobs.trainers.errors import DataError

quick = settings(max_examples=30, deadline=None)


def text(values: list[str | None]) -> TextColumn:
    column = to_column(pa.chunked_array([pa.array(values, pa.string())]))
    assert isinstance(column, TextColumn)
    return column


def fit(
    features: Features, train: Array, target: Any = None, loss: str = "cross_entropy", **options: Any
) -> Encoding:
    rows = len(next(iter(features.values())) if isinstance(features, dict) else features)
    names = (
        tuple(features) if isinstance(features, dict) else tuple(f"x{n}" for n in range(features.shape[1]))
    )
    raw = RawData(features, np.arange(rows) % 2 if target is None else target, feature_names=names)
    return fit_encoding(raw, train, DataSettings(source="unused", **options), loss)


tables = hnp.arrays(
    np.float64, st.tuples(st.integers(4, 60), st.integers(1, 5)), elements=st.floats(-1e6, 1e6, width=32)
)


@quick
@given(values=tables, data=st.data())
def test_training_rows_get_mean_0_and_deviation_1_and_constant_ones_0(values, data):
    train = np.array(sorted(data.draw(st.sets(st.integers(0, len(values) - 1), min_size=2))))
    encoded = fit(values, train).transform(values, train).astype(np.float64)
    spread = np.ptp(values[train], axis=0)
    scale = np.abs(values[train]).max(axis=0) + 1e-300
    clear = spread > 1e-6 * scale
    np.testing.assert_allclose(encoded.mean(axis=0)[clear], 0, atol=1e-4)
    np.testing.assert_allclose(encoded.std(axis=0)[clear], 1, rtol=1e-4)
    assert np.all(encoded[:, spread == 0] == 0)


@quick
@given(values=tables, other=st.floats(-1e6, 1e6), seed=st.integers(0, 100))
def test_rows_outside_training_never_influence_the_encoding(values, other, seed):
    train = np.arange(len(values) // 2)
    changed = values.copy()
    changed[len(train) :] = other
    assert fit(values, train) == fit(changed, train)


def test_texts_outside_training_never_influence_the_encoding():
    train = np.arange(3)
    one = {"colour": text(["red", "blue", "red", "green"]), "size": np.array([1.0, 2, 3, 400])}
    other = {"colour": text(["red", "blue", "red", "azure"]), "size": np.array([1.0, 2, 3, -4])}
    assert fit(one, train) == fit(other, train)


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_chunks_change_no_mean_beyond_rounding_and_no_encoded_row(monkeypatch, chunk):
    values = np.random.default_rng(0).normal(5, 3, (101, 4))
    train = np.arange(0, 101, 2)
    whole = fit(values, train)
    encoded = whole.transform(values)
    monkeypatch.setattr(raw_module, "CHUNK", chunk)
    chunked = fit(values, train)
    for one, other in zip(whole.parts, chunked.parts, strict=True):
        assert isinstance(one, Number)
        assert isinstance(other, Number)
        assert one.mean == pytest.approx(other.mean, rel=1e-12)
        assert one.deviation == pytest.approx(other.deviation, rel=1e-12)
    np.testing.assert_array_equal(whole.transform(values), encoded)


def test_numbers_are_standardised_by_the_training_rows():
    values = np.random.default_rng(0).normal(5, 3, (101, 4))
    train = np.arange(0, 101, 2)
    wanted = (values - values[train].mean(axis=0)) / values[train].std(axis=0)
    np.testing.assert_allclose(fit(values, train).transform(values), wanted, rtol=1e-5, atol=1e-6)


def test_a_constant_column_is_shifted_but_not_scaled_up_by_rounding():
    values = np.full((3, 1), 0.1)
    assert values.sum() / 3 != 0.1
    assert fit(values, np.arange(3)).parts == (Number("x0", 0.1, 1.0),)


def test_large_offsets_keep_their_differences():
    values = 1.7e9 + np.arange(100.0)[:, None]
    encoded = fit(values, np.arange(100)).transform(values)
    assert np.all(np.diff(encoded[:, 0]) > 0)


def test_images_are_standardised_by_channel():
    values = (
        np.random.default_rng(0).normal(size=(50, 2, 3, 4)).astype(np.float32)
        * np.array([1, 9])[:, None, None]
    )
    values[:, 0, 0, 0] = 0  # a constant pixel
    encoding = fit(values, np.arange(40))
    encoded = encoding.transform(values, np.arange(40))
    assert encoding.shape == (2, 3, 4)
    assert [part.name for part in encoding.parts] == ["channel 0", "channel 1"]
    assert encoding.feature_names == ()
    np.testing.assert_allclose(encoded.mean(axis=(0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(encoded.std(axis=(0, 2, 3)), 1, rtol=1e-5)
    assert np.ptp(encoded[:, 0, 0, 0]) == 0


def test_encoded_rows_are_contiguous_float32_and_share_no_memory():
    values = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(6, 2))
    encoded = fit(values, np.arange(4), standardize=False).transform(values, np.array([5, 0]))
    assert encoded.dtype == np.float32
    assert encoded.flags.c_contiguous
    assert encoded.base is None
    np.testing.assert_array_equal(encoded, [[10, 11], [0, 1]])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8, np.uint64, np.bool_])
def test_numbers_of_any_type_are_encoded(dtype):
    values = np.array([[0, 1], [1, 0], [1, 1], [0, 0]], dtype)
    np.testing.assert_allclose(fit(values, np.arange(4)).transform(values), values.astype(float) * 2 - 1)


def test_texts_become_one_feature_each_and_unknown_ones_zeros():
    features = {
        "size": np.array([1.0, 3, 5, 7]),
        "colour": text(["red", "blue", "red", "green"]),
        "shape": text(["b", "a", "a", "b"]),
    }
    encoding = fit(features, np.array([0, 1]))
    assert encoding.feature_names == ("size", "colour=blue", "colour=red", "shape=a", "shape=b")
    np.testing.assert_array_equal(
        encoding.transform(features),
        [[-1, 0, 1, 0, 1], [1, 1, 0, 1, 0], [3, 0, 1, 1, 0], [5, 0, 0, 0, 1]],
    )
    assert encoding.unknown_texts(features, np.array([2, 3])) == {"colour": 1}
    assert encoding.unknown_texts(features, np.array([0, 1])) == {}


def test_nulls_get_the_mean_of_the_training_rows():
    values = np.array([[1, 10], [3, np.nan], [np.nan, 30], [np.nan, 99]])
    filled = fit(values, np.arange(3), missing="mean", standardize=False).transform(values)
    np.testing.assert_array_equal(filled, [[1, 10], [3, 20], [2, 30], [2, 99]])
    assert fit(values, np.arange(3), missing="mean").transform(values)[3, 0] == 0


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (
            np.array([[np.nan], [np.nan], [1.0]]),
            "data: all training rows are null in 'x0'; drop these columns",
        ),
        (
            np.array([[1e308], [-1e308], [1.0]]),
            "data: numbers in 'x0' are too large to be averaged; rescale them",
        ),
        (
            # The sums of both halves overflow, one up and one down.
            np.repeat([[1e308], [-1e308]], 300, axis=0),
            "data: numbers in 'x0' are too large to be averaged; rescale them",
        ),
        (
            {"name": text([f"person {n}" for n in range(1001)])},
            "data: text column 'name' holds 1001 different texts, one feature each; at most 1000 are taken: "
            "leave it out with data.arguments.drop, or group the texts",
        ),
    ],
)
def test_columns_that_cannot_be_fitted_are_reported(features, message):
    train = np.arange({3: 2, 600: 600}.get(len(features), 1001))
    with pytest.raises(DataError, match=re.escape(message)):
        fit(features, train, missing="mean")


def test_numbers_beyond_float32_are_reported_by_column():
    values = np.array([[1, 1e39], [2, 2], [3, 3]])
    with pytest.raises(DataError, match="data: numbers in 'x1' are too large for float32; rescale them"):
        fit(values, np.arange(3), standardize=False).transform(values)


TABLE = {"size": np.array([1.0, 3, 5, 7]), "colour": text(["red", "blue", "red", "green"])}


@pytest.mark.parametrize("features", [TABLE, np.random.default_rng(0).normal(size=(8, 1, 2, 2))])
@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "mse"])
def test_an_encoding_comes_back_unchanged_from_json(features, loss):
    encoding = fit(features, np.arange(4), loss=loss)
    assert Encoding.from_mapping(json.loads(json.dumps(encoding.to_mapping()))) == encoding


def test_a_new_table_is_encoded_as_the_training_was():
    encoding = fit(TABLE, np.arange(3))
    new = pa.table({"extra": [0, 0], "colour": ["blue", "violet"], "size": [3, 5]})
    np.testing.assert_allclose(
        encoding.encode_table(new), [[0, 1, 0], [2 / np.std([1, 3, 5]), 0, 0]], rtol=1e-6
    )
    cases = {
        "table: there is no column 'colour'; the columns are 'size', 'color'; did you mean 'color'?": {
            "size": [1],
            "color": ["red"],
        },
        "table: column 'size' must be of numbers, as in training": {"size": ["1"], "colour": ["red"]},
        "table: column 'colour' must be of text, as in training": {"size": [1], "colour": [1]},
        "data: nulls in 'colour' (1 row)": {"size": [1], "colour": pa.array([None], pa.string())},
    }
    for message, columns in cases.items():
        with pytest.raises(DataError, match=re.escape(message)):
            encoding.encode_table(pa.table(columns))
    with pytest.raises(DataError, match="trained on a table; give a table, not an array"):
        encoding.encode_array(np.zeros((2, 2)))


def test_a_new_array_is_encoded_as_the_training_was():
    values = np.random.default_rng(0).normal(size=(8, 1, 2, 2))
    encoding = fit(values, np.arange(6))
    np.testing.assert_array_equal(encoding.encode_array(values[6:]), encoding.transform(values)[6:])
    with pytest.raises(
        DataError, match=re.escape("shape [2, 3]; it must be of numbers and of shape [n, 1, 2, 2]")
    ):
        encoding.encode_array(np.zeros((2, 3)))
    with pytest.raises(DataError, match=re.escape("infinities in 'channel 0' (1 row)")):
        encoding.encode_array(np.full((1, 1, 2, 2), np.inf))
    with pytest.raises(DataError, match="trained on an array; give an array, not a table"):
        encoding.encode_table(pa.table({"a": [1]}))


def test_coefficients_are_those_of_the_encoded_features():
    values = np.random.default_rng(0).normal(3, [1, 5], size=(50, 2))
    theta = np.array([2.0, -1.0])
    for standardize in (True, False):
        encoding = fit(values, np.arange(50), standardize=standardize)
        encoded = encoding.transform(values) @ np.array(encoding.encode_coefficients(theta))
        residue = values @ theta - encoded
        assert np.ptp(residue) < 1e-4  # but for a constant, the same function


TARGETS: list[tuple[str, Any, list[Any], str, tuple[Any, ...]]] = [
    ("cross_entropy", np.array([5, 3, 5, 9]), [1, 0, 1, 2], "int64", (3, 5, 9)),
    ("cross_entropy", np.array([2.0, 1.0, 2.0, 1.0]), [1, 0, 1, 0], "int64", (1, 2)),
    ("cross_entropy", text(["b", "a", "b", "c"]), [1, 0, 1, 2], "int64", ("a", "b", "c")),
    ("cross_entropy", np.array([True, False, True, False]), [1, 0, 1, 0], "int64", (False, True)),
    (
        "binary_cross_entropy",
        text(["no", "yes", "no", "no"]),
        [[0], [1], [0], [0]],
        "float32",
        ("no", "yes"),
    ),
    ("binary_cross_entropy", np.array([7, 4, 7, 4]), [[1], [0], [1], [0]], "float32", (4, 7)),
    ("mse", np.array([1, 2, 3, 4]), [[1], [2], [3], [4]], "float32", ()),
    (
        "huber",
        np.array([[1.5, 2], [3, 4], [5, 6], [7, 8]]),
        [[1.5, 2], [3, 4], [5, 6], [7, 8]],
        "float32",
        (),
    ),
    ("mine:loss", np.array([4, 2, 4, 2]), [1, 0, 1, 0], "int64", (2, 4)),
    ("mine:loss", text(["x", "y", "x", "y"]), [0, 1, 0, 1], "int64", ("x", "y")),
    ("mine:loss", np.array([1.5, 2, 3, 4]), [[1.5], [2], [3], [4]], "float32", ()),
]


@pytest.mark.parametrize(("loss", "target", "encoded", "dtype", "classes"), TARGETS)
def test_targets_take_the_form_of_the_loss(loss, target, encoded, dtype, classes):
    width = 1 if len(target.shape) == 1 else target.shape[1]
    raw = RawData(np.zeros((4, 1)), target, feature_names=("x",), target_names=tuple("yz"[:width]))
    encoding = fit_encoding(raw, np.arange(4), DataSettings(source="unused"), loss).target
    y = encoding.transform(target, np.arange(4))
    assert y.dtype == dtype
    assert y.flags.c_contiguous
    assert y.tolist() == encoded
    assert encoding.classes == classes
    assert [type(name) for name in encoding.classes] == [type(name) for name in classes]
    assert encoding.outputs == (len(classes) if dtype == "int64" else y.shape[1])


def test_categories_are_those_of_training_in_alphabetical_order():
    encoding = fit({"c": text(["z", "b", "a"])}, np.array([0, 2]))
    assert encoding.parts == (Categories("c", ("a", "z")),)


def test_classes_are_those_of_the_training_rows():
    encoding = fit(np.zeros((4, 1)), np.array([0, 1]), target=np.array([4, 2, 9, 4]))
    assert encoding.target.classes == (2, 4)
