"""The problems of a node, from its answers."""

import os
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.declared_nodes import declared_nodes
from tests.processes import PATIENCE
from tests.tune_jobs.runs import job_in
from tune_jobs.cluster.node_checks import Answer, problem_of

ROOT = Path(__file__).parents[3]
"""The repository, whose packages the nodes import, too."""

HERE = {"python": "3.11.7", "torch": "2.13.0+cpu", "ray": "2.60.0"}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            Answer({**HERE, "torch": "2.12.0"}, None),
            "torch 2.13.0+cpu here and 2.12.0 there; install the same",
        ),
        ("did not answer", "did not answer"),
    ],
)
def test_a_problem_is_one_line(answer: Answer | str, words: str) -> None:
    problem = problem_of(answer, HERE)
    assert problem is not None
    assert words in problem


@pytest.mark.slow
def test_a_cluster_with_another_torch_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    metadata = tmp_path / "other" / "torch-2.12.0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.12.0\n")
    output = refused_run(tmp_path, tmp_path / "other")
    assert (
        f"1 of 1 nodes cannot take trials of this run: {socket.gethostname()}: torch {version('torch')} here and "
        "2.12.0 there; install the same versions on every node" in output
    )


@pytest.mark.slow
def test_a_cluster_without_tune_jobs_is_refused(tmp_path: Path) -> None:
    package = tmp_path / "other" / "tune_jobs" / "__init__.py"
    package.parent.mkdir(parents=True)
    package.write_text("raise ModuleNotFoundError(\"No module named 'tune_jobs'\", name='tune_jobs')\n")
    output = refused_run(tmp_path, tmp_path / "other")
    assert "tune-jobs is missing there, or installed for another Python; install it in the same way" in output


def refused_run(folder: Path, on_the_nodes: Path) -> str:
    """Return the message for a run on a cluster whose nodes import from that folder first. The run leaves nothing."""
    job = job_in(folder, {})
    (folder / "job.yaml").write_text(job.to_yaml())
    with declared_nodes({"PYTHONPATH": f"{on_the_nodes}{os.pathsep}{ROOT}"}, num_cpus=1) as cluster:
        command = [sys.executable, "-m", "tune_jobs", "run", "job.yaml", "--address", cluster.address]
        environment = {
            **cluster.environment,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        ran = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr
    assert not (folder / "runs").exists()
    return ran.stderr
