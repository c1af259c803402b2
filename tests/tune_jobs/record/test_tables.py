"""The tables of a run: the documented columns with reliable types."""

import math
import resource
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_jobs.record.codes import Status
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.run_record import RunRecord
from tune_jobs.record.tables import epochs_table, trials_table, write_tables
from tune_jobs.trainers.settings import ScoreSettings

MakeRecord = Callable[..., RunRecord]
MakeRun = Callable[..., RunFolder]

TRIAL_COLUMNS = {
    "trial_id": pa.string(),
    "number": pa.int64(),
    "status": pa.string(),
    "reason": pa.string(),
    "score": pa.float64(),
    "best_epoch": pa.int64(),
    "epochs": pa.int64(),
    "seconds": pa.float64(),
    "node": pa.string(),
}


def config(make_record: MakeRecord, *values: Any) -> pa.ChunkedArray:
    """Return the column of a parameter with one value per trial. `...` means that it was not active."""
    configurations = [{} if value is ... else {"p": value} for value in values]
    record = make_record([{"configuration": configuration} for configuration in configurations])
    return trials_table(record)["config.p"]


def test_a_trial_is_a_row_with_the_promised_columns(make_record: MakeRecord) -> None:
    table = trials_table(
        make_record(
            [
                {"losses": [0.5, 0.25, 0.75], "configuration": {"lr": 0.1, "batch_size": 8}},
                {
                    "losses": [math.nan],
                    "status": Status.FAILED,
                    "reason": "Diverged",
                    "configuration": {"lr": 10.0, "momentum": 0.5},
                },
                {"status": Status.PENDING, "configuration": {"lr": 0.2, "batch_size": 16}},
            ]
        )
    )
    assert dict(zip(table.schema.names, table.schema.types, strict=True)) == {
        **TRIAL_COLUMNS,
        "config.lr": pa.float64(),
        "config.batch_size": pa.int64(),
        "config.momentum": pa.float64(),
    }
    assert table.to_pylist()[0] == {
        "trial_id": "0000",
        "number": 0,
        "status": "completed",
        "reason": "its course is run",
        "score": 0.25,
        "best_epoch": 2,
        "epochs": 3,
        "seconds": 1.5,
        "node": "node-1",
        "config.lr": 0.1,
        "config.batch_size": 8,
        "config.momentum": None,
    }
    assert table["score"].to_pylist() == [0.25, None, None]
    assert table["best_epoch"].to_pylist() == [2, None, None]
    assert table["status"].to_pylist() == ["completed", "failed", "pending"]
    assert table["config.batch_size"].to_pylist() == [8, None, 16]
    assert table["config.momentum"].to_pylist() == [None, 0.5, None]


@pytest.mark.parametrize(
    ("values", "type_", "column"),
    [
        ([64, "full"], pa.string(), ["64", "full"]),
        ([[32], [64, 64]], pa.string(), ["[32]", "[64, 64]"]),
        ([1, 0.5, ...], pa.float64(), [1.0, 0.5, None]),
        ([2**60 + 1, 0.5], pa.float64(), [2.0**60, 0.5]),
        ([True, False], pa.bool_(), [True, False]),
        ([True, 1, 1.0], pa.string(), ["true", "1", "1.0"]),
        (["sgd", ..., "adam"], pa.string(), ["sgd", None, "adam"]),
        ([{"a": 1}, ...], pa.string(), ['{"a": 1}', None]),
        ([None, 3], pa.int64(), [None, 3]),
        ([None, None], pa.null(), [None, None]),
        ([10**30, 8], pa.string(), [str(10**30), "8"]),
        ([10**400, 0.5], pa.string(), [str(10**400), "0.5"]),
    ],
)
def test_a_parameter_has_one_type_over_all_trials(
    make_record: MakeRecord, values: list[Any], type_: pa.DataType, column: list[Any]
) -> None:
    made = config(make_record, *values)
    assert made.type == type_
    assert made.to_pylist() == column


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@settings(max_examples=100, deadline=None)
@given(st.lists(SCALARS | st.lists(SCALARS, max_size=2), min_size=1, max_size=4))
def test_any_values_make_a_column_that_parquet_holds(
    make_record: MakeRecord, tmp_path_factory: pytest.TempPathFactory, values: list[Any]
) -> None:
    column = config(make_record, *values)
    assert len(column) == len(values)
    assert column.null_count == values.count(None)
    path = tmp_path_factory.getbasetemp() / "column.parquet"
    pq.write_table(pa.table({"p": column}), path)
    assert repr(pq.read_table(path)["p"].to_pylist()) == repr(column.to_pylist())


