"""Data that reach the hosts of a cluster, things that all hosts must share (storage and the token), and the ports."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.cluster import DASHBOARD_PORT, Cluster, wait_until
from tests.cluster.hosts import PRIVATE, SHARED, hosts
from tests.cluster.jobs import CODE, Watch, host_of
from tests.cluster.ports import Answers, ask_ports, is_loopback
from tests.processes import PATIENCE
from tune_jobs import Run, open_run

pytestmark = pytest.mark.slow

MEGABYTES = int(os.environ.get("TUNE_JOBS_DATA_MB", "100"))
"""Megabytes of features. docs/cluster.md has the result for 1000."""
FEATURES = 256
CPUS = 2
"""CPUs of a host but for the head, which takes no trials."""
METRICS = "metrics"
REFUSED = {"401", "UNAUTHENTICATED"}
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
        made_of = Cluster(made, cpus=CPUS, head_cpus=0, object_store=2 * MEGABYTES * 10**6)
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
        "training": {"max_epochs": 1, "loss": "mse"},
        "search": {
            "space": {"lr": {"low": 1e-5, "high": 1e-3, "log": True}, "batch_size": 8192},
            "method": "random",
            "trials": 8,
        },
        "scheduler": {"method": "none"},
        "storage": str(SHARED / "runs"),
        **changes,
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job))


@dataclass(frozen=True)
class Observations:
    """Observations of a run on data.

    Attributes:
        made: The finished run.
        arrived: Megabytes that each host but the head received during the run.
        ports: The head's ports with their addresses while all hosts were at work.
        answers: The answers of these ports to the laptop.
    """

    made: Run
    arrived: Mapping[str, float]
    ports: Mapping[int, set[str]]
    answers: Answers


@pytest.fixture(scope="module")
def observed(cluster: Cluster, disks: Path) -> Observations:
    watch = Watch(disks / "shared")
    write_job(cluster)
    before = {worker.name: worker.received() for worker in cluster.workers}
    with watch.held():
        run = cluster.laptop.run("tune-jobs", "submit", "work/job.yaml").split()[-1]
        at_work = CPUS * len(cluster.workers)
        wait_until(lambda: len(watch.beginnings) == at_work, "a trial for each CPU")
        ports, answers = ask_ports(cluster)
    cluster.laptop.run("tune-jobs", "logs", run, "--follow")
    arrived = {name: (cluster.hosts[name].received() - then) / 1e6 for name, then in before.items()}
    return Observations(open_run(watch.path), arrived, ports, answers)


def test_data_reach_each_host_once_whatever_the_number_of_trials(observed: Observations) -> None:
    assert set(observed.made.trials["status"]) == {"completed"}
    sent = MEGABYTES * (SHARES["train"] + SHARES["validation"])
    for worker, arrived in observed.arrived.items():
        trials = [trial for trial in observed.made.record.trials.values() if host_of(trial.worker) == worker]
        print(f"{worker}: {arrived:.0f} MB for {len(trials)} trials; the arrays have {sent:.0f} MB")
        assert len({trial.worker for trial in trials}) == CPUS
        assert sent < arrived < 1.25 * sent


def test_the_dashboard_listens_on_loopback_alone(observed: Observations) -> None:
    assert all(map(is_loopback, observed.ports[DASHBOARD_PORT]))


def test_nothing_but_metrics_is_open(observed: Observations) -> None:
    metrics = {port for port, said in observed.answers.items() if METRICS in said["none"]}
    assert len(metrics) == 3  # of the dashboard, the autoscaler and the node's agent
    for port, by_token in observed.answers.items():
        if port in metrics:
            continue
        for token, said in by_token.items():
            refused = REFUSED | {"403"} if token == "wrong" else REFUSED
            assert said, f"{port}: no service was recognised"
            assert set(said) <= refused, f"{port}, {token} token: {said}"


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
