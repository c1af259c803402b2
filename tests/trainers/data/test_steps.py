from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_jobs.trainers.data import (
    RawData,
    TextColumn,
    encode_rows,
    fit_encoding,
    prepare_data,
    read_rows,
    split_data,
)
from tune_jobs.trainers.data.rows import describe_data
from tune_jobs.trainers.data.settings import DataSettings, SplitSettings

NUMBERS = st.one_of(st.none(), st.integers(-5, 5).map(float), st.floats(-1e6, 1e6, width=32))
TEXTS = st.sampled_from(["red", "green", "blue", "a", "zebra"])
ROWS = st.tuples(NUMBERS, TEXTS, TEXTS, st.integers(-3, 3))
"""Generate a row of a table: a number or a null, a text, a class as text, a class as a number."""


def table(rows: list[tuple[float | None, str, str, int]], loss: str) -> RawData:
    number, text, label, count = zip(*rows, strict=True)
    features = {"size": np.array(number, np.float64), "colour": texts(text)}
    kinds = {"cross_entropy": texts(label), "mse": np.array(count, np.float64)}
    target = kinds.get(loss, np.array(count))  # to a function, whole numbers are classes
    return RawData(features, target, feature_names=("size", "colour"))


def texts(values: Any) -> TextColumn:
    return TextColumn.from_arrow(pa.chunked_array([pa.array(values, pa.string())]))


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "mine:loss"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_row_outside_a_fold_influences_its_encoded_rows(loss, data):
    """Replace every row outside the fold: the encoding and all encoded rows of the fold stay the same bits."""
    rows = data.draw(st.lists(ROWS, min_size=4, max_size=30))
    parts = data.draw(st.lists(st.sampled_from("tvo"), min_size=len(rows), max_size=len(rows)))
    parts[0] = "t"
    rows[0] = (1.0, *rows[0][1:])  # a column of nulls alone is refused
    train, validation, outside = (np.flatnonzero(np.array(parts) == part) for part in "tvo")
    classes = {rows[row][2] for row in train}
    for row in validation:  # other classes are refused before rows are encoded
        rows[row] = (*rows[row][:2], rows[row][2] if rows[row][2] in classes else rows[0][2], rows[row][3])
    changed = list(rows)
    for row in outside:
        changed[row] = data.draw(ROWS)
    options = DataSettings(source="unused", missing="mean", standardize=data.draw(st.booleans()))

    seen = []
    for raw in (table(rows, loss), table(changed, loss)):
        encoding = fit_encoding(raw, train, options, loss)
        encoded = [encode_rows(raw, part, encoding) for part in (train, validation)]
        seen.append(
            (describe_data(raw, encoding), [(part.x.tobytes(), part.y.tobytes()) for part in encoded])
        )
    assert seen[0] == seen[1]


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(ROWS, min_size=4, max_size=30), other=ROWS)
def test_validation_rows_do_not_influence_the_encoding(rows, other):
    rows[0] = (1.0, *rows[0][1:])
    train = np.arange(len(rows) // 2)
    options = DataSettings(source="unused", missing="mean")
    changed = rows[: len(train)] + [other] * (len(rows) - len(train))
    one, two = (fit_encoding(table(given, "mse"), train, options, "mse") for given in (rows, changed))
    assert one == two


def test_the_steps_one_by_one_give_what_the_whole_preparation_gives(tmp_path: Path):
    columns = {
        "size": [None if row == 3 else row * 1.5 for row in range(60)],
        "colour": ["red", "blue", "green"] * 20,
        "label": ["no", "yes"] * 30,
    }
    pa.parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    options = DataSettings(
        source="t.parquet", target="label", missing="mean", split=SplitSettings(method="stratified")
    )
    whole = prepare_data(options, "cross_entropy", tmp_path)

    raw = read_rows(options, "cross_entropy", tmp_path)
    split = split_data(raw, options.split)
    encoding = fit_encoding(raw, split.train, options, "cross_entropy")
    assert describe_data(raw, encoding) == whole.info
    for name, rows in split.parts().items():
        encoded = encode_rows(raw, rows, encoding)
        assert encoded.x.tobytes() == getattr(whole, name).x.tobytes()
        assert encoded.y.tobytes() == getattr(whole, name).y.tobytes()


def test_each_fold_has_its_own_encoding(tmp_path: Path):
    options = DataSettings(source="linear_gaussian", arguments={"n": 90})
    raw = read_rows(options, "mse", tmp_path)
    rows = np.arange(raw.rows)
    means = set()
    for fold in range(3):
        validation = rows[fold::3]
        train = np.setdiff1d(rows, validation)
        encoding = fit_encoding(raw, train, options, "mse")
        encoded = encode_rows(raw, train, encoding)
        assert encoded.x.mean(axis=0) == pytest.approx(0, abs=1e-6)
        assert encode_rows(raw, validation, encoding).x.shape == (30, 2)
        means.add(encoding.parts)
    assert len(means) == 3