def test_an_epoch_is_a_row_in_the_order_of_epochs(make_record: MakeRecord) -> None:
    table = epochs_table(
        make_record(
            [
                {"losses": [0.5, math.nan], "metrics": {"mae": [0.7, math.inf], "r2": [-1.0, 0.5]}},
                {"status": Status.PENDING},
                {"losses": [0.25], "metrics": {"mae": [0.1], "r2": [0.9]}},
            ]
        )
    )
    assert dict(zip(table.schema.names, table.schema.types, strict=True)) == {
        "trial_id": pa.string(),
        "epoch": pa.int64(),
        "train_loss": pa.float64(),
        "val_loss": pa.float64(),
        "mae": pa.float64(),
        "r2": pa.float64(),
        "lr": pa.float64(),
        "seconds": pa.float64(),
    }
    assert table["trial_id"].to_pylist() == ["0000", "0000", "0002"]
    assert table["epoch"].to_pylist() == [1, 2, 1]
    assert repr(table["val_loss"].to_pylist()) == "[0.5, nan, 0.25]"
    assert table["mae"].to_pylist() == [0.7, math.inf, 0.1]
    assert table["val_loss"].null_count == 0


def test_a_run_without_trials_has_empty_tables_with_the_same_columns(make_record: MakeRecord) -> None:
    table = trials_table(make_record([]))
    assert table.num_rows == 0
    assert dict(zip(table.schema.names, table.schema.types, strict=True)) == TRIAL_COLUMNS
    assert epochs_table(make_record([])).schema.names == ["trial_id", "epoch"]


def test_the_tables_are_parquet_files_in_the_run_folder(make_run: MakeRun) -> None:
    folder = make_run(
        [{"losses": [0.5], "configuration": {"lr": 0.2, "batch_size": 8}}, {"losses": [0.25, 0.125]}]
    )
    assert pq.read_table(folder.trials)["score"].to_pylist() == [0.5, 0.125]
    assert pq.read_table(folder.epochs)["val_loss"].to_pylist() == [0.5, 0.25, 0.125]


def test_new_tables_replace_the_old_ones(folder: RunFolder, make_record: MakeRecord) -> None:
    write_tables(make_record([{"losses": [0.5]}]), folder)
    write_tables(make_record([{"losses": [0.5]}, {"losses": [0.25]}]), folder)
    assert pq.read_table(folder.trials).num_rows == 2
    write_tables(RunRecord(ScoreSettings(metric="val_loss")), folder)
    assert pq.read_table(folder.trials).num_rows == 0


def test_a_flipped_bit_in_a_table_is_noticed_if_checksums_are_verified(
    folder: RunFolder, make_record: MakeRecord
) -> None:
    losses = [1 / number for number in range(1, 200)]
    write_tables(make_record([{"losses": losses}]), folder)
    content = folder.epochs.read_bytes()
    sound = pq.read_table(folder.epochs, page_checksum_verification=True)
    assert sound["val_loss"].to_pylist() == losses
    noticed = 0
    for place in range(4, len(content) // 2, 97):
        damaged = bytearray(content)
        damaged[place] ^= 1
        folder.epochs.write_bytes(damaged)
        try:
            found = pq.read_table(folder.epochs, page_checksum_verification=True)
        except OSError:
            noticed += 1
        else:
            assert found.equals(sound)
    assert noticed > 10


def test_a_table_that_cannot_be_written_leaves_the_old_one(
    folder: RunFolder, make_record: MakeRecord
) -> None:
    """Limit the size of files: this ends a write like a full disk."""
    write_tables(make_record([{"losses": [0.5]}]), folder)
    before = folder.trials.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write_tables(make_record([{"losses": [0.25]}]), folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.filename == str(folder.trials)
    assert folder.trials.read_bytes() == before
    assert not list(folder.path.glob(".*.tmp"))
