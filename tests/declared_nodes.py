"""A Ray cluster of declared machines on this one: separate processes that declare any number of CPUs and GPUs."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.killing import wait_until_gone
from tests.processes import PATIENCE

_PROGRAM = """
import json, os, sys, tempfile
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **json.loads(sys.argv[1])})
print(cluster.address, flush=True)
while (line := input()) != "end":
    # A folder of its own, as a machine has: else its agent would remove what those before it were sent.
    own = tempfile.mkdtemp(prefix="n", dir=os.environ["RAY_TMPDIR"])
    node = cluster.add_node(temp_dir=own, **json.loads(line))
    print(node.all_processes["raylet"][0].process.pid, flush=True)
    if input() == "remove":
        cluster.remove_node(node, allow_graceful=False)
    print("done", flush=True)
cluster.shutdown()
"""


class DeclaredNodes:
    """A cluster started by a separate process, so the Ray state of this process has no influence on it.

    Args:
        folder: The temporary folder of Ray.
        head: The resources of the head, such as `num_cpus=1`.
        environment: Environment variables of all its processes, in addition to those of this process.
    """

    def __init__(self, folder: Path, environment: dict[str, str], **head: float) -> None:
        self.environment = {
            **os.environ,
            "RAY_TMPDIR": str(folder),
            "RAY_AUTH_MODE": "disabled",
            **environment,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, json.dumps(head)],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.address = self._answer()

    def add_node(self, **has: float) -> int:
        """Add a node and return its raylet process. Only the last added node can be removed."""
        self._say(json.dumps(has))
        return int(self._answer())

    def keep_node(self) -> None:
        """Keep the node that was added last."""
        self._say("keep")
        assert self._answer() == "done"

    def remove_node(self) -> None:
        """Remove the node that was added last, as if it had lost power."""
        self._say("remove")
        assert self._answer() == "done"

    def close(self) -> None:
        self._process.communicate("end\n", timeout=PATIENCE)

    def _say(self, what: str) -> None:
        assert self._process.stdin is not None
        print(what, file=self._process.stdin, flush=True)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def declared_nodes(environment: dict[str, str] | None = None, **head: float) -> Iterator[DeclaredNodes]:
    """Yield a cluster and end all its processes after the block."""
    folder = Path(tempfile.mkdtemp(prefix="tjn"))
    made = DeclaredNodes(folder, environment or {}, **head)
    try:
        yield made
    finally:
        made.close()
        assert wait_until_gone(folder) == []
        shutil.rmtree(folder, ignore_errors=True)
