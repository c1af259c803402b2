"""Trackers of the user: found by their names, with all events, and guests like the others."""

import logging
import textwrap
from pathlib import Path

import pytest

from tests.tune_jobs.tracking.conftest import make_folder, make_job, run_events, track
from tune_jobs import Job
from tune_jobs.errors import JobError
from tune_jobs.job.user_code import importable_from
from tune_jobs.record.journal import read_journal
from tune_jobs.tracking.base import TrackedRun
from tune_jobs.tracking.opening import open_trackers

ROOT = Path(__file__).resolve().parents[3]
CODE = """
from pathlib import Path

class Notes:
    def __init__(self, run):
        self.file = (run.path / "notes.txt").open("w")
        self.file.write(f"{run.job.name} {len(run.events)}\\n")
    def __call__(self, event):
        self.file.write(f"{event.type}\\n")
    def close(self):
        self.file.write("closed\\n")
        self.file.close()

def notes(run):
    return Notes(run)

def broken(run):
    raise RuntimeError("no server there")

not_callable = 3
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "my_trackers.py").write_text(textwrap.dedent(CODE))
    return tmp_path


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def follow(home: Path, *names: str) -> Path:
    folder = make_folder(home / "runs")
    with importable_from(home):
        track(folder, run_events(), open_trackers(TrackedRun(make_job(trackers=list(names)), folder.path)))
    assert len(read_journal(folder.journal)) == len(run_events())
    return folder.path


@pytest.mark.parametrize("name", ["my_trackers:notes", "my_trackers:Notes"])
def test_a_function_or_a_class_is_called_with_the_run_receives_every_event_and_is_closed(
    name: str, home: Path
) -> None:
    lines = (follow(home, name) / "notes.txt").read_text().splitlines()
    assert lines == ["demo 0", *(event.type for event in run_events()), "closed"]


def test_a_tracker_that_cannot_be_made_is_one_warning_and_the_others_work(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = follow(home, "my_trackers:broken", "my_trackers:notes")
    assert (path / "notes.txt").read_text().endswith("closed\n")
    assert messages(caplog) == [
        "tracker my_trackers:broken is switched off: RuntimeError: no server there; the run's own records are "
        "complete"
    ]


def test_a_name_that_does_not_exist_is_a_problem_of_the_job(home: Path) -> None:
    job = make_job(trackers=["my_trackers:notes", "my_trackers:note", "nowhere:f"])
    (home / "job.yaml").write_text(job.to_yaml())
    with pytest.raises(JobError) as caught:
        Job.from_file(home / "job.yaml")
    assert [str(problem) for problem in caught.value.problems] == [
        "tracking.trackers: my_trackers:note: module 'my_trackers' has no 'note'; did you mean 'notes'?",
        "tracking.trackers: nowhere:f: there is no module 'nowhere' in the job's folder or among the installed "
        "packages",
    ]


def test_the_documentation_shows_the_example_as_it_is() -> None:
    code = (ROOT / "examples" / "own_tracker.py").read_text().partition('"""\n')[2].strip()
    assert f"```python\n{code}\n```" in (ROOT / "docs" / "dashboards.md").read_text()
