"""The command line with a kind without a framework: torch cannot be imported, and the driver is really killed."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import start, wait_until
from tests.trainers.slope import slope_registered
from tests.tune_jobs.runs import assert_curves_are_those_of_training_alone
from tune_jobs import open_run
from tune_jobs.job.file import dump_yaml
from tune_jobs.record.folder import RunFolder

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[3]
PROGRAM = """
import sys
from tests.trainers.slope import register_slope
register_slope()
from tune_jobs.cli.main import main
for command in " ".join(sys.argv[1:]).split(" and "):
    if code := main(command.split()):
        sys.exit(code)
"""
"""A program that registers its own kind before it calls `tune-jobs`: arguments of several calls are joined by `and`."""
JOB = {
    "name": "line",
    "slope": {"epochs": 9, "pause": 0.02},
    "search": {
        "space": {"rate": {"low": 0.001, "high": 0.5, "log": True}},
        "method": "random",
        "trials": 8,
    },
    "selection": {"metric": "error"},
    "resources": {"max_concurrent": 1},
}
SHOWN = """
import sys
from tests.trainers.slope import register_slope
register_slope()
import tune_jobs
made = tune_jobs.open_run(sys.argv[1])
print(len(made.trials), made.winner_id is not None, "torch" in sys.modules)
"""


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return the environment of processes that cannot import torch, with a short folder for Ray's files."""
    blocked = tmp_path / "blocked" / "torch"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ImportError('torch is blocked')\n")
    with tempfile.TemporaryDirectory(prefix="tj", ignore_cleanup_errors=True) as ray:
        path = os.pathsep.join([str(blocked.parent), str(REPOSITORY)])
        yield {**os.environ, "PYTHONPATH": path, "RAY_TMPDIR": ray}


def test_killed_and_resumed_it_ends_with_the_curves_of_undisturbed_trainings(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "job.yaml").write_text(dump_yaml(JOB))

    def begin(*arguments: str) -> "subprocess.Popen[str]":
        with (tmp_path / "log").open("a") as log:
            return start(
                [sys.executable, "-c", PROGRAM, *arguments],
                cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip

    def call(*arguments: str) -> str:
        code = begin(*arguments).wait()
        said = (tmp_path / "log").read_text()
        assert code == 0, said
        return said

    def made() -> list[Path]:
        return [path for path in (tmp_path / "runs").glob("*") if RunFolder(path).journal.is_file()]

    process = begin("run", "job.yaml")
    wait_until(
        lambda: any(RunFolder(path).journal.read_bytes().count(b"\n") >= 30 for path in made()),
        "thirty events",
        process=process,
    )
    process.kill()
    process.wait()
    (killed,) = made()
    call("resume", str(killed))
    shown = subprocess.run(
        [sys.executable, "-c", SHOWN, str(killed)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert shown == "8 True False\n", "no module of torch was imported"
    with slope_registered():
        assert_curves_are_those_of_training_alone(open_run(killed))

    assert "test_error: " in call(*f"test {killed} and report {killed} and show {killed}".split())
    assert (killed / "report.html").is_file()
