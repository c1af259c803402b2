"""No value of the driver's environment reaches a file of the run or of Ray, and others cannot enter Ray's folders."""

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.processes import PATIENCE
from tests.trainers.slope_command import COMMAND, with_repository
from tests.tune_jobs.runs import line_in, lines
from tune_jobs.job.file import dump_yaml

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("slope_kind")]

NAMES = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "WANDB_API_KEY",
    "HF_TOKEN", "OPENAI_API_KEY", "AZURE_STORAGE_KEY", "GITHUB_TOKEN", "DATABASE_URL", "RAY_MY_SECRET",
    "RAY_TRAIN_COLLECTIVE_TIMEOUT_S", "TUNE_MY_SECRET", "TUNE_JOBS_MY_SECRET", "MY_PASSWORD", "PL_MY_SECRET",
)  # fmt: skip
"""Variables with secrets, and variables with the prefixes that Ray passes on."""


def test_no_value_of_the_environment_is_in_a_file(tmp_path: Path) -> None:
    """One trial fails and one loses its worker, because errors and crashes leave files, too."""
    values = {name: f"canary-{number}-of-{name.lower()}" for number, name in enumerate(NAMES)}
    trials = lines(("", 0.0), ("raise", 0.0), ("crash_once", 0.0), **{"scheduler/method": "none"})
    tracking = {"wandb": {"project": "canaries"}, "tensorboard": True}
    job = line_in(
        tmp_path, {**trials, "slope/folder": str(tmp_path), "slope/epochs": 3, "tracking": tracking}
    )
    (tmp_path / "job.yaml").write_text(dump_yaml(job.to_mapping()))
    with tempfile.TemporaryDirectory(prefix="tjs") as ray:
        ran = subprocess.run(
            [*COMMAND, "run", "job.yaml"],
            cwd=tmp_path,
            env=with_repository({**os.environ, **values, "RAY_TMPDIR": ray, "HOME": str(tmp_path)}),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        files = [path for place in (tmp_path, Path(ray)) for path in place.rglob("*") if path.is_file()]
        names = {path.name for path in files}
        assert {"runtime_env_agent.log", "raylet.out", "events.jsonl", "trials.parquet"} <= names
        found = {
            (name, path.relative_to(path.parents[2]))
            for path in files
            for content in [path.read_bytes()]
            for name, value in values.items()
            if value.encode() in content
        }
        assert found == set()
        assert not any(value in ran.stdout + ran.stderr for value in values.values())
        (private,) = Path(ray).iterdir()
        assert private.stat().st_mode & 0o077 == 0, (
            "others can read Ray's logs, which hold the output of trials"
        )
