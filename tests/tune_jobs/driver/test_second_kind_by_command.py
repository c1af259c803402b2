"""The command line with a kind without a framework: torch cannot be imported."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import PATIENCE
from tests.trainers.slope import slope_registered
from tests.tune_jobs.runs import assert_curves_are_those_of_training_alone
from tune_jobs import open_run
from tune_jobs.job.file import dump_yaml

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[3]
PROGRAM = """
import sys
from tests.trainers.slope import register_slope
register_slope()
from tune_jobs import open_run
from tune_jobs.cli.main import main
for command in " ".join(sys.argv[1:]).split(" and "):
    name, *rest = command.split()
    if name == "see":
        made = open_run(*rest)
        print(len(made.trials), made.winner_id is not None, "torch" in sys.modules)
    elif code := main([name, *rest]):
        sys.exit(code)
"""
"""A program that registers its own kind before it calls `tune-jobs`: arguments of several calls are joined by `and`."""
JOB = {
    "name": "line",
    "slope": {"epochs": 9},
    "search": {
        "space": {"rate": {"low": 0.001, "high": 0.5, "log": True}},
        "method": "random",
        "trials": 4,
    },
    "selection": {"metric": "error"},
    "resources": {"max_concurrent": 1},
}


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return the environment of processes that cannot import torch, with a short folder for Ray's files."""
    blocked = tmp_path / "blocked" / "torch"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ImportError('torch is blocked')\n")
    with tempfile.TemporaryDirectory(prefix="tj", ignore_cleanup_errors=True) as ray:
        path = os.pathsep.join([str(blocked.parent), str(REPOSITORY)])
        yield {**os.environ, "PYTHONPATH": path, "RAY_TMPDIR": ray}


def test_it_is_run_tested_and_shown_without_torch(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "job.yaml").write_text(dump_yaml(JOB))

    def call(program: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    made = call(PROGRAM, "run", "job.yaml").splitlines()[-1].removeprefix("run: ")
    said = call(PROGRAM, *f"test {made} and report {made} and show {made} and see {made}".split())
    assert "test_error: " in said
    assert (Path(made) / "report.html").is_file()
    assert said.splitlines()[-1] == "4 True False", "no module of torch was imported"
    with slope_registered():
        assert_curves_are_those_of_training_alone(open_run(made))
