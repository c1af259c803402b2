"""A machine of a cluster is lost in the middle of a run: its trials continue elsewhere, and none counts as failed."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.declared_nodes import DeclaredNodes, declared_nodes
from tests.faults.injection import CHAOS, Tally
from tests.faults.killing import Results, count_lost, reported
from tests.processes import PATIENCE, start
from tests.tune_jobs.runs import events_of, job_in
from tune_jobs import open_run
from tune_jobs.driver.train_alone import train_one
from tune_jobs.record.events import EpochsReported, WorkerLost
from tune_jobs.record.journal import read_journal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

LOST = 5 if CHAOS else 1


@pytest.fixture
def cluster() -> Iterator[DeclaredNodes]:
    with declared_nodes(num_cpus=1) as made:
        yield made


def test_a_lost_machine_is_no_fault_of_its_trials(cluster: DeclaredNodes, tmp_path: Path) -> None:
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
        assert all(loss.node_lost and "worker's machine" in loss.reason for loss in losses)
        for trial_id, record in made.record.trials.items():
            quick = {**record.configuration, "model.how": ""}  # the process only sleeps otherwise
            alone = [result.metrics["val_loss"] for result in train_one(made.job, quick)]
            assert alone == list(made.epochs[made.epochs["trial_id"] == trial_id]["val_loss"])
        assert count_lost(before, made) == 0
        tally.outcomes["went on elsewhere"] += 1
    tally.report()


def run_and_lose(cluster: DeclaredNodes, folder: Path) -> tuple[Path, Results]:
    """Run a job on two nodes, and remove one as soon as a worker on it has reported.

    Returns:
        The run's folder, and the results that were reported up to then.
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
            "resources/max_concurrent": None,
        },
    )
    (folder / "job.yaml").write_text(job.to_yaml())
    command = [sys.executable, "-m", "tune_jobs", "run", "job.yaml", "--address", cluster.address]
    raylet = cluster.add_node(num_cpus=1)
    driver = start(command, cwd=folder, env=cluster.environment, stdout=subprocess.PIPE, text=True)
    try:
        wait_for_epochs_below(raylet, folder / "runs")
        (made,) = (folder / "runs").iterdir()
        before = reported(made)
        cluster.remove_node()
        output, _ = driver.communicate(timeout=PATIENCE)
    finally:
        driver.kill()
    assert driver.returncode == 0, output
    assert output.splitlines()[-1] == f"run: {made}"
    return made, before


def wait_for_epochs_below(raylet: int, storage: Path) -> None:
    """Wait until a worker of this node has reported."""
    deadline = time.monotonic() + PATIENCE
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
