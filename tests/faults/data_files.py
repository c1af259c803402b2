"""Data files that no one should train on, made by hypothesis: CSV, Parquet, Arrow and NumPy."""

import datetime
import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet
from hypothesis import strategies as st

Draw = Any
File = tuple[str, bytes]
"""Suffix and content."""

EXECUTED = "executed"
"""Name of the file that a pickle makes in the current folder, if ever it is loaded."""


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return open, (EXECUTED, "w")


names = st.one_of(
    st.sampled_from(
        ["x", "y", "size", "kind", "site", "when", "", " ", "y ", "__index_level_0__", "naïve", "行", "a,b", 'a"b',
         "a\nb", "\x1b[31m", "\u202e", "y" * 300, "train", "epoch", "None", "nan", "0", "x0"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6),
)  # fmt: skip
rows = st.sampled_from([0, 1, 2, 3, 5, 10, 12, 30, 30, 40, 40, 60, 60])

_ODD_NUMBERS = (
    0.0,
    -0.0,
    1.0,
    1e308,
    -1e308,
    1e39,
    5e-324,
    float("nan"),
    float("inf"),
    -float("inf"),
    2.0**53 + 2,
)
_TYPES = (
    pa.float64(), pa.float32(), pa.float16(), pa.int8(), pa.int64(), pa.uint64(), pa.bool_(), pa.string(),
    pa.large_string(), pa.string_view(), pa.binary(), pa.date32(), pa.timestamp("ns"), pa.timestamp("us", "UTC"),
    pa.time64("us"), pa.duration("s"), pa.decimal128(38, 2), pa.null(), pa.list_(pa.int64()),
    pa.struct([("a", pa.int64())]), pa.map_(pa.string(), pa.int64()), pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.int32(), pa.int64()), pa.list_(pa.float32(), 2), pa.decimal256(76, 0),
)  # fmt: skip


@st.composite
def columns(draw: Draw, count: int) -> pa.Array:
    """A column of `count` rows, more often of a kind that a model could be trained on."""
    random = np.random.default_rng(draw(st.integers(0, 9)))

    def words() -> pa.Array:
        texts = draw(st.lists(names, min_size=1, max_size=4))
        return pa.array([texts[i] for i in random.integers(len(texts), size=count)], pa.string())

    def odd() -> pa.Array:
        values = random.normal(size=count)
        for _ in range(draw(st.integers(1, 3)) if count else 0):
            values[draw(st.integers(0, count - 1))] = draw(st.sampled_from(_ODD_NUMBERS))
        return pa.array(values, from_pandas=draw(st.booleans()))

    makers: dict[str, Callable[[], pa.Array]] = {
        "plain": lambda: pa.array(
            random.normal(size=count) * draw(st.sampled_from([1.0, 1e-300, 1e30, 1e200]))
        ),
        "classes": lambda: pa.array(random.integers(draw(st.integers(1, 4)), size=count)),
        "words": words,
        "odd": odd,
        "typed": lambda: typed(draw(st.sampled_from(_TYPES)), count, random, draw(st.booleans())),
        "constant": lambda: pa.array([draw(st.sampled_from([0, 1.5, "same", True]))] * count),
        "nulls": lambda: pa.array([None] * count, draw(st.sampled_from(_TYPES))),
        "ids": lambda: pa.array([f"id {i}" for i in range(count)], pa.string()),
        "big": lambda: pa.array(random.integers(-(2**63), 2**63 - 1, size=count)),
    }
    return makers[draw(st.sampled_from(["plain", "plain", "classes", "typed", *makers]))]()


_NESTED: tuple[tuple[Callable[[pa.DataType], bool], Callable[[int], Any]], ...] = (
    (pa.types.is_struct, lambda n: {"a": n}),
    (pa.types.is_map, lambda n: [("k", n)]),
    (pa.types.is_nested, lambda n: [n, n]),
    (pa.types.is_null, lambda n: None),
    (pa.types.is_binary, lambda n: bytes([n])),
    (pa.types.is_string, lambda n: str(n % 4)),
    (pa.types.is_large_string, lambda n: str(n % 4)),
    (pa.types.is_string_view, lambda n: str(n % 4)),
    (pa.types.is_boolean, lambda n: bool(n % 2)),
    (pa.types.is_float16, np.float16),
    (pa.types.is_floating, float),
    (pa.types.is_date, datetime.date.fromordinal),
    (pa.types.is_time, lambda n: datetime.time(n % 24)),
    (pa.types.is_duration, lambda n: datetime.timedelta(seconds=n)),
    (pa.types.is_timestamp, lambda n: datetime.datetime.fromtimestamp(n, datetime.UTC)),
    (pa.types.is_integer, int),
    (pa.types.is_decimal, Decimal),
)
"""Of each kind of types, how a value is made of a whole number from 1 to 99."""


