"""Real runs under Ray with W&B: the results are those without it, every epoch arrives, and no secret is left."""

import base64
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.faults.killing import same_tables, wait_until_gone
from tests.processes import PATIENCE
from tests.trainers.slope import slope_registered
from tests.trainers.slope_command import COMMAND, with_repository
from tests.tune_jobs.tracking.wandb_reading import read_runs
from tests.tune_jobs.tracking.wandb_server import WandbServer, wandb_server
from tests.tune_jobs.tracking.wandb_session import KEY, wandb_environment
from tune_jobs import Run, open_run
from tune_jobs.record.folder import RunFolder

pytestmark = pytest.mark.slow

JOB = """
name: followed
slope: {epochs: 9}
search:
  space:
    rate: {low: 1e-4, high: 0.5, log: true}
    decay: {values: [0.0, 0.01]}
  method: random
  trials: 6
scheduler: {grace_epochs: 1}
selection: {metric: error}
resources: {max_concurrent: 1}
"""
"""Trackers read the journal alone, so the kind of training does not matter to them."""


@pytest.fixture(scope="module", autouse=True)
def small_kind() -> Iterator[None]:
    """Let this process read runs of the small kind."""
    with slope_registered():
        yield


@dataclass(frozen=True)
class Made:
    """A run of the command line with the key in its environment."""

    run: Run
    output: str
    home: Path
    ray: Path

    def files(self) -> list[Path]:
        """Return all files that the run has left: in its folder, Ray's, and the user's home."""
        return [
            path
            for root in (self.run.path, self.ray, self.home)
            for path in root.rglob("*")
            if path.is_file()
        ]


class Commands:
    """Calls `tune-jobs` with a temporary home folder and with the key in the environment."""

    def __init__(self, home: Path, ray: Path, url: str) -> None:
        self._home, self._ray = home, ray
        own = wandb_environment(home, WANDB_API_KEY=KEY, WANDB_BASE_URL=url)
        self._environment = with_repository({**own, "RAY_TMPDIR": str(ray)})

    def call(self, *arguments: str) -> str:
        process = subprocess.run(
            [*COMMAND, *arguments],
            cwd=self._home,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert process.returncode == 0, process.stdout
        return process.stdout

    def run(self, *overrides: str) -> Made:
        (self._home / "job.yaml").write_text(JOB)
        output = self.call("run", "job.yaml", *overrides)
        made = open_run(output.splitlines()[-1].removeprefix("run: "))
        return Made(made, output, self._home, self._ray)


@pytest.fixture(scope="module")
def ray_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tjw"))  # short, since it holds sockets
    yield folder
    assert wait_until_gone(folder) == [], "processes were left behind"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def server() -> Iterator[WandbServer]:
    with wandb_server() as server:
        yield server


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory, ray_folder: Path, server: WandbServer) -> Commands:
    return Commands(tmp_path_factory.mktemp("home"), ray_folder, server.url)


@pytest.fixture(scope="module")
def online(commands: Commands) -> Made:
    return commands.run("--tracking.wandb.project", "curves", "--tracking.wandb.mode", "online")


@pytest.fixture(scope="module")
def without(commands: Commands) -> Made:
    return commands.run()


def assert_every_epoch(made: Run, tracked: dict[str, dict[int, dict[str, float]]]) -> None:
    columns = [name for name in made.epochs.columns if name != "trial_id"]
    expected: dict[str, dict[int, dict[str, float]]] = {}
    for row in made.epochs.to_dict("records"):
        values = {name: float(row[name]) for name in columns}
        expected.setdefault(row["trial_id"], {})[int(row["epoch"])] = values
    np.testing.assert_equal(tracked, expected)


def test_the_files_have_every_epoch_of_the_table(online: Made) -> None:
    runs = read_runs(RunFolder(online.run.path).wandb)
    trials = {part: run.epochs for part, run in runs.items() if part.isdecimal()}
    assert_every_epoch(online.run, trials)
    statuses = dict(zip(online.run.trials["trial_id"], online.run.trials["status"], strict=True))
    assert {part: run.summary["status"] for part, run in runs.items() if part.isdecimal()} == statuses
    assert "stopped_early" in statuses.values()
    assert {run.exit_code for run in runs.values()} == {0}


def test_everything_has_arrived_at_the_server(online: Made, server: WandbServer) -> None:
    uploaded = {
        run_id.removeprefix(f"{online.run.path.name}-"): run
        for run_id, run in server.runs.items()
        if run_id.startswith(online.run.path.name)
    }
    assert_every_epoch(online.run, {part: run.epochs for part, run in uploaded.items() if part.isdecimal()})
    assert "W&B" not in online.output


def test_the_summary_has_the_winner_and_the_report(online: Made) -> None:
    summary = read_runs(RunFolder(online.run.path).wandb)["summary"].summary
    assert summary["winner"]["id"] == online.run.winner.trial_id
    assert summary["winner"]["score"] == online.run.winner.score
    assert summary["report"]["size"] > 100_000


def test_the_results_are_those_without_wandb(online: Made, without: Made) -> None:
    assert same_tables(online.run, without.run)


def test_a_server_that_refuses_changes_no_result_and_the_end_says_how_to_upload(
    commands: Commands, without: Made, server: WandbServer
) -> None:
    server.behaviour = "refuse"
    try:
        made = commands.run("--tracking.wandb.project", "curves", "--tracking.wandb.mode", "online")
    finally:
        server.behaviour = "accept"
    assert same_tables(made.run, without.run)
    assert_every_epoch(
        made.run,
        {
            part: run.epochs
            for part, run in read_runs(RunFolder(made.run.path).wandb).items()
            if part.isdecimal()
        },
    )
    command = f"`wandb sync {made.run.path}/wandb`"
    assert f"W&B: 7 W&B runs are on this disk alone; {command} uploads them" in made.output.splitlines()


def test_the_result_of_the_test_arrives_after_the_test(
    online: Made, commands: Commands, server: WandbServer
) -> None:
    run_id = f"{online.run.path.name}-test-1"
    assert run_id not in server.runs
    output = commands.call("test", str(online.run.path))
    (row,) = server.runs[run_id].rows.values()
    assert f"test_error: {row['test_error']:.6g}" in output
    assert server.runs[run_id].job_type == "test"


def test_the_key_is_nowhere(online: Made, server: WandbServer) -> None:
    """The key is neither in the run folder, nor in any file of Ray, nor in the output."""
    assert any("Basic" in key for key in server.keys), "it was used"
    assert KEY not in online.output
    files = online.files()
    assert any("wandb" in path.parts for path in files)
    assert any("logs" in path.parts and online.ray in path.parents for path in files)
    secrets = (KEY.encode(), base64.b64encode(f"api:{KEY}".encode()))
    assert [path for path in files if any(secret in path.read_bytes() for secret in secrets)] == []
    assert KEY not in json.dumps(online.run.job.to_mapping())
