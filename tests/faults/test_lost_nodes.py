"""A machine of a cluster is lost in the middle of a run: its trials go on elsewhere, and none counts as failed."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.injection import CHAOS, Tally
from tests.faults.killing import Results, count_lost, reported, wait_until_gone
from tests.tune_jobs.runs import events_of, job_in
from tune_jobs import open_run
from tune_jobs.events import EpochsReported, WorkerLost
from tune_jobs.journal import read_journal
from tune_jobs.single import train_one

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

LOST = 5 if CHAOS else 1


CLUSTER = """
import os
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
print(cluster.address, flush=True)
while input() == "add":
    node = cluster.add_node(num_cpus=1)
    print(node.all_processes["raylet"][0].process.pid, flush=True)
    input()
    cluster.remove_node(node, allow_graceful=False)
    print("removed", flush=True)
cluster.shutdown()
"""


class Cluster:
    """A cluster that a process of its own has made: nothing that this one knows of Ray gets into its way."""

    def __init__(self, ray: Path) -> None:
        self.environment = {**os.environ, "RAY_TMPDIR": str(ray), "RAY_AUTH_MODE": "disabled"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", CLUSTER],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.address = self._answer()

    def add_node(self) -> int:
        """The process of the new node's raylet."""
        self._say("add")
        return int(self._answer())

    def remove_node(self) -> None:
        """Takes away the node that was added last."""
        self._say("remove")
        assert self._answer() == "removed"

    def close(self) -> None:
        self._process.communicate("end\n", timeout=120)

    def _say(self, what: str) -> None:
        assert self._process.stdin is not None
        print(what, file=self._process.stdin, flush=True)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="tjn"))
    made = Cluster(folder)
    yield made
    made.close()
    assert wait_until_gone(folder) == []
    shutil.rmtree(folder, ignore_errors=True)


def test_a_lost_machine_is_no_fault_of_its_trials(cluster: Cluster, tmp_path: Path) -> None:
    tally = Tally("a node of a cluster lost")
    for number in range(LOST):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        path, before = run_and_lose(cluster, folder)
        made = open_run(path)
        tally.injected += 1
        assert list(made.trials["status"]) == ["completed"] * 3
        losses = [event for event in events_of(made) if isinstance(event, WorkerLost)]
        assert losses
        assert all(loss.node_lost and "machine of the worker" in loss.reason for loss in losses)
        for trial_id, record in made.record.trials.items():
            quick = {**record.configuration, "model.how": ""}  # which only sleeps otherwise
            alone = [result.val_loss for result in train_one(made.job, quick)]
            assert alone == list(made.epochs[made.epochs["trial_id"] == trial_id]["val_loss"])
        assert count_lost(before, made) == 0
        tally.outcomes["went on elsewhere"] += 1
    tally.report()


def run_and_lose(cluster: Cluster, folder: Path) -> tuple[Path, Results]:
    """Runs a job on two nodes, and takes one away once a worker of it has reported.

    Returns:
        The run's folder, and what was reported up to then.
    """
    space = {"lr": {"values": [0.01, 0.02, 0.03]}, "model.how": "steady"}
    job = job_in(
        folder,
        {
            "model/name": "user_code:make",
            "search/space": space,
            "search/method": "grid",
            "scheduler/method": "none",
            "training/max_epochs": 20,
            "limits/retries_per_trial": 0,
        },
    )
    (folder / "job.yaml").write_text(job.to_yaml())
    command = [sys.executable, "-m", "tune_jobs", "run", "job.yaml", "--address", cluster.address]
    raylet = cluster.add_node()
    driver = subprocess.Popen(command, cwd=folder, env=cluster.environment, stdout=subprocess.PIPE, text=True)
    try:
        wait_for_epochs_below(raylet, folder / "runs")
        (made,) = (folder / "runs").iterdir()
        before = reported(made)
        cluster.remove_node()
        output, _ = driver.communicate(timeout=300)
    finally:
        driver.kill()
    assert driver.returncode == 0, output
    assert output.splitlines()[-1] == f"run: {made}"
    return made, before


def wait_for_epochs_below(raylet: int, storage: Path) -> None:
    """Waits until a worker of this node has reported."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for journal in storage.glob("*/journal/events.jsonl"):
            workers = [event.worker for event in read_journal(journal) if isinstance(event, EpochsReported)]
            if any(parent(int(worker.rpartition(":")[2])) == raylet for worker in workers):
                return
        time.sleep(0.2)
    raise AssertionError("no worker of the node has reported")


def parent(process: int) -> int | None:
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except FileNotFoundError:
        return None