def typed(type_: pa.DataType, count: int, random: np.random.Generator, nulls: bool) -> pa.Array:
    """Values of an Arrow type, some of them null if asked for."""
    if pa.types.is_dictionary(type_):
        return typed(type_.value_type, count, random, nulls).dictionary_encode().cast(type_)
    make = next(make for is_of, make in _NESTED if is_of(type_))
    numbers = random.integers(1, 100, size=count).tolist()
    return pa.array([None if nulls and random.random() < 0.2 else make(n) for n in numbers], type_)


@st.composite
def tables(draw: Draw) -> pa.Table:
    """A table that often has columns of the names that the job asks for."""
    count = draw(rows)
    found = draw(st.lists(names, max_size=4)) if draw(st.booleans()) else []
    found += draw(st.sampled_from([["size", "y"], ["size", "y"], ["size", "y", "site"], ["y"], []]))
    if draw(st.booleans()):
        found = list(dict.fromkeys(found))
    arrays = [draw(columns(count)) for _ in found]
    if "y" in found and draw(st.booleans()):
        random = np.random.default_rng(0)
        arrays[found.index("y")] = pa.array(random.integers(3, size=count))
        if draw(st.booleans()):
            arrays = [
                pa.array(random.normal(size=count)) if name == "size" else array
                for name, array in zip(found, arrays, strict=True)
            ]
    return pa.Table.from_arrays(arrays, names=found)


def as_file(table: pa.Table, suffix: str) -> bytes:
    """`table` in the form of `suffix`; what CSV cannot write is written as text."""
    sink = io.BytesIO()
    match suffix:
        case ".parquet":
            pa.parquet.write_table(table, sink)
        case ".arrow":
            with pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
        case ".stream.arrow":
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table, max_chunksize=7)
        case _:
            header = ",".join('"' + name.replace('"', '""') + '"' for name in table.schema.names)
            lines = [header]
            lists = [column.to_pylist() for column in table.columns]
            lines += [",".join("" if v is None else str(v) for v in row) for row in zip(*lists, strict=True)]
            return ("\n".join(lines) + "\n").encode("utf-8")
    return sink.getvalue()


@st.composite
def table_files(draw: Draw) -> File:
    """A table as CSV, Parquet or Arrow; some tables cannot be written in all of them."""
    table = draw(tables())
    suffix = draw(st.sampled_from([".csv", ".csv", ".parquet", ".arrow", ".stream.arrow"]))
    try:
        return suffix, as_file(table, suffix)
    except (pa.ArrowException, ValueError, OverflowError):
        return ".csv", as_file(table.select([]) if table.num_columns == 0 else table.slice(0, 0), ".csv")


@st.composite
def nearly_usable(draw: Draw) -> File:
    """Rows that could be trained on, but for one or two columns of them."""
    count = draw(st.sampled_from([30, 40, 64]))
    random = np.random.default_rng(draw(st.integers(0, 9)))
    target = draw(st.sampled_from(["numbers", "classes", "two", "words", "odd"]))
    arrays = {
        "size": pa.array(random.normal(size=count)),
        "site": pa.array([f"site {i % 6}" for i in range(count)], pa.string()),
        "y": {
            "numbers": pa.array(random.normal(size=count)),
            "classes": pa.array(random.integers(3, size=count)),
            "two": pa.array(random.integers(2, size=count) == 1),
            "words": pa.array([f"class {i % 3}" for i in range(count)], pa.string()),
        }.get(target)
        or draw(columns(count)),
    }
    for name in draw(st.lists(names, max_size=2)):
        arrays.setdefault(name, draw(columns(count)))
    table = pa.table(arrays)
    suffix = draw(st.sampled_from([".csv", ".parquet", ".arrow", ".stream.arrow", ".npz"]))
    if suffix == ".npz":
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", draw(_compressions)) as archive:
            x = random.normal(size=(count, draw(st.sampled_from([1, 3]))))
            x[draw(st.integers(0, count - 1))] *= draw(
                st.sampled_from([1.0, 1e39, float("nan"), float("inf")])
            )
            _write(archive, "x.npy", _npy(x))
            try:
                y = np.asarray(table["y"].to_pylist())
            except ValueError:  # lists of different lengths
                y = np.array(range(count), object)
            _write(archive, "y.npy", _npy(y))
        return suffix, stream.getvalue()
    try:
        return suffix, as_file(table, suffix)
    except (pa.ArrowException, ValueError, OverflowError):
        return ".csv", as_file(table.select(["size", "site", "y"]), ".csv")


