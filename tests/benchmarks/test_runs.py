from pathlib import Path

import pytest

from benchmarks.memory import process_tree
from benchmarks.runs import journal_so_far, private_folder, started, tune_jobs_command


def test_a_process_that_fails_is_reported_with_the_end_of_its_output(tmp_path: Path) -> None:
    with (
        pytest.raises(SystemExit, match=r"ended with 3:\nwhy"),
        started(["-c", "print('why'); exit(3)"], tmp_path),
    ):
        pass


def test_a_process_is_ended_if_the_measurement_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), started(["-c", "import time; time.sleep(600)"], tmp_path) as process:
        raise RuntimeError

    assert process_tree(process.pid) == []


def test_temporary_files_go_to_the_private_folder_which_is_gone_afterwards() -> None:
    code = "import tempfile; tempfile.mkdtemp(prefix='left')"
    with private_folder() as folder:
        with started(["-c", code], folder):
            pass
        assert list(folder.glob("left*"))

    assert not folder.exists()


def test_a_run_that_has_not_begun_has_no_events(tmp_path: Path) -> None:
    assert journal_so_far(tmp_path / "runs") == []
    (tmp_path / "runs" / "begun").mkdir(parents=True)
    assert journal_so_far(tmp_path / "runs") == []


def test_overrides_follow_the_job_and_its_storage() -> None:
    assert tune_jobs_command(Path("job.yaml"), Path("runs"), ["--search.trials", "2"]) == [
        *("-m", "tune_jobs", "run", "job.yaml", "--storage", "runs"),
        *("--search.trials", "2"),
    ]
