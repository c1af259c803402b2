import datetime
import re
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest

from tune_jobs.trainers.data import RawData, TextColumn, read_source
from tune_jobs.trainers.data.settings import DataSettings, SplitSettings
from tune_jobs.trainers.errors import DataError, ReferenceNotFound

TABLE = pa.table(
    {
        "height": pa.array([1.5, None, 2.5, 3.5], pa.float32()),
        "count": pa.array([1, 2, None, 4], pa.int64()),
        "flag": pa.array([True, False, None, True]),
        "colour": pa.array(["red", None, "blue", "red"]),
        "person": pa.array([3, 3, 1, 2]),
        "label": pa.array(["yes", "no", "yes", "no"]),
    }
)


def read(base: Path, source: str, **options: Any) -> RawData:
    return read_source(DataSettings(source=source, **options), base)


def problem(base: Path, source: str, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(base, source, **options)
    return str(caught.value)


def by(column: str, method: str = "group") -> SplitSettings:
    return SplitSettings(method=method, by=column)


def write(table: pa.Table, path: Path) -> str:
    match path.name.split("."):
        case [_, "parquet"]:
            pa.parquet.write_table(table, path, row_group_size=2)
        case [_, "csv"]:
            pa.csv.write_csv(table, path)
        case ["stream", "arrow"]:
            with pa.ipc.new_stream(path, table.schema) as writer:
                writer.write_table(table, max_chunksize=3)
        case ["feather", "arrow"]:
            pa.feather.write_feather(table, path)
        case _:
            with pa.ipc.new_file(path, table.schema) as writer:
                writer.write_table(table, max_chunksize=3)
    return path.name


def function(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, body: str) -> str:
    monkeypatch.syspath_prepend(folder)
    text = f"import numpy as np\nimport pandas as pd\ndef make(n=4, **more):\n    {body}\n"
    (folder / f"{name}.py").write_text(text)
    return f"{name}:make"


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "file.arrow", "stream.arrow", "feather.arrow"])
def test_every_table_file_gives_the_same_columns(tmp_path, name):
    raw = read(tmp_path, write(TABLE, tmp_path / name), target="label", split=by("person"))
    assert raw.feature_names == ("height", "count", "flag", "colour")
    assert raw.target_names == ("label",)
    assert isinstance(raw.features, dict)
    np.testing.assert_equal(raw.features["height"], [1.5, np.nan, 2.5, 3.5])
    np.testing.assert_equal(raw.features["count"], [1, 2, np.nan, 4])
    np.testing.assert_equal(np.asarray(raw.features["flag"], float), [1, 0, np.nan, 1])
    colour, label = raw.features["colour"], raw.target
    assert isinstance(colour, TextColumn)
    assert isinstance(label, TextColumn)
    assert colour.strings().tolist() == ["red", None, "blue", "red"]
    assert label.values == ("no", "yes")
    assert raw.columns["person"].tolist() == [3, 3, 1, 2]


def test_columns_of_many_types_become_numbers_or_text(tmp_path):
    table = pa.table(
        {
            "half": pa.array([0.5, 1.0, 2.0], pa.float16()),
            "money": pa.array([Decimal("1.10"), None, Decimal("3.30")]),
            "kind": pa.array(["b", "a", "b"]).dictionary_encode(),
            "grade": pa.array([3, 1, 3]).dictionary_encode(),
            "large": pa.array(["x", "y", "x"], pa.large_string()),
            "y": [1.0, 2.0, 3.0],
            "z": [1, 2, 3],
        }
    )
    raw = read(tmp_path, write(table, tmp_path / "t.arrow"), target=("y", "z"))
    assert isinstance(raw.features, dict)
    np.testing.assert_equal(raw.features["half"], [0.5, 1, 2])
    np.testing.assert_allclose(np.asarray(raw.features["money"]), [1.1, np.nan, 3.3])
    texts = {
        name: column.strings().tolist()
        for name, column in raw.features.items()
        if isinstance(column, TextColumn)
    }
    assert texts == {"kind": ["b", "a", "b"], "grade": ["3", "1", "3"], "large": ["x", "y", "x"]}
    assert raw.target.shape == (3, 2)


def test_columns_can_be_picked_and_dropped(tmp_path):
    name = write(TABLE, tmp_path / "t.arrow")
    picked = read(tmp_path, name, target="label", arguments={"columns": ["person", "height"]})
    dropped = read(tmp_path, name, target="label", arguments={"drop": ["height", "colour"]})
    assert picked.feature_names == ("person", "height")
    assert dropped.feature_names == ("count", "flag", "person")


