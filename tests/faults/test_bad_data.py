"""Data files that are damaged, do not fit the job or are useless, through the real command line.

A call either succeeds or says in one message what is wrong with the data and leaves no files.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.faults.command_line import assert_refused, call, files_below
from tests.faults.data_files import EXECUTED, File, as_file, data_files, data_sections, nearly_usable
from tests.faults.injection import CHAOS, Tally, examples
from tune_jobs.job.file import dump_yaml

TALLY = Tally("bad data files")

LOSSES = ("mse", "huber", "cross_entropy", "cross_entropy", "binary_cross_entropy")


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    yield
    TALLY.report()


@st.composite
def files_and_sections(draw: Any) -> tuple[File, Mapping[str, Any]]:
    suffix, content = draw(data_files)
    return (suffix, content), draw(data_sections(suffix))


@contextmanager
def job_folder(file: File, data: Mapping[str, Any], loss: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="bad"))
    suffix, content = file
    job = {
        "name": "bad-data",
        "data": dict(data),
        "model": {"name": "linear"},
        "training": {"max_epochs": 2, "loss": loss},
        "search": {"space": {"lr": {"values": [0.1, 0.01]}}, "method": "grid", "trials": 2},
        "scheduler": {"method": "none"},
        "resources": {"max_concurrent": 1},
    }
    try:
        (folder / f"rows{suffix}").write_bytes(content)
        (folder / "job.yaml").write_text(dump_yaml(job), encoding="utf-8")
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@examples(short=60, full=600)
@given(made=files_and_sections(), loss=st.sampled_from(LOSSES))
def test_bad_data_are_refused_with_one_message_before_anything_is_made(
    made: tuple[File, Mapping[str, Any]], loss: str
) -> None:
    TALLY.injected += 1
    with job_folder(*made, loss) as folder:
        before = files_below(folder)
        validated = call(folder, "validate", "job.yaml")
        if validated.code == 0:
            assert validated.errors == "", validated.description
        else:
            assert_refused(validated)
            assert validated.output == "", validated.description
            started = call(folder, "run", "job.yaml")
            assert (started.code, started.errors) == (2, validated.errors), started.description
        trained = call(folder, "train", "job.yaml")
        if trained.code != 0:
            assert_refused(trained, codes=(1, 2) if validated.code == 0 else (2,))
        assert not (folder / EXECUTED).exists(), "a pickle was loaded"
        assert files_below(folder) == before
    TALLY.outcomes["worked" if trained.code == 0 else "refused with one message"] += 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
@examples(short=2, full=40)
@given(made=nearly_usable(), loss=st.sampled_from(LOSSES))
def test_data_that_are_called_usable_are_run_on(ray_running: None, made: File, loss: str) -> None:
    data = {"source": f"rows{made[0]}", "target": None if made[0] == ".npz" else "y", "missing": "mean"}
    with job_folder(made, data, loss) as folder:
        before = files_below(folder)
        assume(call(folder, "validate", "job.yaml").code == 0)
        TALLY.injected += 1
        called = call(folder, "run", "job.yaml")
        assert called.code in (0, 1), called.description
        last = called.output.splitlines()[-1]
        assert last.startswith(f"run: {folder.resolve() / 'runs'}"), called.description
        if called.code == 1:
            assert_refused(called, codes=(1,))
        else:
            assert called.errors == "", called.description
        assert not (folder / EXECUTED).exists(), "a pickle was loaded"
        assert before < files_below(folder)
    TALLY.outcomes["ran" if called.code == 0 else "ran, and every trial failed"] += 1


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".arrow"] if CHAOS else [".csv"])
def test_ten_thousand_columns(suffix: str) -> None:
    TALLY.injected += 1
    random = np.random.default_rng(0)
    wide = pa.table({**{f"c{i}": random.normal(size=20) for i in range(10_000)}, "y": random.normal(size=20)})
    with job_folder(
        (suffix, as_file(wide, suffix)), {"source": f"rows{suffix}", "target": "y"}, "mse"
    ) as folder:
        trained = call(folder, "train", "job.yaml")
        assert (trained.code, trained.errors) == (0, ""), trained.description
        missing = call(folder, "validate", "job.yaml", "--data.target", "z")
        assert_refused(missing)
        assert len(missing.errors) < 1000, "ten thousand names are not listed"
    TALLY.outcomes["worked"] += 1
