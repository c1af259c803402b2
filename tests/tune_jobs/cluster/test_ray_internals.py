"""The private parts of Ray that questions to a cluster use: a test fails if another Ray version changes its part."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tune_jobs.cluster.ray_internals import (
    cluster_metadata,
    free_resources_of_nodes,
    running_head,
)


def test_the_running_head_is_found_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.1.2.3:6379")
    assert running_head() == "10.1.2.3:6379"


def test_a_missing_token_has_its_own_error(tmp_path: Path) -> None:
    """This needs a separate process: Ray remembers the first mode and token."""
    program = """
from ray.exceptions import AuthenticationError
from tune_jobs.cluster.ray_internals import require_token
try:
    require_token()
except AuthenticationError:
    print("refused")
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    said = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, "HOME": str(tmp_path), "RAY_AUTH_MODE": "token"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split() == ["refused"]


@pytest.mark.slow
@pytest.mark.usefixtures("ray_running")
def test_the_control_service_says_its_versions() -> None:
    import ray

    metadata = json.loads(cluster_metadata(ray.get_runtime_context().gcs_address, seconds=60.0))
    assert metadata["ray_version"] == ray.__version__
    assert metadata["python_version"]


@pytest.mark.slow
@pytest.mark.usefixtures("ray_running")
def test_free_resources_are_listed_node_by_node() -> None:
    import ray

    ((node, free),) = free_resources_of_nodes().items()
    assert node == ray.get_runtime_context().get_node_id()
    assert free["CPU"] == ray.cluster_resources()["CPU"]