@st.composite
def csv_texts(draw: Draw) -> File:
    """CSV as people write it by hand."""
    cells = st.one_of(
        st.integers(-5, 5).map(str), st.floats().map(str),
        st.sampled_from(["", "NA", "null", "nan", "inf", "-inf", '"', '""', '"a,b"', "1e999", "9" * 400, "0x1f", "1,5",
                         "2024-01-01", "2024-01-01T00:00:00Z", "12:00", "true", "yes", "\0",
                         "\ufeff", "é", "\r", "a\tb"]),
    )  # fmt: skip
    width = draw(st.integers(1, 4))
    header = draw(
        st.sampled_from(["size,y,site,kind", "y,size", "y", "size,y,y", "size;y", "", ",", "size,y,"])
    )
    lines = draw(
        st.lists(st.lists(cells, min_size=width, max_size=width + draw(st.integers(0, 1))), max_size=12)
    )
    ends = draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"]))
    text = ends.join([header, *(draw(st.sampled_from([",", ",", ";", "\t"])).join(line) for line in lines)])
    return ".csv", text.encode(
        draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"])), "replace"
    )


_compressions = st.sampled_from(
    [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2]
)


def _write(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name), content, archive.compression)  # always of the same date


def _npy(value: Any) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asanyarray(value), allow_pickle=True)
    return stream.getvalue()