def test_row_labels_written_by_pandas_are_no_feature(tmp_path):
    frame = pd.DataFrame({"x": [1.0, 2, 3, 4], "y": [0, 1, 0, 1]})
    frame[frame.x > 1].to_parquet(tmp_path / "t.parquet")
    assert read(tmp_path, "t.parquet", target="y").feature_names == ("x",)


def test_times_divide_rows_but_are_no_features(tmp_path):
    days = [datetime.date(2024, 1, day) for day in (3, 1, 2)]
    name = write(pa.table({"day": days, "x": [1, 2, 3], "y": [1, 2, 3]}), tmp_path / "t.csv")
    raw = read(tmp_path, name, target="y", split=by("day", "time"))
    assert raw.feature_names == ("x",)
    assert raw.columns["day"].dtype.kind == "M"
    assert problem(tmp_path, name, target="y") == (
        "column 'day' is of type date32[day]: turn it into a number, or leave it out with data.arguments.drop"
    )


def test_columns_that_cannot_be_features_are_all_named(tmp_path):
    table = pa.table({"list": [[1], [2]], "empty": pa.nulls(2), "raw": [b"a", b"b"], "y": [1, 2]})
    assert problem(tmp_path, write(table, tmp_path / "t.parquet"), target="y") == (
        "column 'list' is of type list<element: int64>: turn it into numbers or text; "
        "column 'empty' is empty: give it values; column 'raw' is of type binary: turn it into numbers or text; "
        "or leave these columns out with data.arguments.drop"
    )


def test_a_csv_takes_a_delimiter_and_keeps_quoted_words_for_nothing_as_text(tmp_path):
    (tmp_path / "t.csv").write_text('country;x;y\n"NA";1;1\nDE;2;2\n;3;3\n')
    raw = read(tmp_path, "t.csv", target="y", arguments={"delimiter": ";"})
    assert isinstance(raw.features, dict)
    country = raw.features["country"]
    assert isinstance(country, TextColumn)
    assert country.strings().tolist() == ["NA", "DE", None]


def test_an_npz_gives_x_and_y_or_another_target(tmp_path):
    x = np.arange(48, dtype=np.float32).reshape(4, 3, 2, 2)
    np.savez(tmp_path / "t.npz", x=x, y=[1, 2, 3, 4], other=["a", "b", "a", "b"], person=[0, 0, 1, 1])
    raw = read(tmp_path, "t.npz")
    np.testing.assert_array_equal(raw.features, x)
    assert raw.target.tolist() == [1, 2, 3, 4]
    raw = read(tmp_path, "t.npz", target="other", split=by("person"))
    assert isinstance(raw.target, TextColumn)
    assert raw.target.strings().tolist() == ["a", "b", "a", "b"]
    assert raw.columns["person"].tolist() == [0, 0, 1, 1]
    assert raw.feature_names == ()


def test_a_long_double_that_is_too_large_becomes_an_infinity(tmp_path):
    np.savez(tmp_path / "t.npz", x=np.array(["1e400", "1"]).astype(np.longdouble), y=[1, 2])
    assert read(tmp_path, "t.npz").features.tolist() == [[np.inf], [1.0]]


def test_an_npz_never_unpickles(tmp_path):
    np.savez(tmp_path / "t.npz", x=np.array([object()] * 3), y=[1, 2, 3])
    assert "Object arrays cannot be loaded" in problem(tmp_path, "t.npz")


def test_relative_paths_count_from_the_jobs_folder(tmp_path, monkeypatch):
    (tmp_path / "job").mkdir()
    write(TABLE, tmp_path / "job" / "t.parquet")
    monkeypatch.chdir(tmp_path)
    assert read(tmp_path / "job", "t.parquet", target="label").rows == 4
    assert read(Path("elsewhere"), str(tmp_path / "job" / "t.parquet"), target="label").rows == 4


@pytest.mark.parametrize("suffix", ["parquet", "csv", "arrow", "npz"])
@pytest.mark.parametrize("content", [b"", b"\x93broken\xff\xfe" * 40, b"PK\x03\x04 half a zip"])
def test_empty_and_broken_files_are_reported_in_one_line(tmp_path, suffix, content):
    path = tmp_path / f"bad.{suffix}"
    path.write_bytes(content)
    message = problem(tmp_path, path.name, target="label")
    assert message.startswith(("data.source: ", "data.target: "))
    assert "\n" not in message
    assert path.name in message or suffix == "csv"


