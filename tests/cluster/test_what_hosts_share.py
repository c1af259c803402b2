"""Data that reach the hosts of a cluster, and things that all hosts must share: storage and the token."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.cluster import DASHBOARD_PORT, Cluster
from tests.cluster.hosts import PRIVATE, SHARED, hosts
from tests.cluster.jobs import CODE, Watch, host_of
from tests.processes import PATIENCE
from tune_jobs import open_run

pytestmark = pytest.mark.slow

MEGABYTES = int(os.environ.get("TUNE_JOBS_DATA_MB", "300"))
"""Megabytes of features. docs/cluster.md has the result for 1000."""
FEATURES = 256
SHARES = {"train": 0.7, "validation": 0.2, "test": 0.1}
DATA = """
import numpy as np

def load(rows, features):
    random = np.random.default_rng(0)
    x = random.random((rows, features), dtype=np.float32)
    return x, x[:, 0]
"""


@pytest.fixture(scope="module")
def cluster(disks: Path) -> Iterator[Cluster]:
    with hosts(disks, ["laptop", "head", "worker1", "worker2"]) as made:
        made_of = Cluster(made, object_store=2 * MEGABYTES * 10**6)
        made_of.up()
        with made_of.tunnel():
            yield made_of


def write_job(cluster: Cluster, **changes: Any) -> None:
    folder = cluster.laptop.home / "work"
    folder.mkdir(exist_ok=True)
    (folder / "my_data.py").write_text(DATA)
    (folder / "my_model.py").write_text(CODE)
    job = {
        "name": "shared",
        "data": {
            "source": "my_data:load",
            "arguments": {"rows": MEGABYTES * 10**6 // (4 * FEATURES), "features": FEATURES},
            "split": {**SHARES, "method": "random", "seed": 0},
            "standardize": False,
        },
        "model": {"name": "my_model:make"},
        "training": {"max_epochs": 3, "loss": "mse"},
        "search": {
            "space": {"lr": {"low": 1e-5, "high": 1e-3, "log": True}, "batch_size": 8192},
            "method": "random",
            "trials": 16,
        },
        "scheduler": {"method": "none"},
        "storage": str(SHARED / "runs"),
        **changes,
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job))


def received(cluster: Cluster) -> Mapping[str, int]:
    return {worker.name: worker.received() for worker in cluster.workers}


def test_data_reach_each_host_once_whatever_the_number_of_trials(cluster: Cluster, disks: Path) -> None:
    Watch(disks / "shared").pace(
        1
    )  # long enough that the driver's host, which is ready first, does not run all trials
    write_job(cluster)
    before = received(cluster)
    run = cluster.laptop.run("tune-jobs", "submit", "work/job.yaml").split()[-1]
    cluster.laptop.run("tune-jobs", "logs", run, "--follow")
    made = open_run(disks / "shared" / "runs" / run)
    assert set(made.trials["status"]) == {"completed"}
    sent = MEGABYTES * (SHARES["train"] + SHARES["validation"])
    for worker, bytes_then in before.items():
        trials = [trial for trial in made.record.trials.values() if host_of(trial.worker) == worker]
        arrived = (cluster.hosts[worker].received() - bytes_then) / 1e6
        print(f"{worker}: {arrived:.0f} MB for {len(trials)} trials; the arrays have {sent:.0f} MB")
        assert len(trials) > 1
        assert sent < arrived < 1.25 * sent


def test_storage_of_one_host_alone_is_refused(cluster: Cluster) -> None:
    write_job(cluster, data={"source": "digits"}, storage=str(PRIVATE / "runs"))
    refused = cluster.laptop.start("tune-jobs", "submit", "work/job.yaml")
    assert refused.wait(PATIENCE) == 2
    assert f"storage: {PRIVATE}/runs" in refused.said
    assert "is not shared by all nodes; wrong on 2 of 3 nodes" in refused.said
    assert "worker1" in refused.said
    assert "worker2" in refused.said
    assert "give a folder that all of them mount at the same path, or an object store" in refused.said
    assert "Traceback" not in refused.said
    for host in (cluster.head, *cluster.workers):
        assert list(host.private.rglob("*")) == []


def test_the_dashboard_is_reached_through_the_tunnel_alone(cluster: Cluster) -> None:
    connect = "</dev/tcp/{}/" + str(DASHBOARD_PORT)
    assert cluster.laptop.start("bash", "-c", connect.format("127.0.0.1")).wait(PATIENCE) == 0
    assert cluster.laptop.start("bash", "-c", connect.format(cluster.head.address)).wait(PATIENCE) != 0


def test_without_the_token_access_is_refused(cluster: Cluster) -> None:
    token = cluster.laptop.home / ".ray" / "auth_token"
    assert oct((cluster.head.home / ".ray" / "auth_token").stat().st_mode & 0o777) == "0o600"
    write_job(cluster, data={"source": "digits"})
    hidden = token.rename(token.with_name("hidden"))
    try:
        refused = cluster.laptop.start("tune-jobs", "submit", "work/job.yaml")
        assert refused.wait(PATIENCE) == 2
        assert "token" in refused.said
        assert "Traceback" not in refused.said
    finally:
        hidden.rename(token)
