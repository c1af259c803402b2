"""Job files, sweep files and calls with unforeseen mistakes, through the real command line.

A call either succeeds or says in one message what is wrong and leaves no files.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import assume, given

from tests.faults.command_line import assert_refused, call, files_below
from tests.faults.injection import Tally, examples
from tests.faults.strategies import (
    LONG_TRAINING,
    ROWS,
    USER_CODE,
    job_texts,
    nearly_valid_jobs,
    overrides,
    sweep_texts,
)
from tune_jobs.errors import TuneJobsError
from tune_jobs.job.file import parse_overrides
from tune_jobs.job.job import Job

TALLY = Tally("bad job files")


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    yield
    TALLY.report()


@contextmanager
def job_folder(text: bytes) -> Iterator[Path]:
    """Yield a folder with the job file `text` and files that a job may name, and check that it is unchanged."""
    folder = Path(tempfile.mkdtemp(prefix="bad"))
    try:
        (folder / "job.yaml").write_bytes(text)
        (folder / "rows.csv").write_text(ROWS)
        (folder / "user_code.py").write_text(USER_CODE)
        yield folder
    finally:
        shutil.rmtree(folder)


def short_training(folder: Path, arguments: Sequence[str]) -> bool:
    """Return whether the settings of the job are small enough for a test."""
    try:
        job = Job.from_file(folder / "job.yaml", parse_overrides(arguments))
    except TuneJobsError:
        return True
    return job.max_epochs <= LONG_TRAINING


@pytest.mark.slow
@pytest.mark.timeout(3600)
@examples(short=30, full=500)
@given(text=job_texts, arguments=overrides)
def test_a_bad_job_is_refused_with_one_message_before_anything_is_made(
    text: bytes, arguments: list[str]
) -> None:
    TALLY.injected += 1
    had_ray = ray_runs()
    with job_folder(text) as folder:
        before = files_below(folder)
        validated = call(folder, "validate", "job.yaml", *arguments)
        if validated.code == 0:
            assert validated.errors == "", validated.description
            assert validated.output.strip(), validated.description
        else:
            assert_refused(validated)
            assert validated.output == "", validated.description
            started = call(folder, "run", "job.yaml", *arguments)
            assert started.code == 2, started.description
            assert "run: " not in started.output, started.description
            if not validated.errors.startswith("usage: "):  # the line that names the command
                assert started.errors == validated.errors
        trained = None
        if short_training(folder, arguments):
            trained = call(folder, "train", "job.yaml", *arguments)
            if trained.code != 0:
                assert_refused(trained, codes=(1, 2))
        assert files_below(folder) == before
    assert ray_runs() == had_ray, "Ray was started for a wrong job"
    TALLY.outcomes["worked" if trained and trained.code == 0 else "refused with one message"] += 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
@examples(short=60, full=500)
@given(text=sweep_texts)
def test_a_bad_sweep_is_refused_with_one_message(text: bytes) -> None:
    TALLY.injected += 1
    with job_folder(text) as folder:
        before = files_below(folder)
        imported = call(folder, "import-sweep", "job.yaml")
        if imported.code == 0:
            assert imported.errors == "", imported.description
            (folder / "imported.yaml").write_text(imported.output, encoding="utf-8")
            checked = call(folder, "validate", "imported.yaml")
            assert_refused(checked)
            assert "YAML" not in checked.errors, "what import-sweep printed cannot be read"
            before.add("imported.yaml")
        else:
            assert_refused(imported)
            assert imported.output == "", imported.description
        assert files_below(folder) == before
    TALLY.outcomes["worked" if imported.code == 0 else "refused with one message"] += 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
@examples(short=2, full=60)
@given(text=nearly_valid_jobs)
def test_a_job_that_is_called_valid_runs(ray_running: None, text: bytes) -> None:
    """A job that passes `validate` runs, or its trials fail."""
    with job_folder(text) as folder:
        before = files_below(folder)
        assume(call(folder, "validate", "job.yaml", *SHORT).code == 0)
        TALLY.injected += 1
        called = call(folder, "run", "job.yaml", *SHORT)
        made = files_below(folder) - before
        if called.code == 2:  # problems that only Ray knows, such as a missing GPU
            assert_refused(called)
            assert not made, called.description
        else:
            assert called.code in (0, 1), called.description
            last = called.output.splitlines()[-1]
            assert last.startswith(f"run: {folder.resolve() / 'runs'}"), called.description
            assert (Path(last.removeprefix("run: ")) / "selection.json").is_file(), called.description
            if called.code == 1:
                assert_refused(called, codes=(1,))
            else:
                assert called.errors == "", called.description
    TALLY.outcomes[
        {0: "ran", 1: "ran, and every trial failed", 2: "refused with one message"}[called.code]
    ] += 1


SHORT = ("--search.trials", "2", "--training.max_epochs", "2", "--storage", "runs", "--limits.minutes", "0.5",
         "--resources.max_concurrent", "1")  # fmt: skip
"""Settings that keep a run short enough for a test."""


def ray_runs() -> bool:
    """Return whether this process has started Ray."""
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()
