"""A run whose trainings read their own data: the driver has no rows, so it seals and tests nothing."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.own_rows import OwnRows, register_own_rows
from tune_jobs import Job, Run, open_run, resume, run
from tune_jobs.cli.main import main
from tune_jobs.cli.tables import plan_lines
from tune_jobs.driver.preparation import prepare, recorded_versions, run_started
from tune_jobs.driver.repair import repair
from tune_jobs.driver.train_alone import train_one
from tune_jobs.errors import RunFolderError
from tune_jobs.record.codes import Ending
from tune_jobs.record.folder import RunFolder
from tune_jobs.report.writing import write_report
from tune_jobs.trainers import kinds
from tune_jobs.trainers.errors import TrainerError

SECTIONS: dict[str, Any] = {
    "name": "line",
    "own_rows": {"epochs": 9},
    "search": {"space": {"rate": {"low": 0.001, "high": 0.5, "log": True}}, "trials": 3},
    "selection": {"metric": "error"},
}


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kinds, "ENTRIES", dict(kinds.ENTRIES))  # undone for other tests
        register_own_rows()
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    from tune_jobs.tuning.ray_session import ray_connection

    folder = tmp_path_factory.mktemp("own_rows")
    with ray_connection():
        done = run(Job.from_mapping({**SECTIONS, "storage": str(folder / "runs")}, folder))
        return resume(done.path, [("search.trials", 4)])


def test_the_plan_says_who_reads_the_data() -> None:
    job = Job.from_mapping(SECTIONS)
    lines = plan_lines(job, prepare(job))
    assert lines[1].startswith(
        "data       a line through points of its own: the trainings read their own data; "
    )
    assert prepare(job) is None


def test_the_journal_says_where_the_kind_is(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "line")
    folder.job.touch()
    started = run_started(Job.from_mapping(SECTIONS), None, folder)
    assert (started.kind, started.kind_class) == ("own_rows", "tests.trainers.own_rows:OwnRows")


def test_a_kind_that_contradicts_itself_is_refused_with_what_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OwnRows, "capabilities", replace(OwnRows.capabilities, seals_test=True))
    with pytest.raises(
        TrainerError, match=r"returned no rows, and capabilities\.seals_test is True; mend one"
    ):
        prepare(Job.from_mapping(SECTIONS))


def test_versions_are_recorded_of_no_framework_that_the_kind_does_not_name() -> None:
    job = Job.from_mapping(SECTIONS)
    assert list(recorded_versions(job)) == ["python", "tune-jobs", "ray", "optuna", "numpy"]


def test_one_configuration_is_trained_alone() -> None:
    assert [result.epoch for result in train_one(Job.from_mapping(SECTIONS), {"rate": 0.05})] == list(
        range(1, 10)
    )


@pytest.mark.slow
def test_it_is_run_and_extended_to_a_winner(finished: Run) -> None:
    assert finished.ending is Ending.ALL_TRIALS
    assert len(finished.trials) == 4
    weight, bias = finished.load_model()
    assert isinstance(weight, float)
    assert isinstance(bias, float)
    started = finished.record.started
    assert started is not None
    code = {"modules/tests/trainers/own_rows.py", "modules/tests/trainers/slope.py"}
    assert started.fingerprints.keys() == {"space", "job", "job.yaml", *code}
    assert started.rows == {}
    folder = RunFolder(finished.path)
    assert not folder.data_info.exists()
    assert not any(folder.holdout.iterdir())


@pytest.mark.slow
def test_it_has_neither_test_rows_nor_an_encoding(
    finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RunFolderError, match="no encoding of rows"):
        _ = finished.info
    assert main(["test", str(finished.path)]) == 2
    assert "the run has no test rows, because its trainings read their own data" in capsys.readouterr().err
    assert not any(RunFolder(finished.path).holdout.iterdir())


@pytest.mark.slow
def test_show_list_report_and_repair_say_so(
    finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", str(finished.path)]) == 0
    assert "holdout: none, because the trainings read their own data" in capsys.readouterr().out
    assert main(["list", str(finished.path.parent)]) == 0
    assert capsys.readouterr().out.split()[-1] == "none"
    page = write_report(finished.path, tmp_path / "report.html").read_text("utf-8")
    assert "the trainings read their own data; there are no sealed test rows" in page
    assert "Sealed." not in page
    repair(finished.path)
    assert open_run(finished.path).winner == finished.winner
