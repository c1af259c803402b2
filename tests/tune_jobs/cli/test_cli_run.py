"""The command line in separate processes, as users call it: exit codes, the last line, Ctrl-C."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes import PATIENCE, running
from tests.trainers.slope import slope_registered
from tests.trainers.slope_command import COMMAND, with_repository
from tune_jobs import open_run
from tune_jobs.cli.main import main

pytestmark = pytest.mark.slow

JOB = """
name: tiny
data: {source: linear_gaussian, arguments: {n: 60}}
model: {name: linear}
training: {max_epochs: 3, loss: mse}
search: {space: {lr: {low: 1e-3, high: 0.5, log: true}}, trials: 3}
resources: {max_concurrent: 1}
"""


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tune_jobs", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)


def ray_processes(folder: Path) -> list[Path]:
    """Return the folders in /proc of the processes of the Ray with files under `folder`."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and process.name != str(os.getpid()):
            try:
                line = (process / "cmdline").read_bytes()
                environment = (process / "environ").read_bytes()
            except OSError:
                continue
            if f"RAY_TMPDIR={folder}".encode() in environment and b"ray" in line:
                found.append(process)
    return found


def left_over() -> list[str]:
    """Return the command lines of Ray's processes that still run after they had time to end."""
    deadline = time.monotonic() + PATIENCE
    while (processes := ray_processes(Path(os.environ["RAY_TMPDIR"]))) and time.monotonic() < deadline:
        time.sleep(0.2)
    lines = []
    for process in processes:
        with contextlib.suppress(OSError):
            lines.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return lines


def addresses_listened_on(processes: list[Path]) -> set[str]:
    """Return the addresses of the listening TCP sockets of `processes`."""
    sockets = set()
    for process in processes:
        for descriptor in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                sockets.add(str(descriptor.readlink()))
    addresses = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            cells = row.split()
            if cells[3] == "0A" and f"socket:[{cells[9]}]" in sockets:
                words = bytes.fromhex(cells[1].split(":")[0])
                packed = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
                addresses.add(socket.inet_ntop(family, packed))
    return addresses


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "job.yaml").write_text(JOB)
    return tmp_path


def test_run_then_test_once_then_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = call(folder, "run", "job.yaml", "--search.trials", "2")
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    last = ran.stdout.rstrip().splitlines()[-1]
    assert last.startswith("run: ")
    path = last.removeprefix("run: ")
    assert Path(path).parent == folder / "runs"
    assert len(open_run(path).trials) == 2
    assert left_over() == []

    monkeypatch.chdir(folder)  # what follows starts no Ray: a process of its own would prove nothing more
    capsys.readouterr()
    assert main(["test", path]) == 0
    assert "test_loss: " in capsys.readouterr().out
    assert main(["test", path]) == 3
    assert "were read before" in capsys.readouterr().err
    assert main(["test", path, "--again"]) == 2
    assert main(["test", path, "--again", "--reason", "a second look"]) == 0
    capsys.readouterr()
    assert main(["show", path]) == 0
    assert "a second look" in capsys.readouterr().out
    assert main(["list"]) == 0
    assert "opened" in capsys.readouterr().out


SLOW = """
name: tiny
slope: {epochs: 200, pause: 0.05}
scheduler: {method: none}
search: {space: {rate: {low: 1e-3, high: 0.5, log: true}}, method: random, trials: 50}
selection: {metric: error}
resources: {max_concurrent: 1}
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_with_130_and_leaves_tables_and_no_process(
    folder: Path, number: signal.Signals
) -> None:
    (folder / "job.yaml").write_text(SLOW)
    with running(
        [*COMMAND, "run", "job.yaml"],
        cwd=folder,
        env=with_repository(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            journals = list((folder / "runs").glob("*/journal/events.jsonl"))
            if journals and "epochs_reported" in journals[0].read_text():
                break
            time.sleep(0.2)
        listening = addresses_listened_on(ray_processes(Path(os.environ["RAY_TMPDIR"])))
        process.send_signal(number)
        output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, errors
    assert listening, "Ray listens somewhere"
    assert listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, "Ray can be reached from outside"
    assert "Traceback" not in errors
    path = output.rstrip().splitlines()[-1].removeprefix("run: ")
    with slope_registered():
        statuses = set(open_run(path).trials["status"])
    assert statuses <= {"interrupted", "completed"}
    assert "interrupted" in statuses
    assert (Path(path) / "epochs.parquet").is_file()
    assert left_over() == []


def test_a_run_started_by_uv_in_a_folder_below_its_project_ends_as_any_other(tmp_path: Path) -> None:
    """Ray looks for an ancestor `uv run` by its command line, and would refuse: the project is above the folder."""
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'mine'\nversion = '1'\n")
    folder = tmp_path / "below"
    folder.mkdir()
    (folder / "job.yaml").write_text(SLOW)
    (folder / "run").write_text("import subprocess, sys\nsys.exit(subprocess.call(sys.argv[1:]))\n")
    changes = ["--search.trials", "1", "--slope.epochs", "1", "--slope.pause", "0"]
    ran = subprocess.run(
        ["uv", "run", *COMMAND, "run", "job.yaml", *changes],
        executable=sys.executable,
        cwd=folder,
        env=with_repository(os.environ),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""


def test_data_that_cannot_be_used_leave_nothing(folder: Path) -> None:
    (folder / "empty.csv").write_text("a,b\n")
    ran = call(
        folder,
        "run",
        "job.yaml",
        "--data.source",
        "empty.csv",
        "--data.target",
        "b",
        "--data.arguments",
        "{}",
    )
    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr
    assert not (folder / "runs").exists()
