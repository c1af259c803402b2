"""A machine of a cluster is lost in the middle of a run: its trials continue elsewhere, and none counts as failed."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.declared_nodes import DeclaredNodes, declared_nodes
from tests.faults.injection import CHAOS, Tally
from tests.faults.killing import Results, count_lost, reported
from tests.processes import PATIENCE, start
from tests.trainers.slope_command import COMMAND, with_repository
from tests.tune_jobs.runs import assert_curves_are_those_of_training_alone, events_of, line_in
from tune_jobs import open_run
from tune_jobs.record.events import EpochsReported, WorkerLost
from tune_jobs.record.journal import read_journal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.usefixtures("small_kind"),
    pytest.mark.skipif(not CHAOS, reason="`tests/cluster` loses a machine in the short form"),
]

LOST = 5


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
        assert_curves_are_those_of_training_alone(made)
        assert count_lost(before, made) == 0
        tally.outcomes["went on elsewhere"] += 1
    tally.report()


def run_and_lose(cluster: DeclaredNodes, folder: Path) -> tuple[Path, Results]:
    """Run a job on two nodes, and remove one as soon as a worker on it has reported; until then no trial ends.

    Returns:
        The run's folder, and the results that were reported up to then.
    """
    held = folder / "held"
    held.touch()
    changes = {
        "slope": {"epochs": 8, "pause": 0.3, "hold": str(held)},
        "search/space": {"rate": {"values": [0.01, 0.02, 0.03]}},
        "search/method": "grid",
        "scheduler": {"method": "none"},
        "limits/retries_per_trial": 0,
        "resources/max_concurrent": None,
    }
    job = line_in(folder, changes)
    (folder / "job.yaml").write_text(job.to_yaml())
    command = [*COMMAND, "run", "job.yaml", "--address", cluster.address]
    environment = with_repository(cluster.environment)
    raylet = cluster.add_node(num_cpus=1)
    driver = start(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        wait_for_epochs_below(raylet, folder / "runs")
        (made,) = (folder / "runs").iterdir()
        before = reported(made)
        cluster.remove_node()
        held.unlink()
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
