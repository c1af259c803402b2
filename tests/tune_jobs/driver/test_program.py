"""Whole runs by a script of one's own: tuned with promotions, resumed, tested once."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.programs.programs import write_programs
from tune_jobs import Job, Run, open_run, resume, run
from tune_jobs.cli.tables import outcome_lines
from tune_jobs.driver.train_alone import train_one
from tune_jobs.errors import HoldoutOpened, RunFailed, RunFolderError
from tune_jobs.job.file import apply_overrides
from tune_jobs.record.codes import Cause, Ending
from tune_jobs.report.writing import write_report

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_running")]

JOB: Mapping[str, Any] = {
    "name": "own",
    "program": {"script": "main.py"},
    "length": {"epochs": 4},
    "search": {"space": {"rate": {"low": 0.001, "high": 0.5, "log": True}}, "trials": 9},
    "scheduler": {"method": "asha", "grace_epochs": 1, "reduction_factor": 3},
}


def job_in(folder: Path, **changes: Any) -> Job:
    write_programs(folder)
    sections = apply_overrides(JOB, [(name.replace("__", "."), value) for name, value in changes.items()])
    return Job.from_mapping({**sections, "storage": str(folder / "runs")}, folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, ray_running: None) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("own program")
    before = {"line.py", "main.py", "work.py", "runs"}
    yield run(job_in(folder))
    assert {path.name for path in folder.iterdir()} - {"__pycache__"} == before


def test_promoted_trials_have_the_curves_of_trainings_without_a_pause(finished: Run) -> None:
    assert finished.ending is Ending.ALL_TRIALS
    lengths = finished.epochs.groupby("trial_id")["epoch"].max()
    assert lengths.max() == 4
    assert lengths.min() == 1
    for trial_id, length in lengths.items():
        trial = finished.record.trials[str(trial_id)]
        alone = list(train_one(finished.job, trial.configuration))[:length]
        epochs = finished.epochs[finished.epochs["trial_id"] == trial_id]
        assert list(epochs["val_loss"]) == [result.metrics["val_loss"] for result in alone]
        assert list(epochs["best"]) == [result.metrics["best"] for result in alone]


def test_the_winner_is_tested_by_its_own_code_once(finished: Run) -> None:
    selection = json.loads((finished.path / "selection.json").read_text())
    assert selection["seal"] == "stage"
    results = finished.test()
    assert list(results) == ["test_loss"]
    with pytest.raises(HoldoutOpened):
        finished.test()
    assert [opening.results for opening in finished.openings] == [results]
    state = finished.load_model()
    assert set(state["objects"]["line"]) == {"weight", "bias"}
    write_report(finished.path)


def test_code_that_has_changed_is_refused(finished: Run) -> None:
    for name in ("main.py", "line.py"):
        file = finished.job.folder / name
        before = file.read_text()
        file.write_text(f"{before}\n# changed")
        for use in (
            lambda: finished.test(again=True, reason="to see"),
            lambda: resume(finished.path, [("search.trials", 10)]),
        ):
            with pytest.raises(RunFolderError, match=f"{name} was changed"):
                use()
        file.write_text(before)


def test_a_winner_without_a_state_is_shown_and_not_tested(tmp_path: Path) -> None:
    job = job_in(tmp_path, search__trials=2)
    (tmp_path / "main.py").write_text(
        "from tune_jobs import trial\nrate = trial.get('rate')\nfor e in trial.epochs(4): trial.report(val_loss=rate)"
    )
    made = run(job)
    assert made.winner.checkpoint is None
    assert any("winner: trial" in line for line in outcome_lines(made))
    with pytest.raises(RunFolderError, match="because its training saved no state"):
        made.test()
    assert made.openings == []


def test_an_infeasible_point_is_no_failure_of_the_code(tmp_path: Path) -> None:
    job = job_in(tmp_path, search__trials=2)
    (tmp_path / "main.py").write_text(
        "from tune_jobs import trial\ntrial.reject('a rate of ' + str(trial.get('rate')))"
    )
    with pytest.raises(RunFailed) as caught:
        run(job)
    trials = open_run(caught.value.path).record.trials.values()
    assert {trial.cause for trial in trials} == {Cause.REJECTED}
    assert all("rejected by the program: a rate of 0." in trial.reason for trial in trials)
