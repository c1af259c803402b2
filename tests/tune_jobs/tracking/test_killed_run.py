"""Real runs whose driver is killed while all trackers work: after a resume, every dashboard is complete."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.faults.conftest import LINE
from tests.faults.killing import CommandLine, wait_until_gone
from tests.processes import wait_until
from tests.trainers.slope import slope_registered
from tests.tune_jobs.tracking.test_tensorboard import ended_well, epochs_in_tensorboard
from tests.tune_jobs.tracking.wandb_reading import read_runs
from tune_jobs import Run, open_run
from tune_jobs.record.events import EpochsReported
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import read_journal

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
TRACKING = """
tracking:
  wandb: {project: curves}
  tensorboard: true
  trackers: ["own_tracker:JsonLines"]
"""
Epochs = dict[str, dict[int, float]]
"""Validation losses by trial and epoch."""


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tjx"))  # short, since it holds sockets
    yield folder
    assert wait_until_gone(folder) == [], "processes were left behind"
    shutil.rmtree(folder, ignore_errors=True)


def reports(command: CommandLine) -> int:
    made = command.made()
    if made is None:
        return 0
    return sum(isinstance(event, EpochsReported) for event in read_journal(RunFolder(made).journal))


def in_the_table(made: Run) -> Epochs:
    found: Epochs = {}
    for trial_id, epoch, loss in made.epochs[["trial_id", "epoch", "error"]].itertuples(index=False):
        found.setdefault(trial_id, {})[epoch] = loss
    return found


def in_wandb(folder: RunFolder) -> Epochs:
    return {
        part: {epoch: row["error"] for epoch, row in run.epochs.items()}
        for part, run in read_runs(folder.wandb).items()
        if part.isdecimal()
    }


def in_the_lines(folder: RunFolder) -> Epochs:
    found: Epochs = {}
    for line in (folder.path / "lines.jsonl").read_text().splitlines():
        values = json.loads(line)
        if "epoch" in values:
            assert values["epoch"] not in found.setdefault(values["trial"], {})
            found[values["trial"]][values["epoch"]] = values["error"]
    return found


def ends_in_the_lines(folder: RunFolder) -> list[tuple[str, str]]:
    values = map(json.loads, (folder.path / "lines.jsonl").read_text().splitlines())
    return [(line["trial"], line["status"]) for line in values if "status" in line]


KILLS = (2, 6)
"""Numbers of reports after which the driver is killed: the second kill comes after a resume."""


def test_every_dashboard_has_every_epoch_once_after_kills(tmp_path: Path, ray_folder: Path) -> None:
    (tmp_path / "job.yaml").write_text(LINE.replace("trials: 14", "trials: 6") + TRACKING)
    shutil.copy(ROOT / "examples" / "own_tracker.py", tmp_path)
    command = CommandLine(tmp_path, tmp_path / "runs", ray_folder)
    process = command.run()
    for count in KILLS:
        wait_until(lambda: reports(command) >= count, f"{count} reports", process=process)  # noqa: B023
        process.kill()
        process.wait()
        process = command.resume()
    assert process.wait() == 0, command.said
    path = command.made()
    assert path is not None
    with slope_registered():
        made, folder = open_run(path), RunFolder(path)
    expected = in_the_table(made)
    assert in_wandb(folder) == expected
    assert in_the_lines(folder) == expected
    assert sorted(ends_in_the_lines(folder)) == list(
        zip(made.trials["trial_id"], made.trials["status"], strict=True)
    )
    single = {trial: {n: np.float32(loss) for n, loss in row.items()} for trial, row in expected.items()}
    shown = epochs_in_tensorboard(folder)
    assert {trial: {n: row["error"] for n, row in rows.items()} for trial, rows in shown.items()} == single
    assert ended_well(folder) == dict.fromkeys(expected, True)
    runs = read_runs(folder.wandb)
    assert runs["summary"].summary["winner"]["id"] == made.winner.trial_id
    assert {run.exit_code for run in runs.values()} == {0}
