"""Trials on declared GPUs: each sees its own device, shares are packed, and more machines take more trials."""

import json
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.declared_nodes import DeclaredNodes, declared_nodes
from tests.processes import PATIENCE, start
from tests.tune_jobs.runs import events_of, job_in
from tune_jobs import Run, open_run
from tune_jobs.cluster import placement
from tune_jobs.record.events import EpochsReported, TrialStarted
from tune_jobs.record.journal import read_journal

pytestmark = pytest.mark.slow

SEEING = """
    import json, os, pathlib, time
    import ray
    from torch import nn

    def make(input_shape, outputs, folder="."):
        seen = {"pid": os.getpid(), "sees": os.environ.get("CUDA_VISIBLE_DEVICES"), "given": ray.get_gpu_ids()}
        seen["node"] = ray.get_runtime_context().get_node_id()
        with open(pathlib.Path(folder) / "seen.jsonl", "a") as file:
            file.write(json.dumps(seen) + "\\n")
        return Slow(input_shape[0], outputs)

    class Slow(nn.Linear):
        def train(self, mode=True):
            time.sleep(0.3 if mode else 0)
            return super().train(mode)
"""


@pytest.fixture
def cluster() -> Iterator[DeclaredNodes]:
    with declared_nodes(num_cpus=2) as made:
        yield made


def tuning(cluster: DeclaredNodes, folder: Path, **changes: object) -> subprocess.Popen[str]:
    """A run on the cluster, of a model that writes down what it sees."""
    job = job_in(
        folder,
        {
            "model/name": "seeing:make",
            "model/arguments": {"folder": str(folder)},
            "search/trials": 8,
            "scheduler/method": "none",
            "training/max_epochs": 6,
            "training/device": "cpu",
            "resources/cpus_per_trial": 0.1,
            **changes,
        },
    )
    (folder / "seeing.py").write_text(textwrap.dedent(SEEING))
    (folder / "job.yaml").write_text(job.to_yaml())
    command = [sys.executable, "-m", "tune_jobs", "run", "job.yaml", "--address", cluster.address]
    return start(
        command,
        cwd=folder,
        env=cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(driver: subprocess.Popen[str]) -> tuple[Run, str]:
    output, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 0, output
    return open_run(output.splitlines()[-1].removeprefix("run: ")), output


def seen_in(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "seen.jsonl").read_text().splitlines()]


def test_two_trials_share_a_gpu_and_see_no_other(cluster: DeclaredNodes, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=2, num_gpus=2)
    cluster.keep_node()
    made, _ = finished(tuning(cluster, tmp_path, **{"resources/gpus_per_trial": 0.5}))
    assert list(made.trials["status"]) == ["completed"] * 8
    seen = seen_in(tmp_path)
    assert {row["sees"] for row in seen} == {"0", "1"}
    by_worker = {row["pid"]: row["sees"] for row in seen}
    assert Counter(by_worker.values()) == {"0": 2, "1": 2}
    assert all(row["given"] == [int(str(row["sees"]))] for row in seen)


def test_a_trial_without_a_gpu_sees_none(cluster: DeclaredNodes, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=2, num_gpus=2)
    cluster.keep_node()
    finished(tuning(cluster, tmp_path, **{"search/trials": 4, "resources/cpus_per_trial": 1}))
    assert {row["sees"] for row in seen_in(tmp_path)} == {""}


def test_machines_that_join_take_trials(cluster: DeclaredNodes, tmp_path: Path) -> None:
    driver = tuning(
        cluster, tmp_path, **{"search/trials": 16, "resources/cpus_per_trial": 1, "training/max_epochs": 20}
    )
    wait_for_report(tmp_path / "runs")
    cluster.add_node(num_cpus=2)
    cluster.keep_node()
    joined = time.time()
    made, _ = finished(driver)
    assert list(made.trials["status"]) == ["completed"] * 16, made.trials["reason"].tolist()
    assert len({row["node"] for row in seen_in(tmp_path)}) == 2
    started = [event.time for event in events_of(made) if isinstance(event, TrialStarted)]
    before = [event for event in events_of(made) if isinstance(event, TrialStarted) and event.time < joined]
    assert len(before) < len(started)
    assert most_at_once(made) == 4


def test_a_trial_that_finds_no_place_is_named(cluster: DeclaredNodes, tmp_path: Path) -> None:
    """Another program holds the only GPU."""
    cluster.add_node(num_cpus=2, num_gpus=1)
    cluster.keep_node()
    holder = start(
        [sys.executable, "-c", HOLDER, cluster.address], env=cluster.environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    driver = tuning(cluster, tmp_path, **{"search/trials": 2, "resources/gpus_per_trial": 1})
    assert driver.stdout is not None
    lines = []
    while "has found no place" not in "".join(lines):
        lines.append(driver.stdout.readline())
        assert lines[-1], "".join(lines)
    assert f"trial 0000 has found no place for {placement.SECONDS_TO_PLACE:g} s" in lines[-1]
    assert "what is missing is GPU: the most that is free on one machine is 0" in lines[-1]
    holder.communicate("let go\n", timeout=PATIENCE)
    made, _ = finished(driver)
    assert list(made.trials["status"]) == ["completed"] * 2


HOLDER = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level=50)
class Holder:
    def here(self): return True
holder = ray.remote(num_gpus=1)(Holder).remote()
ray.get(holder.here.remote())
print("held", flush=True)
input()
"""


def wait_for_report(storage: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for journal in storage.glob("*/journal/events.jsonl"):
            if any(isinstance(event, EpochsReported) for event in read_journal(journal)):
                return
        time.sleep(0.2)
    raise AssertionError("no trial has reported")


def most_at_once(made: Run) -> int:
    """Trials that were in progress at the same time."""
    changes = sorted(
        change
        for trial in made.record.trials.values()
        for change in ((trial.started, 1), (trial.ended, -1))
    )  # fmt: skip
    level = most = 0
    for _, change in changes:
        level += change
        most = max(most, level)
    return most
