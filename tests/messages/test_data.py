"""What is said of data that cannot be used, and of data that can and are odd."""

import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.messages.conftest import Say
from tests.messages.jobs import write_job, write_table
from tests.messages.snapshots import check

NUMBERS = [f"{n},{n * n % 11},{n}.5" for n in range(40)]
"""Columns a, b and y."""

TABLES = {
    "no rows": ([], ""),
    "a column that is given twice": (None, "--data.source twice.csv"),
    "an unknown target": (NUMBERS, "--data.target z"),
    "a target that is close": (NUMBERS, "--data.target yy"),
    "a target that is named twice": (NUMBERS, "--data.target [y,y]"),
    "no features": (NUMBERS, "--data.arguments.drop [a,b]"),
    "unknown arguments": (NUMBERS, "--data.arguments.dropp [a]"),
    "a delimiter that is none": (NUMBERS, "--data.arguments.delimiter ab"),
    "columns that are no list": (NUMBERS, "--data.arguments.columns a"),
    "the target as a feature": (NUMBERS, "--data.arguments.columns [a,y]"),
    "an unknown column to divide by": (NUMBERS, "--data.split.method group --data.split.by z"),
    "the target to divide by": (NUMBERS, "--data.split.method group --data.split.by y"),
    "a ragged row": ([*NUMBERS, "1,2"], ""),
    "nulls and infinities": ([*NUMBERS, ",inf,1", "2,,2"], ""),
    "nulls in a text": ([*(f"{n},{'xyz'[n % 3]},{n}.5" for n in range(40)), "2,,2"], ""),
    "nulls in the target": ([*NUMBERS, "1,2,"], ""),
    "infinities in the target": ([*NUMBERS, "1,2,inf"], ""),
    "a target that is too large": ([*NUMBERS, "1,2,1e300"], ""),
    "features that are too large": ([*NUMBERS, *(f"1e39,{n},1" for n in range(9))], "--data.standardize false"),
    "features that cannot be averaged": ([*NUMBERS, *(f"1.7e308,{n},1" for n in range(9))], ""),
    "a constant target": ([f"{n},{n},1" for n in range(20)], ""),
    "a target of text": ([f"{n},{n},{'uvw'[n % 3]}" for n in range(20)], ""),
    "targets of text and numbers": ([f"{n},{'uvw'[n % 3]},{n}" for n in range(20)], "--data.target [b,y]"),
    "classes with fractions": (NUMBERS, "--training.loss cross_entropy --training.metrics []"),
    "two columns of classes": (NUMBERS, "--training.loss cross_entropy --training.metrics [] --data.target [b,y]"),
    "three classes of two": (
        [f"{n},{n},{n % 3}" for n in range(30)],
        "--training.loss binary_cross_entropy --training.metrics []",
    ),
    "a class that only other rows have": (
        [f"{n},{n},{n % 2 if n < 39 else 7}" for n in range(40)],
        "--training.loss cross_entropy --training.metrics [] --data.split.method time --data.split.by a",
    ),
    "a column of dates": ([f"{n},2026-01-{n + 1:02d},{n}" for n in range(20)], ""),
    "an empty column": ([f"{n},,{n}" for n in range(20)], ""),
    "a feature without numbers in training rows": (
        [f"{n},{'' if n < 18 else n},{n}" for n in range(20)],
        "--data.missing mean --data.split.method time --data.split.by a",
    ),
    "a target of dates": ([f"{n},{n},2026-01-{n + 1:02d}" for n in range(20)], ""),
    "stratified with fractions": (NUMBERS, "--data.split.method stratified"),
    "stratified with rare classes": (
        [f"{n},{n},{n % 2 if n < 39 else 7}" for n in range(40)],
        "--training.loss cross_entropy --training.metrics [] --data.split.method stratified",
    ),
    "stratified with two targets": (NUMBERS, "--data.split.method stratified --data.target [b,y]"),
    "two groups": ([f"{n % 2},{n},{n}" for n in range(20)], "--data.split.method group --data.split.by a"),
    "two times": ([f"{n % 2},{n},{n}" for n in range(20)], "--data.split.method time --data.split.by a"),
    "times of text": (
        [f"{n},{'uvw'[n % 3]},{n}" for n in range(20)], "--data.split.method time --data.split.by b",
    ),
    "other words in the column": (
        [f"{n},{('train', 'test', 'valid')[n % 3]},{n}" for n in range(20)],
        "--data.split.method column --data.split.by b",
    ),
    "a column of numbers": (NUMBERS, "--data.split.method column --data.split.by b"),
    "nulls in the column": (
        [*NUMBERS, ",1,2"], "--data.split.method group --data.split.by a",
    ),
    "a part that is empty": (["1,2,3", "4,5,6", "7,8,9"], ""),
    "duplicates that are refused": ([*NUMBERS, *NUMBERS], "--data.duplicates error"),
    "duplicates that are reported": ([*NUMBERS, *NUMBERS], ""),
    "groups of other sizes than asked for": (
        [f"{n // 9},{n},{n}" for n in range(36)], "--data.split.method group --data.split.by a",
    ),
    "texts that training rows lack": (
        [f"{n},{'u' if n < 12 else 'v' if n < 16 else 'w'},{n}" for n in range(20)],
        "--data.split.method time --data.split.by a",
    ),
    "too many texts": ([f"{n},text{n},{n}" for n in range(2000)], ""),
}  # fmt: skip