def test_a_truncated_parquet_file_is_reported(tmp_path):
    path = tmp_path / "t.parquet"
    write(TABLE, path)
    path.write_bytes(path.read_bytes()[:-20])
    assert f"data.source: {path} cannot be read as .parquet: " in problem(
        tmp_path, "t.parquet", target="label"
    )


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }", "Unable to allocate"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (" * 3, ""),
    ],
)
def test_an_array_that_contradicts_its_header_is_reported(tmp_path, header, said):
    path = tmp_path / "t.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("x.npy", "y.npy"):
            text = header.encode() + b"\n"
            archive.writestr(name, b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + b"0" * 80)
    assert f"data.source: {path} cannot be read as .npz: {said}" in problem(tmp_path, "t.npz")


def test_damage_in_a_compressed_array_is_reported(tmp_path):
    path = tmp_path / "t.npz"
    np.savez_compressed(path, x=np.arange(300.0), y=np.arange(300.0))
    content = bytearray(path.read_bytes())
    content[100:140] = bytes(40)
    path.write_bytes(content)
    assert f"data.source: {path} cannot be read as .npz: " in problem(tmp_path, "t.npz")


def test_a_target_is_named_once(tmp_path):
    write(TABLE, tmp_path / "t.parquet")
    assert problem(tmp_path, "t.parquet", target=("height", "count", "height")) == (
        "data.target: 'height' is named twice; name a column once"
    )


def test_file_problems_say_what_to_do(tmp_path):
    write(TABLE, tmp_path / "table.parquet")
    write(TABLE.slice(0, 0), tmp_path / "none.parquet")
    (tmp_path / "twice.csv").write_text("a,a,y\n1,2,3\n")
    columns = "the columns are 'height', 'count', 'flag', 'colour', 'person', 'label'"
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("tabel.parquet", {}, f"no file {tmp_path / 'tabel.parquet'}; did you mean 'table.parquet'?"),
        ("none.parquet", {"target": "label"}, f"data.source: {tmp_path / 'none.parquet'} has no rows"),
        ("twice.csv", {"target": "y"}, "twice.csv has more than one column 'a'; rename them"),
        ("table.parquet", {}, "data.target: name the target column; table.parquet has the columns 'height'"),
        (
            "table.parquet",
            {"target": "lable"},
            f"data.target: there is no column 'lable'; {columns}; did you mean 'label'?",
        ),
        (
            "table.parquet",
            {"target": "label", "split": by("persn")},
            f"data.split.by: there is no column 'persn'; {columns}; did you mean 'person'?",
        ),
        (
            "table.parquet",
            {"target": "label", "split": by("label")},
            "data.split.by: column 'label' is the target",
        ),
        (
            "table.parquet",
            {"target": ("label", "count")},
            "data.target: column 'label' is of text; of several targets, all must be numbers",
        ),
        (
            "table.parquet",
            {"target": "label", "arguments": {"drop": ["color"]}},
            f"data.arguments.drop: there is no column 'color'; {columns}; did you mean 'colour'?",
        ),
        (
            "table.parquet",
            {"target": "label", "arguments": {"drop": "colour"}},
            "data.arguments.drop is 'colour'; give a list of column names",
        ),
        (
            "table.parquet",
            {"target": "label", "arguments": {"columns": ["label"]}},
            "data.arguments.columns: 'label' is the target or the column of data.split.by",
        ),
        (
            "table.parquet",
            {"target": "label", "arguments": {"columns": ["flag"], "drop": ["flag"]}},
            "data: no column is left as a feature",
        ),
        (
            "table.parquet",
            {"target": "label", "arguments": {"delimiter": ","}},
            "data.arguments: .parquet files take columns, drop, not 'delimiter'",
        ),
        (
            "twice.csv",
            {"target": "y", "arguments": {"delimiter": "::"}},
            "data.arguments.delimiter is '::'; give a single character",
        ),
    ]
    for source, options, message in cases:
        assert message in problem(tmp_path, source, **options)


