"""The example of a script of one's own trains as a trial, and by itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tune_jobs import Job
from tune_jobs.driver.train_alone import train_one

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "own_script.yaml"


@pytest.mark.slow
def test_the_example_is_trained_as_a_trial() -> None:
    job = Job.from_file(EXAMPLE, [("length.epochs", 2)])
    first, second = (result.metrics["val_loss"] for result in train_one(job, {"lr": 0.01, "width": 16}))
    assert second < first


@pytest.mark.slow
def test_the_example_runs_by_itself(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    script = EXAMPLE.with_suffix(".py")
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
