"""Every tracker in every course of a run: each epoch once, and each end unchanged."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.own_tracker import JsonLines
from tests.processes import PATIENCE
from tests.tune_jobs.tracking.conftest import make_job
from tests.tune_jobs.tracking.play_wandb import some_scenarios
from tests.tune_jobs.tracking.scenarios import (
    Scenario,
    expected_epochs,
    expected_statuses,
    folder_of,
    play,
    scenarios,
    succeeded,
)
from tests.tune_jobs.tracking.test_tensorboard import ended_well, epochs_in_tensorboard
from tests.tune_jobs.tracking.wandb_reading import read_runs
from tests.tune_jobs.tracking.wandb_session import wandb_environment
from tune_jobs.record.curve import numbers
from tune_jobs.record.folder import RunFolder
from tune_jobs.tracking import TrackedRun, Tracker
from tune_jobs.tracking.tensorboard import TensorboardTracker

ROOT = Path(__file__).resolve().parents[3]
Epochs = Mapping[str, Mapping[int, Mapping[str, float]]]
JOB = make_job(wandb={"project": "curves"}, tensorboard=True)

every_scenario = pytest.mark.parametrize(
    ("name", "scenario"), [pytest.param(*s, id=s[0]) for s in scenarios()]
)


def without(epochs: Epochs, *names: str) -> dict[str, dict[int, dict[str, float]]]:
    return {
        trial_id: {
            epoch: {name: value for name, value in row.items() if name not in names}
            for epoch, row in rows.items()
        }
        for trial_id, rows in epochs.items()
        if rows
    }


def in_single_precision(epochs: Epochs) -> dict[str, dict[int, dict[str, float]]]:
    return {
        trial_id: {
            epoch: {name: float(np.float32(value)) for name, value in row.items()}
            for epoch, row in rows.items()
        }
        for trial_id, rows in epochs.items()
    }


@pytest.mark.slow
@every_scenario
def test_tensorboard_has_every_epoch_once_and_every_end(
    name: str, scenario: Scenario, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path, name)
    play(JOB, folder, scenario, lambda run: {"TensorBoard": TensorboardTracker(run)})
    expected = in_single_precision(without(expected_epochs(folder, JOB), "epoch", "seconds"))
    np.testing.assert_equal(without(epochs_in_tensorboard(folder)), expected)
    assert ended_well(folder) == {
        trial_id: succeeded(status) for trial_id, status in expected_statuses(folder, JOB).items()
    }


@pytest.mark.slow
@every_scenario
def test_a_custom_tracker_has_every_epoch_once_and_every_end(
    name: str, scenario: Scenario, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path, name)
    play(JOB, folder, scenario, lambda run: {"own": JsonLines(run)})
    epochs: dict[str, dict[int, dict[str, float]]] = {}
    statuses = {}
    for line in (folder.path / "lines.jsonl").read_text().splitlines():
        values = json.loads(line)
        trial_id = values.pop("trial")
        if "status" in values:
            assert trial_id not in statuses
            statuses[trial_id] = values["status"]
        else:
            assert values["epoch"] not in epochs.setdefault(trial_id, {})
            epochs[trial_id][values["epoch"]] = numbers(values)
    np.testing.assert_equal(epochs, without(expected_epochs(folder, JOB)))
    assert statuses == expected_statuses(folder, JOB)


@pytest.fixture(scope="module")
def in_wandb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return all scenarios, tracked in one separate process."""
    root = tmp_path_factory.mktemp("wandb")
    subprocess.run(
        [sys.executable, "-m", "tests.tune_jobs.tracking.play_wandb", root],
        cwd=ROOT,
        env=wandb_environment(root / "home"),
        check=True,
        timeout=PATIENCE,
    )
    return root


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, _ in some_scenarios()])
def test_wandb_has_every_epoch_once_and_every_end(name: str, in_wandb: Path) -> None:
    folder = RunFolder(in_wandb / name)
    runs = read_runs(folder.wandb)
    assert runs.pop("summary").summary["winner"]["id"] == "0000"
    np.testing.assert_equal(
        {trial_id: run.epochs for trial_id, run in runs.items()}, expected_epochs(folder, JOB)
    )
    statuses = {trial_id: run.summary["status"] for trial_id, run in runs.items() if "status" in run.summary}
    assert statuses == expected_statuses(folder, JOB)
    assert {trial_id: run.exit_code == 0 for trial_id, run in runs.items()} == {
        trial_id: succeeded(statuses.get(trial_id, "failed")) for trial_id in runs
    }


@dataclass(frozen=True)
class Kind:
    """A tracker and the place of its files in the run folder."""

    make: Callable[[TrackedRun], Tracker]
    place: str


KINDS: dict[str, Any] = {
    "TensorBoard": Kind(TensorboardTracker, "tensorboard"),
    "own": Kind(JsonLines, "lines.jsonl"),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_tracker_whose_place_is_taken_is_switched_off_and_the_run_continues(
    kind: Kind, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.tune_jobs.tracking.conftest import run_events
    from tune_jobs.record.journal import read_journal
    from tune_jobs.tracking.base import LateTracker

    folder = folder_of(tmp_path, "taken")
    place = folder.path / kind.place
    place.mkdir() if "." in kind.place else place.write_text("a file")
    play(JOB, folder, next(scenarios())[1], lambda run: {"it": LateTracker(lambda: kind.make(run))})
    assert len(read_journal(folder.journal)) == len(run_events())
    (record,) = caplog.records
    assert record.getMessage().startswith("it is switched off: ")
