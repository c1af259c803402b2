"""The files that are sent to a cluster, and the errors before anything is sent."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.slope import Slope, register_slope
from tests.tune_jobs.conftest import changed
from tune_jobs import Job
from tune_jobs.errors import JobError
from tune_jobs.job.file import dump_yaml
from tune_jobs.submission import package
from tune_jobs.submission.package import JOB_FILE, job_to_submit, make_package
from tune_jobs.trainers import kinds

ROWS = "x,y\n" + "".join(f"{i},{2 * i}\n" for i in range(40))
SHARED = ("storage", "/shared/runs")

Sent = Callable[..., Path]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / "job"
    folder.mkdir(parents=True)
    (folder / "rows.csv").write_text(ROWS)
    (folder.parent / "above.csv").write_text(ROWS)
    (folder / "nets.py").write_text("import layers\n\ndef make(input_shape, outputs): ...\n")
    (folder / "layers.py").write_text("")
    (folder / "unused.py").write_text("")
    (folder / ".env").write_text("WANDB_API_KEY=1")
    (folder / "extra").mkdir()
    (folder / "extra" / "table.txt").write_text("1")
    (folder / "extra" / ".key").write_text("1")
    return folder


@pytest.fixture
def sent(home: Path, tmp_path: Path) -> Sent:
    """Return the folder that is sent with a job."""

    def send(changes: Mapping[str, Any], *overrides: tuple[str, Any], include: Sequence[str] = ()) -> Path:
        (home / "a job.yaml").write_text(dump_yaml(changed(changes)))
        folder = tmp_path / "sent"
        folder.mkdir()
        make_package(job_to_submit(home / "a job.yaml", [SHARED, *overrides]), folder, include)
        return folder

    return send


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


FILE = {"data": {"source": "rows.csv", "target": "y"}, "model": {"name": "nets:make"}}


def test_the_job_its_data_and_its_modules_are_sent_and_nothing_else(sent: Sent) -> None:
    folder = sent(FILE, ("search.trials", 3))
    assert files(folder) == {JOB_FILE, "rows.csv", "nets.py", "layers.py"}
    job = Job.from_file(folder / JOB_FILE)
    assert (job.trials, job.kind.data.source, job.storage) == (3, "rows.csv", "/shared/runs")
    assert (folder / "rows.csv").read_text() == ROWS


def test_data_from_outside_of_the_folder_are_found_at_their_new_place(sent: Sent) -> None:
    folder = sent({**FILE, "data": {"source": "../above.csv", "target": "y"}})
    job = Job.from_file(folder / JOB_FILE)
    assert (folder / job.kind.data.source).read_text() == ROWS
    assert files(folder) == {JOB_FILE, "data/above.csv", "nets.py", "layers.py"}


def test_included_files_are_sent_but_no_hidden_file(sent: Sent) -> None:
    assert files(sent({}, include=["extra", "unused.py"])) == {JOB_FILE, "extra/table.txt", "unused.py"}


@pytest.mark.parametrize("name", ["none.txt", "..", "../above.csv", "."])
def test_only_files_beside_the_job_can_be_included(sent: Sent, name: str) -> None:
    with pytest.raises(JobError, match="valid: a file or folder in"):
        sent({}, include=[name])


def test_an_absolute_path_is_one_of_the_cluster(sent: Sent, home: Path) -> None:
    here, there = str(home / "rows.csv"), "/nowhere/rows.csv"
    for source, data_here in ((here, True), (there, False)):
        (home / "job.yaml").write_text(dump_yaml(changed({"data": {"source": source, "target": "y"}})))
        submitted = job_to_submit(home / "job.yaml", [SHARED])
        assert (submitted.data_here, submitted.data_files) == (data_here, {})
    assert files(sent({"data": {"source": there, "target": "y"}})) == {JOB_FILE}


@pytest.mark.parametrize("storage", ["runs", "./runs", "~/runs"])
def test_a_storage_that_only_this_machine_knows_is_refused(home: Path, storage: str) -> None:
    (home / "job.yaml").write_text(dump_yaml(changed()))
    with pytest.raises(JobError, match=r"`--storage /shared/runs` or `--storage s3://bucket/runs`"):
        job_to_submit(home / "job.yaml", [("storage", storage)])


def test_all_problems_are_listed_at_once(home: Path) -> None:
    (home / "job.yaml").write_text(dump_yaml(changed({"model/name": "absent:make"})))
    with pytest.raises(JobError) as error:
        job_to_submit(home / "job.yaml", [])
    assert {problem.path for problem in error.value.problems} == {"model.name", "storage"}


def test_data_that_are_too_large_are_refused_before_they_are_copied(
    sent: Sent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(package, "MOST_BYTES", 100)
    with pytest.raises(
        JobError, match=r"rows\.csv on storage that the cluster shares.*`--data\.source /shared/rows\.csv`"
    ):
        sent(FILE)
    assert "rows.csv" not in files(tmp_path / "sent")


def test_a_table_that_no_key_names_is_not_taken_for_the_data(
    sent: Sent, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setattr(package, "MOST_BYTES", 5000)
    (home / "extra" / "other.csv").write_text("1" * 6000)
    with pytest.raises(JobError, match=r"other\.csv +0 MB would be sent.*send less"):
        sent(FILE, include=["extra"])


@pytest.mark.slow
def test_the_key_of_a_large_file_is_that_of_the_kind(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinds, "ENTRIES", dict(kinds.ENTRIES))
    register_slope()
    plain = Slope.facts
    facts = staticmethod(lambda sections: replace(plain(sections), files={"slope.points": "rows.csv"}))
    monkeypatch.setattr(Slope, "facts", facts)
    monkeypatch.setattr(package, "MOST_BYTES", 100)
    sections = {"name": "line", "slope": {}, "search": {"space": {"rate": 0.1}}}
    (home / "job.yaml").write_text(dump_yaml(sections))
    (tmp_path / "sent").mkdir()
    with pytest.raises(JobError, match=r"`--slope\.points /shared/rows\.csv`"):
        make_package(job_to_submit(home / "job.yaml", [SHARED]), tmp_path / "sent")


def test_other_files_that_are_too_large_are_named(
    sent: Sent, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setattr(package, "MOST_BYTES", 5000)
    (home / "extra" / "table.txt").write_text("1" * 6000)
    with pytest.raises(JobError, match=r"table\.txt +0 MB would be sent.*send less"):
        sent({}, include=["extra"])