GROUPS = "--data.target null --data.split.method group --data.split.by"

OWN = """
    import numpy as np
    import pyarrow as pa

    X, Y = np.arange(40.0).reshape(20, 2), np.arange(20.0)

    def fails(): raise RuntimeError("no rows today")
    def words(): return "words"
    def mapping(): return {"a": X}
    def lengths(): return X, Y[:5]
    def empty(): return X[:0], Y[:0]
    def cubic(): return X, np.ones((20, 2, 2))
    def dates(): return X, np.arange(20).astype("datetime64[D]")
    def no_features(): return X[:, :0], Y
    def texts(): return [["a", "b"]] * 20, Y
    def text_features(): return ["a"] * 20, Y
    def ragged(): return [[1], [2, 3]], Y
    def one(): return 3.0, Y
    def divided(): return {"x": X, "y": Y, "g": np.ones((20, 2))}
    def named(): return {"x": X, "y": Y, "group": Y}
    def images(): return np.full((20, 3, 2, 2), np.nan), Y
    def listed(): return pa.table({"a": [[1]] * 20, "b": [{"c": 1}] * 20}), Y
    def classes(n=1): return X, np.arange(20) % 4
    def loss(outputs, targets): return (outputs ** 2).mean()
"""


def test_tables_that_cannot_be_used(place: Path, say: Say) -> None:
    write_job(place)
    write_table(place / "twice.csv", "a,a,y", NUMBERS)
    said = {}
    for name, (rows, overrides) in TABLES.items():
        write_table(place / "rows.csv", "a,b,y", rows or [])
        said[name] = say(f"validate job.yaml {overrides}")
    check("data_tables", said, {place: "FOLDER"})


def test_files_that_cannot_be_read(place: Path, say: Say) -> None:
    write_job(place)
    (place / "words.parquet").write_text("words")
    (place / "words.npz").write_text("words")
    (place / "words.arrow").write_text("words")
    (place / "closed.csv").mkdir()
    table = pa.table({"a": [1.0] * 5, "y": [[1]] * 5, "g": [[1]] * 5})
    pq.write_table(table, place / "lists.parquet")
    np.savez(place / "arrays.npz", x=np.ones((9, 2)), y=np.ones(9))
    np.savez(place / "texts.npz", x=np.array(["a"] * 9), y=np.ones(9))
    said = {
        name: say(f"validate job.yaml --data.source {overrides}")
        for name, overrides in {
            "no parquet": "words.parquet",
            "no arrays": "words.npz --data.target null",
            "no arrow": "words.arrow",
            "a folder": "closed.csv",
            "a target of lists": "lists.parquet",
            "lists to divide by": "lists.parquet --data.target a --data.split.method group --data.split.by g",
            "features as a target": "arrays.npz --data.target x",
            "an array that is missing": "arrays.npz --data.target z",
            "arguments of arrays": "arrays.npz --data.target null --data.arguments.drop [x]",
            "features of text": "texts.npz --data.target null",
            "several targets of a wrong form": "arrays.npz --data.target [y,z]",
        }.items()
    }
    check("data_files", said, {place: "FOLDER"})


@pytest.mark.slow
def test_functions_and_built_in_sources(place: Path, say: Say) -> None:
    write_job(place)
    (place / "messages_own.py").write_text(textwrap.dedent(OWN))
    (place / "messages_bad.py").write_text("import nothing_of_this_name\n\ndef load(): ...\n")
    functions = {
        name: f"messages_own:{name} --data.target null"
        for name in (
            "fails", "words", "mapping", "lengths", "empty", "cubic", "dates", "no_features", "texts",
            "text_features", "ragged", "one", "images", "listed",
        )
    }  # fmt: skip
    cases = functions | {
        "a target of a function": "messages_own:words",
        "arguments that do not fit": "messages_own:words --data.target null --data.arguments.n 3",
        "a column of two dimensions": f"messages_own:divided {GROUPS} g",
        "no column to divide by": f"messages_own:lengths {GROUPS} g",
        "another column to divide by": f"messages_own:named {GROUPS} grup",
        "a module that cannot be imported": "messages_bad:load --data.target null",
        "something that is no function": "messages_own:X --data.target null",
        "classes for a loss of one's own": (
            "messages_own:classes --data.target null --training.loss messages_own:loss --training.metrics []"
        ),
        "a target of a built-in source": "digits",
        "arguments of a source without any": "digits --data.target null --data.arguments.n 3",
        "arguments of a source": "linear_gaussian --data.target null --data.arguments.sigm 3",
        "a size that is none": "linear_gaussian --data.target null --data.arguments.n 0",
        "a noise that is none": "linear_gaussian --data.target null --data.arguments.sigma -1",
        "more than fits": f"linear_gaussian --data.target null --data.arguments '{{n: {10**15}, features: 1000}}'",
    }
    said = {name: say(f"validate job.yaml --data.source {overrides}") for name, overrides in cases.items()}
    check("data_functions", said, {place: "FOLDER"})
