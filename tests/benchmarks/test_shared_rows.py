from pathlib import Path

import numpy as np
import pytest

from benchmarks.shared_rows import FEATURES, Usage, count_copies, training_workers, usage_table, write_rows
from tune_jobs.record.codes import Cause, Status
from tune_jobs.record.events import (
    EpochsReported,
    TrialEnded,
)


def usage(rows: int, proportional: int, shared: int, workers: int) -> Usage:
    return Usage(
        rows=rows, proportional=proportional, shared=shared, driver=5, workers=workers, highest=proportional
    )


def test_copies_are_the_difference_of_two_runs_over_that_of_their_rows() -> None:
    copies = count_copies(usage(320, 3_650, 321, 2_640), usage(20, 3_200, 21, 2_550))

    assert copies.total == pytest.approx(1.5)
    assert copies.shared == pytest.approx(1.0)
    assert copies.workers == pytest.approx(0.3)


def test_a_trial_trains_from_its_first_report_to_its_end_in_the_process_that_reported_last() -> None:
    def report(trial: str, worker: str) -> EpochsReported:
        return EpochsReported(trial_id=trial, results=[], worker=worker)

    events = [
        report("0000", "host:11"),
        report("0001", "host-2:12"),
        report("0000", "host:13"),
        TrialEnded(trial_id="0001", status=Status.COMPLETED, cause=Cause.MAX_EPOCHS, reason=""),
    ]

    assert training_workers(events) == {"0000": 13}


def test_the_table_is_in_millions_of_bytes() -> None:
    row = usage_table({"large": usage(320_000_000, 3_656_000_000, 1_400_000, 0)}).splitlines()[2]

    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "large",
        "320",
        "3656",
        "1",
        "0",
        "0",
        "3656",
    ]


def test_the_rows_that_are_written_are_single_precision(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.npz", 3)

    with np.load(tmp_path / "rows.npz") as arrays:
        assert arrays["x"].shape == (3, FEATURES)
        assert arrays["x"].dtype == arrays["y"].dtype == np.float32
