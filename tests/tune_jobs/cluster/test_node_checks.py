"""The problems of a node, from its answers."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.declared_nodes import DeclaredNodes, declared_nodes
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


@pytest.fixture(scope="module")
def on_the_nodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder from which the nodes import first."""
    return tmp_path_factory.mktemp("nodes")


@pytest.fixture(scope="module")
def cluster(on_the_nodes: Path) -> Iterator[DeclaredNodes]:
    with declared_nodes({"PYTHONPATH": f"{on_the_nodes}{os.pathsep}{ROOT}"}, num_cpus=1) as made:
        yield made


@pytest.mark.slow
def test_a_cluster_with_another_torch_is_refused_before_anything_is_made(
    cluster: DeclaredNodes, on_the_nodes: Path, tmp_path: Path
) -> None:
    metadata = on_the_nodes / "torch-2.12.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.12.0\n")
    output = refused_run(cluster, tmp_path)
    shutil.rmtree(metadata.parent)
    assert (
        f"1 of 1 nodes cannot take trials of this run: {socket.gethostname()}: torch {version('torch')} here and "
        "2.12.0 there; install the same versions on every node" in output
    )


@pytest.mark.slow
def test_a_cluster_without_tune_jobs_is_refused(
    cluster: DeclaredNodes, on_the_nodes: Path, tmp_path: Path
) -> None:
    package = on_the_nodes / "tune_jobs" / "__init__.py"
    package.parent.mkdir()
    package.write_text("raise ModuleNotFoundError(\"No module named 'tune_jobs'\", name='tune_jobs')\n")
    output = refused_run(cluster, tmp_path)
    shutil.rmtree(package.parent)
    assert "tune-jobs is missing there, or installed for another Python; install it in the same way" in output


def refused_run(cluster: DeclaredNodes, folder: Path) -> str:
    """Return the message for a run on the cluster. The run leaves nothing."""
    job = job_in(folder, {})
    (folder / "job.yaml").write_text(job.to_yaml())
    ran = subprocess.run(
        [sys.executable, "-m", "tune_jobs", "run", "job.yaml", "--address", cluster.address],
        cwd=folder,
        env={**cluster.environment, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr
    assert not (folder / "runs").exists()
    return ran.stderr
