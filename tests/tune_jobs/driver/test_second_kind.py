"""A whole run whose trainings need no torch: run, test and report, as with the built-in kind."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tune_jobs.runs import copy_run
from tune_jobs import Job, Run, open_run, run
from tune_jobs.driver.preparation import prepare
from tune_jobs.driver.train_alone import train_one
from tune_jobs.errors import HoldoutOpened
from tune_jobs.record.codes import Ending
from tune_jobs.report.writing import write_report

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("slope_kind", "ray_running")]

JOB: Mapping[str, Any] = {
    "name": "line",
    "slope": {"epochs": 9},
    "search": {"space": {"rate": {"low": 0.001, "high": 0.5, "log": True}}, "trials": 9},
    "selection": {"metric": "error"},
    "resources": {"max_concurrent": 1},
}
CURVE = ["trial_id", "epoch", "training_error", "error"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("finished")
    return run(Job.from_mapping({**JOB, "storage": str(folder / "runs")}, folder))


def test_its_trials_are_tuned_to_the_end_with_rungs_and_checkpoints(finished: Run) -> None:
    assert finished.ending is Ending.ALL_TRIALS
    assert list(finished.epochs.columns) == [*CURVE, "seconds"]
    assert finished.epochs.groupby("trial_id")["epoch"].max().value_counts()[9] >= 1
    assert finished.winner.checkpoint.is_file()
    assert finished.winner.score == finished.epochs["error"].min()


def test_each_curve_is_that_of_the_training_alone(finished: Run) -> None:
    for trial_id, rows in finished.epochs.groupby("trial_id"):
        configuration = finished.record.trials[str(trial_id)].configuration
        alone = [result.metrics["error"] for result in train_one(finished.job, configuration)]
        assert rows.sort_values("epoch")["error"].tolist() == alone[: len(rows)]


def test_the_winner_is_measured_once_on_the_sealed_rows(finished: Run, tmp_path: Path) -> None:
    copy = tmp_path / finished.path.name
    copy_run(finished.path, copy)
    opened = open_run(copy)
    test = prepare(finished.job).test
    weight, bias = opened.load_model()
    error = float(np.mean((weight * test.x[:, 0] + bias - test.y[:, 0]) ** 2))
    assert opened.test() == {"test_error": pytest.approx(error)}
    with pytest.raises(HoldoutOpened):
        opened.test()


def test_the_report_names_what_was_trained(finished: Run, tmp_path: Path) -> None:
    page = write_report(finished.path, tmp_path / "report.html").read_text("utf-8")
    assert "9 configurations of a line through points" in page
    assert "the lowest error" in page
