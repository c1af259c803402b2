"""A folder that all machines share is used and left as it was. Each machine knows whether it is the head."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.declared_nodes import declared_nodes
from tests.processes import PATIENCE
from tests.tune_jobs.runs import job_in
from tune_jobs import open_run

pytestmark = pytest.mark.slow

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


def test_a_folder_that_all_nodes_share_is_used_and_the_check_leaves_nothing(tmp_path: Path) -> None:
    job = job_in(tmp_path, {"search/trials": 3})
    (tmp_path / "job.yaml").write_text(job.to_yaml())
    with declared_nodes(num_cpus=1) as cluster:
        cluster.add_node(num_cpus=1)
        cluster.keep_node()
        command = [sys.executable, "-m", "tune_jobs", "run", "job.yaml", "--address", cluster.address]
        ran, asked = (
            subprocess.run(
                each,
                cwd=tmp_path,
                env=cluster.environment,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            for each in (command, [sys.executable, "-c", HEADS, cluster.address])
        )
    assert asked.stdout == "[False, True]\n", asked.stderr
    assert ran.returncode == 0, ran.stderr
    made = open_run(ran.stdout.splitlines()[-1].removeprefix("run: "))
    assert len(made.trials) == 3
    assert not [path for path in (made.path / "checkpoints").iterdir() if path.name.startswith(".")]