def test_npz_problems_say_what_to_do(tmp_path):
    np.savez(tmp_path / "t.npz", x=np.zeros((3, 2)), y=[1, 2, 3], g=[1, 2, 3], c=np.zeros(3, complex))
    np.savez(tmp_path / "features.npz", features=np.zeros((3, 2)), y=[1, 2, 3])
    np.savez(tmp_path / "short.npz", x=np.zeros((3, 2)), y=[1, 2])
    assert "data.source: there is no column 'x'" in problem(tmp_path, "features.npz")
    assert "the columns are 'features', 'y'" in problem(tmp_path, "features.npz")
    assert "data.target: there is no column 'z'; the columns are 'x', 'y'" in problem(
        tmp_path, "t.npz", target="z"
    )
    assert "array 'c' is of type complex128 and shape [3]" in problem(tmp_path, "t.npz", target="c")
    assert "x is the features" in problem(tmp_path, "t.npz", target="x")
    assert "x is the features" in problem(tmp_path, "t.npz", split=by("y"))
    assert ".npz files take no arguments, not 'columns'" in problem(
        tmp_path, "t.npz", arguments={"columns": ["x"]}
    )
    assert problem(tmp_path, "short.npz") == "data.source: the numbers of rows differ: 'x' 3, 'y' 2"


def test_unknown_sources_are_reported_with_the_closest_name(tmp_path):
    assert problem(tmp_path, "digitz") == (
        "data.source: 'digitz' is unknown; use digits, breast_cancer, wine, diabetes, linear_gaussian, a file "
        "(.parquet, .csv, .arrow, .npz) or package.module:function; did you mean 'digits'?"
    )
    assert "data.source: 'table.xlsx' is unknown" in problem(tmp_path, "table.xlsx")


@pytest.mark.parametrize(
    ("name", "shape", "targets"),
    [
        ("digits", (1797, 1, 8, 8), 10),
        ("breast_cancer", (569, 30), 2),
        ("wine", (178, 13), 3),
        ("diabetes", (442, 10), 214),
    ],
)
def test_built_in_sources_have_their_known_shapes(tmp_path, name, shape, targets):
    raw = read(tmp_path, name)
    assert isinstance(raw.features, np.ndarray)
    assert raw.features.shape == shape
    assert len(np.unique(raw.target)) == targets
    assert len(raw.feature_names) == (shape[1] if len(shape) == 2 else 0)


def test_digits_are_scaled_to_one_and_diabetes_is_not_scaled_over_all_rows(tmp_path):
    digits, diabetes = read(tmp_path, "digits").features, read(tmp_path, "diabetes").features
    assert isinstance(digits, np.ndarray)
    assert (digits.min(), digits.max(), digits.dtype) == (0, 1, np.float32)
    assert isinstance(diabetes, np.ndarray)
    assert diabetes[:, 0].mean() > 40  # years of age


def test_linear_gaussian_is_x_theta_plus_noise(tmp_path):
    arguments = {"n": 20_000, "features": 3, "sigma": 0.5, "seed": 7}
    raw = read(tmp_path, "linear_gaussian", arguments=arguments)
    assert isinstance(raw.features, np.ndarray)
    assert raw.features.shape == (20_000, 3)
    assert isinstance(raw.target, np.ndarray)
    assert raw.truth is not None
    noise = raw.target - raw.features @ raw.truth
    assert abs(noise.std() - 0.5) < 0.02
    assert np.all(np.abs(raw.features.mean(axis=0)) < 0.05)
    again = read(tmp_path, "linear_gaussian", arguments=arguments)
    np.testing.assert_array_equal(raw.target, again.target)
    other = read(tmp_path, "linear_gaussian", arguments={**arguments, "seed": 8})
    assert not np.array_equal(raw.target, other.target)


def test_arguments_of_built_in_sources_are_checked(tmp_path):
    cases: list[tuple[str, dict[str, Any], str]] = [
        (
            "linear_gaussian",
            {"feature": 2},
            "data.arguments: linear_gaussian takes n, features, sigma, seed, not 'feature'; "
            "did you mean 'features'?",
        ),
        ("digits", {"n": 2}, "data.arguments: digits takes no arguments, not 'n'"),
        ("linear_gaussian", {"n": 0}, "data.arguments.n is 0; give a whole number of at least 1"),
        (
            "linear_gaussian",
            {"features": 2.5},
            "data.arguments.features is 2.5; give a whole number of at least 1",
        ),
        ("linear_gaussian", {"seed": -1}, "data.arguments.seed is -1; give a whole number of at least 0"),
        (
            "linear_gaussian",
            {"sigma": "1"},
            "data.arguments.sigma is '1'; give a number of at least 0 and at most 1e+30",
        ),
        (
            "linear_gaussian",
            {"sigma": 1e308},
            "data.arguments.sigma is 1e+308; give a number of at least 0 and at most 1e+30",
        ),
        *(
            (
                "linear_gaussian",
                {"n": n},
                f"data.arguments: {n} rows of 2 features do not fit into memory; give a smaller n or fewer features",
            )
            for n in (10**13, 2**62, 10**400)
        ),
    ]
    for source, arguments, message in cases:
        assert problem(tmp_path, source, arguments=arguments) == message


