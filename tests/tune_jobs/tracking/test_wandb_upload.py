"""W&B online: a process next to the run uploads the files, and no failing server damages them."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.processes import PATIENCE, start
from tests.tune_jobs.tracking.conftest import (
    CONFIGURATIONS,
    interrupted,
    make_folder,
    make_job,
    run_events,
    trial_records,
)
from tests.tune_jobs.tracking.follow_run import write_events
from tests.tune_jobs.tracking.wandb_reading import read_runs
from tests.tune_jobs.tracking.wandb_server import UploadedRun, WandbServer, wandb_server
from tests.tune_jobs.tracking.wandb_session import KEY, wandb_environment
from tune_jobs.record.events import Event, HoldoutEvaluated, HoldoutUnsealed
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import read_journal
from tune_jobs.tracking.wandb_files import files_to_upload, upload_line

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
LONG, SHORT = 60.0, 2.0
"""Seconds to wait for an upload: more than it takes, and few enough to wait for one that fails."""


@dataclass(frozen=True)
class Followed:
    """A run that W&B followed in separate processes, one per driver."""

    folder: RunFolder
    said: str
    """The error output of the last process."""

    @property
    def runs(self) -> int:
        return len(CONFIGURATIONS) + 1

    def uploaded(self, server: WandbServer) -> dict[str, UploadedRun]:
        return {run_id.removeprefix(f"{self.folder.name}-"): run for run_id, run in server.runs.items()}

    def assert_complete_on_disk(self) -> None:
        runs = read_runs(self.folder.wandb)
        trials = {part: run.epochs for part, run in runs.items() if part in CONFIGURATIONS}
        np.testing.assert_equal(trials, trial_records(run_events()))
        assert runs["summary"].summary["winner"]["id"] == "0000"

    def assert_all_arrived(self, server: WandbServer) -> None:
        uploaded = self.uploaded(server)
        trials = {part: run.epochs for part, run in uploaded.items() if part in CONFIGURATIONS}
        np.testing.assert_equal(trials, trial_records(run_events()))
        assert {part: run.exit_code for part, run in uploaded.items()} == {
            "0000": 0, "0001": 0, "0002": 1, "0003": 1, "summary": 0,
        }  # fmt: skip
        assert {file.split("/")[1] for file in uploaded["summary"].files if "/" in file} == {"table", "html"}
        assert files_to_upload(self.folder.wandb) == []


class Following:
    """Lets W&B follow runs with a server."""

    def __init__(
        self, path: Path, url: str, patience: float, *, key: str = KEY, mode: str = "online"
    ) -> None:
        self._path, self._patience = path, patience
        self.folder = make_folder(path / "runs")
        keys = {"WANDB_API_KEY": key} if key else {}
        # By default W&B sends every few seconds to spare its server.
        pace = {"WANDB__FILE_STREAM_TRANSMIT_INTERVAL": "0.5"}
        self.environment = wandb_environment(path / "home", WANDB_BASE_URL=url, **keys, **pace)
        (path / "job.yaml").write_text(make_job(wandb={"project": "curves", "mode": mode}).to_yaml())

    def begin(self, events: list[Event]) -> "subprocess.Popen[str]":
        """Follow `events` up to their middle."""
        coming = self._path / "coming.jsonl"
        write_events(coming, events)
        command = [
            "-m",
            "tests.tune_jobs.tracking.follow_run",
            self._path / "job.yaml",
            self.folder.path,
            coming,
        ]
        process = start(
            [sys.executable, *map(str, command), str(self._patience)],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        return process

    def end(self, process: "subprocess.Popen[str]") -> Followed:
        _, said = process.communicate("go on\n", timeout=PATIENCE)
        assert process.returncode == 0, said
        return Followed(self.folder, said)

    def follow(self, events: list[Event]) -> Followed:
        return self.end(self.begin(events))

    def upload_later(self, server: WandbServer, key: str = KEY) -> None:
        """Run the command that the end of the run shows to the user."""
        line = upload_line(self.folder.wandb)
        assert line is not None
        command = shlex.split(line.split("`")[1])
        assert command[0] == "wandb"
        subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self._path,
            env={**self.environment, "WANDB_BASE_URL": server.url, "WANDB_API_KEY": key},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=PATIENCE,
        )


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with wandb_server() as server:
        yield server


def test_everything_arrives_and_nothing_is_said(tmp_path: Path, server: WandbServer) -> None:
    followed = Following(tmp_path, server.url, LONG).follow(run_events())
    followed.assert_complete_on_disk()
    followed.assert_all_arrived(server)
    assert followed.said == ""
    assert upload_line(followed.folder.wandb) is None
    run = followed.uploaded(server)["0000"]
    assert (run.job_type, run.group) == ("trial", followed.folder.name)
    assert run.config["lr"] == 0.1


def test_epochs_arrive_while_their_trial_continues(tmp_path: Path, server: WandbServer) -> None:
    following = Following(tmp_path, server.url, LONG)
    process = following.begin(run_events())
    run_id = f"{following.folder.name}-0000"
    server.wait_until(lambda: run_id in server.runs and server.runs[run_id].epochs.keys() == {1, 2, 3})
    assert server.runs[run_id].exit_code is None
    following.end(process).assert_all_arrived(server)


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("refuse", "permission denied"),
        ("hang", "the server did not answer in time"),
        # Whether W&B's process dies again before the patience is over depends on the machine.
        ("garble", "(W&B's own process has died|the server did not answer in time)"),
    ],
)
def test_a_server_that_fails_takes_nothing_and_all_is_uploaded_later(
    behaviour: str, reason: str, tmp_path: Path, server: WandbServer
) -> None:
    with wandb_server(behaviour) as failing:
        following = Following(tmp_path, failing.url, SHORT)
        process = following.begin(run_events())
        failing.wait_until(lambda: failing.requests != [])
        followed = following.end(process)
    assert len(read_journal(followed.folder.journal)) == len(run_events())
    followed.assert_complete_on_disk()
    (line,) = followed.said.splitlines()
    beginning, rest = line.split("; ", 1)
    assert re.fullmatch(rf"W&B: 5 of 5 W&B runs were not uploaded \({reason}\)", beginning)
    assert rest == (
        f"all of them are complete on this disk, and `wandb sync {followed.folder.wandb}` uploads the rest"
    )
    following.upload_later(server)
    followed.assert_all_arrived(server)


@pytest.mark.parametrize("behaviour", ["throttle", "vanish"])
def test_a_server_that_fails_in_the_middle_takes_nothing_either(
    behaviour: str, tmp_path: Path, server: WandbServer
) -> None:
    with wandb_server() as failing:
        following = Following(tmp_path, failing.url, SHORT)
        process = following.begin(run_events())
        run_id = f"{following.folder.name}-0000"
        failing.wait_until(lambda: run_id in failing.runs and 1 in failing.runs[run_id].epochs)
        if behaviour == "vanish":
            failing.close()
        else:
            failing.behaviour = behaviour
        followed = following.end(process)
    followed.assert_complete_on_disk()
    (line,) = followed.said.splitlines()
    assert line.startswith("W&B: 5 of 5 W&B runs were not uploaded (")
    following.upload_later(server)
    followed.assert_all_arrived(server)


@pytest.mark.parametrize("behaviour", ["refuse", "fail"])
def test_a_server_that_comes_back_gets_everything_before_the_run_ends(
    behaviour: str, tmp_path: Path, server: WandbServer
) -> None:
    following = Following(tmp_path, server.url, LONG)
    server.behaviour = behaviour
    process = following.begin(run_events())
    server.wait_until(lambda: server.requests != [])
    server.behaviour = "accept"
    followed = following.end(process)
    followed.assert_all_arrived(server)
    assert followed.said == ""


def test_without_a_key_nothing_is_asked_and_one_line_says_what_to_do(
    tmp_path: Path, server: WandbServer
) -> None:
    following = Following(tmp_path, server.url, LONG, key="")
    followed = following.follow(run_events())
    followed.assert_complete_on_disk()
    assert server.requests == []
    assert followed.said == (
        "W&B: no API key was found (WANDB_API_KEY, or `wandb login`), so nothing is uploaded; everything is written "
        f"to this disk, and `wandb sync {followed.folder.wandb}` uploads it once there is a key\n"
    )
    following.upload_later(server)
    followed.assert_all_arrived(server)


def test_offline_nothing_is_asked(tmp_path: Path, server: WandbServer) -> None:
    followed = Following(tmp_path, server.url, LONG, mode="offline").follow(run_events())
    followed.assert_complete_on_disk()
    assert server.requests == []
    assert followed.said == ""
    assert upload_line(followed.folder.wandb) == (
        f"W&B: 5 W&B runs are on this disk alone; `wandb sync {followed.folder.wandb}` uploads them"
    )


def test_a_wrong_key_is_reported_without_showing_it(tmp_path: Path, server: WandbServer) -> None:
    followed = Following(tmp_path, server.url, LONG, key="my secret").follow(run_events())
    followed.assert_complete_on_disk()
    (line,) = followed.said.splitlines()
    assert line.startswith("W&B: the API key cannot be used (")
    assert "my secret" not in line
    assert server.requests == []


def test_a_resumed_run_continues_the_same_wandb_runs(tmp_path: Path, server: WandbServer) -> None:
    first, second = interrupted(run_events(), 11)
    following = Following(tmp_path, server.url, LONG)
    before = following.follow(first).uploaded(server).keys()
    followed = following.follow(second)
    assert followed.said == ""
    followed.assert_complete_on_disk()
    followed.assert_all_arrived(server)
    assert before <= followed.uploaded(server).keys()


def test_a_run_that_was_killed_while_it_was_uploaded_arrives_whole_once_it_is_resumed(
    tmp_path: Path, server: WandbServer
) -> None:
    following = Following(tmp_path, server.url, LONG)
    events = run_events()
    process = following.begin(events)
    run_id = f"{following.folder.name}-0000"
    server.wait_until(lambda: run_id in server.runs and 1 in server.runs[run_id].epochs)
    process.kill()
    process.communicate()
    _, second = interrupted(events, len(read_journal(following.folder.journal)))
    followed = following.follow(second)
    assert followed.said == ""
    followed.assert_complete_on_disk()
    followed.assert_all_arrived(server)


def test_the_result_of_the_test_is_a_separate_run(tmp_path: Path, server: WandbServer) -> None:
    following = Following(tmp_path, server.url, LONG)
    assert "test-1" not in following.follow(run_events()).uploaded(server)
    opened: list[Event] = [
        HoldoutUnsealed(trial_id="0000"),
        HoldoutEvaluated(number=1, trial_id="0000", results={"test_loss": 0.5}),
    ]
    uploaded = following.follow(opened).uploaded(server)["test-1"]
    assert uploaded.job_type == "test"
    assert [line["test_loss"] for line in uploaded.rows.values()] == [0.5]
