"""A run on large data, and refused calls: observations of what the hosts of a cluster share."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.cluster import DASHBOARD_PORT, Cluster, wait_until
from tests.cluster.hosts import PRIVATE, SHARED
from tests.cluster.jobs import CODE, Watch
from tests.cluster.ports import Answers, ask_ports
from tests.processes import PATIENCE
from tune_jobs import Run, open_run

MEGABYTES = int(os.environ.get("TUNE_JOBS_DATA_MB", "100"))
"""Megabytes of features. docs/cluster.md has the result for 1000."""
FEATURES = 256
WORKERS_OF_A_HOST = 2
SHARES = {"train": 0.7, "validation": 0.2, "test": 0.1}
DATA = """
import numpy as np

def load(rows, features):
    random = np.random.default_rng(0)
    x = random.random((rows, features), dtype=np.float32)
    return x, x[:, 0]
"""


@dataclass(frozen=True)
class Refusal:
    """The end of a command of the laptop."""

    code: int
    text: str


@dataclass(frozen=True)
class Sharing:
    """Observations of a cluster of a head and `worker1`.

    Attributes:
        made: A finished run on data.
        arrived: Megabytes that each host received during the run.
        ports: The head's ports with their addresses while all hosts were at work.
        answers: The answers of these ports to the laptop.
        of_one_host: The answer to a job with the storage of one host alone, and the files in each host's.
        dashboard: Exit codes of connections from the laptop to the dashboard: through the tunnel, and to the head.
        without_token: The answer to a laptop without the token, and the mode of the file with the token on the head.
    """

    made: Run
    arrived: Mapping[str, float]
    ports: Mapping[int, set[str]]
    answers: Answers
    of_one_host: tuple[Refusal, list[Path]]
    dashboard: tuple[int, int]
    without_token: tuple[Refusal, int]


def observe_sharing(cluster: Cluster, watch: Watch) -> Sharing:
    """Make all observations. The folder of runs is empty before and after."""
    return Sharing(
        *run_on_data(cluster, watch), of_one_host(cluster), dashboard(cluster), without_token(cluster)
    )


def write_job(cluster: Cluster, **changes: Any) -> None:
    folder = cluster.laptop.home / "shared"
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
        "resources": {"cpus_per_trial": 1 / WORKERS_OF_A_HOST},
        "storage": str(SHARED / "data"),
        **changes,
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job))


def submit(cluster: Cluster) -> Refusal:
    submitted = cluster.laptop.start("tune-jobs", "submit", "shared/job.yaml")
    return Refusal(submitted.wait(PATIENCE), submitted.said)


def run_on_data(
    cluster: Cluster, watch: Watch
) -> tuple[Run, Mapping[str, float], Mapping[int, set[str]], Answers]:
    write_job(cluster)
    up = [host for host in (cluster.head, *cluster.workers) if host.is_up]
    before = {host.name: host.received() for host in up}
    watch.hold()
    run = submit(cluster).text.split()[-1]
    at_work = WORKERS_OF_A_HOST * len(up)
    wait_until(lambda: len(watch.beginnings) == at_work, "as many trials as there is room for")
    ports, answers = ask_ports(cluster)
    watch.release()
    cluster.laptop.run("tune-jobs", "logs", run, "--follow")
    arrived = {host.name: (host.received() - before[host.name]) / 1e6 for host in up}
    made = open_run(watch.shared / "data" / run)
    watch.forget()
    return made, arrived, ports, answers


def of_one_host(cluster: Cluster) -> tuple[Refusal, list[Path]]:
    write_job(cluster, data={"source": "digits"}, storage=str(PRIVATE / "runs"))
    refused = submit(cluster)
    return refused, [path for host in (cluster.head, *cluster.workers) for path in host.private.rglob("*")]


def dashboard(cluster: Cluster) -> tuple[int, int]:
    connect = "</dev/tcp/{}/" + str(DASHBOARD_PORT)
    through, past = (
        cluster.laptop.start("bash", "-c", connect.format(address)).wait(PATIENCE)
        for address in ("127.0.0.1", cluster.head.address)
    )
    return through, past


def without_token(cluster: Cluster) -> tuple[Refusal, int]:
    token = cluster.laptop.home / ".ray" / "auth_token"
    write_job(cluster, data={"source": "digits"})
    hidden = token.rename(token.with_name("hidden"))
    try:
        return submit(cluster), (cluster.head.home / ".ray" / "auth_token").stat().st_mode & 0o777
    finally:
        hidden.rename(token)
