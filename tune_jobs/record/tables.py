"""The tables of a run, made from its record: one row per trial, and one row per trial and epoch."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tune_jobs.files import replacing
from tune_jobs.record.curve import numbers
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.run_record import RunRecord

_TRIAL_COLUMNS = (
    ("trial_id", pa.string()),
    ("number", pa.int64()),
    ("status", pa.string()),
    ("reason", pa.string()),
    ("score", pa.float64()),
    ("best_epoch", pa.int64()),
    ("epochs", pa.int64()),
    ("seconds", pa.float64()),
    ("node", pa.string()),
)
_EPOCH_COLUMNS = (("trial_id", pa.string()), ("epoch", pa.int64()))


def trials_table(record: RunRecord) -> pa.Table:
    """Make one row per trial, in the order of creation; `config.<name>` is null if the parameter was not active."""
    rows = []
    for trial in record.trials.values():
        best = record.best(trial.trial_id)
        rows.append(
            {
                "trial_id": trial.trial_id,
                "number": trial.number,
                "status": str(trial.status),
                "reason": trial.reason,
                "score": best.score if best else None,
                "best_epoch": best.epoch if best else None,
                "epochs": len(trial.epochs),
                "seconds": trial.seconds,
                "node": trial.node,
                **{f"config.{name}": value for name, value in trial.configuration.items()},
            }
        )
    return _table(rows, _TRIAL_COLUMNS)


def epochs_table(record: RunRecord) -> pa.Table:
    """Make one row per trial and epoch: losses, metrics on validation rows, learning rate, seconds."""
    rows = [
        {"trial_id": trial.trial_id, **numbers(trial.epochs[epoch])}
        for trial in record.trials.values()
        for epoch in sorted(trial.epochs)
    ]
    return _table(rows, _EPOCH_COLUMNS)


def write_tables(record: RunRecord, folder: RunFolder) -> None:
    """Write both tables, each in one step and with checksums of its pages."""
    _write(trials_table(record), folder.trials)
    _write(epochs_table(record), folder.epochs)


def _write(table: pa.Table, path: Path) -> None:
    with replacing(path) as file:
        pq.write_table(table, file, write_page_checksum=True)


def _table(rows: list[dict[str, Any]], fixed: Iterable[tuple[str, pa.DataType]]) -> pa.Table:
    types = dict(fixed)
    names = list(dict.fromkeys([*types, *(name for row in rows for name in row)]))
    return pa.table({name: _column([row.get(name) for row in rows], types.get(name)) for name in names})


def _column(values: list[Any], type_: pa.DataType | None) -> "pa.Array[Any]":
    """Return an array of `values`. Values of several types, such as 64 and `full`, or of no Arrow type become text."""
    present = [value for value in values if value is not None]
    kinds = {type(value) for value in present}
    wide = any(isinstance(value, int) and not -(2**63) <= value < 2**63 for value in present)
    if type_ is None and kinds == {int, float} and not wide:
        values, type_ = [None if value is None else float(value) for value in values], pa.float64()
    if type_ is None and (len(kinds) > 1 or wide or kinds & {list, dict, tuple}):
        values = [None if v is None else v if isinstance(v, str) else json.dumps(v) for v in values]
        type_ = pa.string()
    return pa.array(values, type=type_)
