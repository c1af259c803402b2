"""Trials on declared GPUs: each sees its own device, shares of a GPU are packed, and more machines take more trials."""

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
from tests.processes import PATIENCE, start, wait_until
from tests.trainers.slope_command import with_repository
from tests.tune_jobs.runs import events_of, line_in
from tune_jobs import Run, open_run
from tune_jobs.record.events import TrialStarted

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("slope_kind")]

SEEING = """
    import json, os, pathlib
    import ray
    from tests.trainers.slope import Slope

    class Seeing(Slope):
        def start(self, request, data):
            seen = {"pid": os.getpid(), "sees": os.environ.get("CUDA_VISIBLE_DEVICES"), "given": ray.get_gpu_ids()}
            seen["node"] = ray.get_runtime_context().get_node_id()
            with open(pathlib.Path(self.slope.folder) / "seen.jsonl", "a") as file:
                file.write(json.dumps(seen) + "\\n")
            return super().start(request, data)
"""
"""A module beside the job: the small kind, which also notes the devices that each training sees."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[DeclaredNodes]:
    """Yield a cluster with one node that has two GPUs."""
    with declared_nodes(with_repository({}), num_cpus=1, num_gpus=2) as made:
        yield made


TUNE = """
import sys
from tune_jobs.cluster import placement
placement.SECONDS_TO_PLACE = 3.0
from tune_jobs.trainers.kinds import KindEntry, register
register(KindEntry("slope", ("slope",), "seeing:Seeing"))
from tune_jobs.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
"""A `tune-jobs` program with this kind that names a trial without a place earlier."""


def tuning(cluster: DeclaredNodes, folder: Path, **changes: object) -> subprocess.Popen[str]:
    """Run a job on the cluster whose model records the devices that it sees."""
    job = line_in(
        folder,
        {
            "slope": {"folder": str(folder), "hold": str(folder / "held"), "epochs": 2},
            "search/trials": 3,
            "scheduler/method": "none",
            "resources/max_concurrent": None,
            "resources/cpus_per_trial": 0.1,
            **changes,
        },
    )
    (folder / "seeing.py").write_text(textwrap.dedent(SEEING))
    (folder / "job.yaml").write_text(job.to_yaml())
    command = [sys.executable, "-c", TUNE, "run", "job.yaml", "--address", cluster.address]
    return start(
        command,
        cwd=folder,
        env=with_repository(cluster.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(driver: subprocess.Popen[str]) -> tuple[Run, str]:
    output, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 0, output
    return open_run(output.splitlines()[-1].removeprefix("run: ")), output


def seen_in(folder: Path) -> list[dict[str, object]]:
    seen = folder / "seen.jsonl"
    return [json.loads(line) for line in seen.read_text().splitlines()] if seen.exists() else []


def held_in(folder: Path) -> Path:
    """Hold trials before their last epoch until the returned file is removed."""
    held = folder / "held"
    held.touch()
    return held


def test_trials_wait_for_a_gpu_then_share_it_and_see_no_other(cluster: DeclaredNodes, tmp_path: Path) -> None:
    """Another program holds all GPUs at first."""
    holder = start(
        [sys.executable, "-c", HOLDER, cluster.address], env=cluster.environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    held = held_in(tmp_path)
    driver = tuning(cluster, tmp_path, **{"resources/gpus_per_trial": 0.5, "resources/max_concurrent": 3})
    assert driver.stdout is not None
    lines = []
    while "has waited" not in "".join(lines):
        lines.append(driver.stdout.readline())
        assert lines[-1], "".join(lines)
    assert "trial 0000 has waited 3 s for a machine" in lines[-1]
    assert "too little GPU is free: at most 0 on one machine" in lines[-1]
    holder.communicate("let go\n", timeout=PATIENCE)
    wait_until(lambda: len(seen_in(tmp_path)) == 3, "three trials at work", process=driver)
    held.unlink()
    made, _ = finished(driver)
    assert list(made.trials["status"]) == ["completed"] * 3
    seen = seen_in(tmp_path)
    assert len({row["pid"] for row in seen}) == 3
    assert sorted(Counter(row["sees"] for row in seen).items()) in (
        [("0", 2), ("1", 1)],
        [("0", 1), ("1", 2)],
    )
    assert all(row["given"] == [int(str(row["sees"]))] for row in seen)


def test_machines_that_join_take_trials_and_trials_without_a_gpu_see_none(
    cluster: DeclaredNodes, tmp_path: Path
) -> None:
    held = held_in(tmp_path)
    driver = tuning(cluster, tmp_path, **{"resources/cpus_per_trial": 1})
    wait_until(lambda: len(seen_in(tmp_path)) == 1, "a trial at work", process=driver)
    joined = time.time()
    cluster.add_node(num_cpus=1)
    cluster.keep_node()
    wait_until(lambda: len(seen_in(tmp_path)) == 2, "a trial on the new node", process=driver)
    held.unlink()
    made, _ = finished(driver)
    assert list(made.trials["status"]) == ["completed"] * 3, made.trials["reason"].tolist()
    assert len({row["node"] for row in seen_in(tmp_path)}) == 2
    assert {row["sees"] for row in seen_in(tmp_path)} == {""}
    started = [event.time for event in events_of(made) if isinstance(event, TrialStarted)]
    assert sum(begun < joined for begun in started) < len(started)
    assert most_at_once(made) == 2
    assert heads_among(cluster) == "[False, True]\n"


def heads_among(cluster: DeclaredNodes) -> str:
    """Return each machine's answer to whether it is the head."""
    asked = subprocess.run(
        [sys.executable, "-c", HEADS, cluster.address],
        env=cluster.environment, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    return asked.stdout or asked.stderr


HEADS = """
import sys
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On
from tune_jobs.cluster.view import is_head

ray.init(address=sys.argv[1], log_to_driver=False)
asked = ray.remote(num_cpus=0)(is_head)
places = [On(node["NodeID"], soft=False) for node in ray.nodes()]
print(sorted(ray.get([asked.options(scheduling_strategy=place).remote() for place in places])))
"""


HOLDER = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level=50)
class Holder:
    def here(self): return True
holder = ray.remote(num_gpus=2)(Holder).remote()
ray.get(holder.here.remote())
print("held", flush=True)
input()
"""


def most_at_once(made: Run) -> int:
    """Return the number of trials that were in progress at the same time."""
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