def header_of_many_rows(array: bytes) -> bytes:
    """An array in NumPy's format of [n], whose header says that there are far more."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (%d,), }" % 10**15
    return array[:10] + header.ljust(117) + b"\n" + array[128:]


@st.composite
def npz_files(draw: Draw) -> File:
    """An .npz archive, whose arrays are of any shape and type; some hold pickles that must not be loaded."""
    random = np.random.default_rng(draw(st.integers(0, 9)))
    count = draw(rows)

    def odd() -> Any:
        values = random.normal(size=(count, 2))
        values[: draw(st.integers(0, 2))] = draw(st.sampled_from(_ODD_NUMBERS))
        return values

    def header() -> bytes:
        whole = bytearray(_npy(random.normal(size=count)))
        whole[draw(st.integers(0, 99))] ^= 1 << draw(st.integers(0, 7))
        return bytes(whole)

    makers: dict[str, Callable[[], Any]] = {
        "plain": lambda: random.normal(size=(count, 3)),
        "flat": lambda: random.normal(size=count),
        "wide": lambda: random.normal(size=(count, draw(st.integers(0, 5)))),
        "classes": lambda: random.integers(3, size=count),
        "images": lambda: random.normal(size=(count, 1, 4, 4)).astype(np.float32),
        "scalar": lambda: np.float64(3.0),
        "object": lambda: np.array([{"a": 1}] * count, object),
        "bomb": lambda: np.array([Bomb()] * max(1, count), object),
        "bomb alone": lambda: pickle.dumps(Bomb()),
        "complex": lambda: random.normal(size=count) + 1j,
        "times": lambda: np.arange(count).astype("datetime64[s]"),
        "texts": lambda: np.array(["ab"[i % 2] for i in range(count)]),
        "bytes": lambda: np.array([b"ab"] * count),
        "record": lambda: np.zeros(count, [("a", np.float64), ("b", np.int8)]),
        "half": lambda: random.normal(size=(count, 2)).astype(np.float16),
        "long double": lambda: random.normal(size=(count, 2)).astype(np.longdouble) * np.longdouble("1e400"),
        "short": lambda: random.normal(size=max(0, count - 1)),
        "odd": odd,
        "no width": lambda: np.zeros((count, 0)),
        "large": lambda: header_of_many_rows(_npy(np.zeros(count))),
        "header": header,
        "uint": lambda: random.integers(2**64 - 5, 2**64 - 1, size=count, dtype=np.uint64),
        "bool": lambda: random.integers(2, size=count).astype(bool),
        "garbage": lambda: draw(st.binary(max_size=60)),
    }

    def array(name: str) -> bytes:
        usual = ["plain", "plain", "flat"] if name == "x" else ["flat", "classes", "classes"]
        made = makers[draw(st.sampled_from([*usual * 2, *makers]))]()
        return made if isinstance(made, bytes) else _npy(made)

    stream = io.BytesIO()
    kept = draw(
        st.sampled_from(
            [("x", "y"), ("x", "y"), ("x", "y"), ("x", "y", "site"), ("x",), ("y",), ("a", "b"), ()]
        )
    )
    with zipfile.ZipFile(stream, "w", draw(_compressions)) as archive:
        for name in kept:
            _write(archive, draw(st.sampled_from([*[f"{name}.npy"] * 3, name])), array(name))
    return ".npz", stream.getvalue()


_positions = st.integers(0, 1 << 20)
"""To be taken modulo the length of a file, which need not be the same each time."""


@st.composite
def broken(draw: Draw, files: st.SearchStrategy[File]) -> File:
    """A file that was cut off, or whose bits were flipped, or that is called by another's suffix."""
    suffix, content = draw(files)
    match draw(st.sampled_from(["cut", "flip", "flip", "other suffix", "tail", "zeros"])):
        case "cut":
            content = content[: draw(_positions) % (len(content) + 1)]
        case "flip" if content:
            raw = bytearray(content)
            for _ in range(draw(st.integers(1, 5))):
                raw[draw(_positions) % len(raw)] ^= 1 << draw(st.integers(0, 7))
            content = bytes(raw)
        case "other suffix":
            suffix = draw(st.sampled_from([".csv", ".parquet", ".arrow", ".npz", ".CSV", ".Parquet"]))
        case "zeros":
            content = content[: len(content) // 2] + bytes(len(content) // 2)
        case _:
            content += draw(st.binary(max_size=20))
    return suffix, content


@st.composite
def noise(draw: Draw) -> File:
    """Any bytes under a suffix that promises data."""
    start = draw(
        st.sampled_from([b"", b"", b"PAR1", b"ARROW1\0\0", b"PK\x03\x04", b"\x93NUMPY", b"\xff\xff\xff\xff"])
    )
    return draw(st.sampled_from([".csv", ".parquet", ".arrow", ".npz"])), start + draw(st.binary(max_size=80))


data_files: st.SearchStrategy[File] = st.one_of(
    nearly_usable(),
    nearly_usable(),
    nearly_usable(),
    table_files(),
    npz_files(),
    csv_texts(),
    broken(nearly_usable()),
    broken(nearly_usable()),
    broken(npz_files()),
    noise(),
)
"""Data files, as their suffix and content."""


@st.composite
def data_sections(draw: Draw, suffix: str) -> Mapping[str, Any]:
    """A `data` section about a file of this suffix, which mostly asks for what such a file has."""
    section: dict[str, Any] = {"source": f"rows{suffix}", "target": None if suffix == ".npz" else "y"}
    section["standardize"] = draw(st.booleans())
    section["missing"] = draw(st.sampled_from(["error", "mean", "mean"]))
    if draw(st.integers(0, 3)) == 0:
        section["target"] = draw(
            st.sampled_from([["y"], ["y", "size"], "kind", "missing", "x", "", None, "y"])
        )
    method = draw(st.sampled_from([*["random"] * 6, "stratified", "group", "time", "column"]))
    by = {"group": ["site"], "time": ["site", "size", "when"], "column": ["site", "kind"]}
    section["split"] = {"method": method}
    if method in by:
        section["split"]["by"] = draw(st.sampled_from(by[method]))
    if draw(st.integers(0, 4)) == 0:
        shares = draw(st.sampled_from([(0.98, 0.01, 0.01), (1e-9, 0.5, 0.5 - 1e-9), (0.4, 0.3, 0.3)]))
        section["split"] |= dict(zip(("train", "validation", "test"), shares, strict=True))
    if draw(st.integers(0, 4)) == 0:
        section["arguments"] = draw(st.sampled_from(_ARGUMENTS))
        section["duplicates"] = "error"
    return section


_ARGUMENTS: tuple[Mapping[str, Any], ...] = (
    {"drop": ["site"]}, {"columns": ["size"]}, {"columns": ["size", "size"]}, {"delimiter": ";"}, {"delimiter": "\n"},
    {"delimiter": "é"}, {"delimiter": '"'}, {"delimiter": "\t"}, {"drop": ["size", "y"]}, {"columns": []},
    {"columns": ["y"]},
)  # fmt: skip