def test_target_and_by_are_refused_if_a_source_has_neither(tmp_path):
    assert "data.target is for files; 'wine' has its own target" in problem(tmp_path, "wine", target="y")
    assert problem(tmp_path, "wine", split=by("person")) == (
        "data.split.by: 'wine' has no column to divide by; use random or stratified"
    )


def test_a_function_returns_a_pair_or_a_mapping_with_columns(tmp_path, monkeypatch):
    pair = function(tmp_path, monkeypatch, "src_pair", "return [[1, 2]] * n, ['a', 'b'] * (n // 2)")
    raw = read(tmp_path, pair, arguments={"n": 6})
    assert raw.rows == 6
    assert raw.feature_names == ("x0", "x1")
    assert isinstance(raw.target, TextColumn)
    mapping = function(
        tmp_path,
        monkeypatch,
        "src_mapping",
        "return {'x': np.ones(n), 'y': np.ones((n, 1)), 'person': range(n)}",
    )
    raw = read(tmp_path, mapping, split=by("person"))
    assert isinstance(raw.features, np.ndarray)
    assert raw.features.shape == (4, 1)
    assert raw.target.shape == (4,)
    assert raw.columns["person"].tolist() == [0, 1, 2, 3]
    assert (
        "data.split.by: there is no column 'persn'; the columns are 'person'; did you mean 'person'?"
        in problem(tmp_path, mapping, split=by("persn"))
    )


def test_a_function_may_return_a_table(tmp_path, monkeypatch):
    body = "return pd.DataFrame({'a': range(n), 'b': list('uvuv')}, index=[7] * n), pd.Series([0, 1, 0, 1])"
    raw = read(tmp_path, function(tmp_path, monkeypatch, "src_table", body))
    assert raw.feature_names == ("a", "b")
    assert isinstance(raw.features, dict)
    assert isinstance(raw.features["b"], TextColumn)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise RuntimeError('no disk')", "data.source: {source} failed: RuntimeError: no disk"),
        (
            "return np.ones(3)",
            "data.source: {source} returned ndarray; return (x, y) or a mapping with 'x' and 'y'",
        ),
        (
            "return {'x': 1, 'target': 2}",
            "data.source: {source} returned a mapping of 'x', 'target'; return (x, y)",
        ),
        ("return np.ones((3, 2)), np.ones(4)", "the numbers of rows differ: 'x' 3, 'y' 4"),
        ("return np.ones((0, 2)), np.ones(0)", "data.source: there are no rows"),
        ("return np.ones((3, 0)), np.ones(3)", "x is of shape [3, 0]; a row has no features"),
        (
            "return np.ones((3, 2)), np.ones((3, 2, 2))",
            "data.target is of shape [3, 2, 2]; it must be [n] or [n, k]",
        ),
        (
            "return ['a', 'b'], [1, 2]",
            "'x' of {source} is of type text; give an array of numbers [n, ...] or a table",
        ),
        ("return [[1], [1, 2]], [1, 2]", "'x' of {source} is no array: ValueError"),
        (
            "return [1, 2], 3",
            "'y' of {source} is of type int64 and shape []; give numbers or a list of texts",
        ),
        ("return [1, 2], np.array(['2024', '2025'], 'M8[Y]')", "data.target is of type datetime64[Y]"),
    ],
)
def test_wrong_results_of_a_function_are_reported(tmp_path, monkeypatch, body, message):
    source = function(tmp_path, monkeypatch, f"src_wrong_{abs(hash(body))}", body)
    assert message.format(source=source) in problem(tmp_path, source)


def test_arguments_that_do_not_fit_a_function_are_reported(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "src_strict.py").write_text("def make(n): ...")
    message = problem(tmp_path, "src_strict:make", arguments={"m": 3})
    assert re.fullmatch(
        "data.arguments do not fit src_strict:make: missing a required argument: 'n'", message
    )
    with pytest.raises(ReferenceNotFound, match="did you mean 'make'"):
        read(tmp_path, "src_strict:mak")
