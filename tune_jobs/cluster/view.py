"""Return what Ray says about its nodes, as the values of `capacity`.

The functions import Ray: this module is imported before `tuning.ray_session` sets the variables that Ray then reads.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune_jobs.cluster.capacity import Bundle, Cluster, Node, NodeGroup
from tune_jobs.cluster.ray_internals import free_resources_of_nodes
from tune_jobs.errors import JobError
from tune_jobs.job.file import read_yaml

LAUNCHED = "ray_bootstrap_config.yaml"
"""Name of the resolved file of Ray's cluster launcher; the autoscaler reads it in the home folder of the head."""
HEAD = "node:__internal_head__"
"""Name of the resource that only the head has."""
DEFAULT_WORKERS = 2
"""The most machines besides the head that a launcher starts if its file does not say."""


@dataclass(frozen=True)
class ClusterView:
    """The cluster that this process is connected to; each call returns its present state."""

    groups: Sequence[NodeGroup] = ()
    """Machines that its autoscaler may start."""
    joined: bool = False
    """Whether it existed before the run."""
    asked: frozenset[str] = frozenset()
    """Ids of the nodes that were present before the run; those of a joined cluster were checked."""

    def __call__(self) -> Cluster:
        return cluster_now(self.groups, joined=self.joined)


def cluster_now(groups: Sequence[NodeGroup] = (), *, joined: bool = False) -> Cluster:
    """Return the present state of the cluster that this process is connected to.

    Args:
        groups: Machines that its autoscaler may start.
        joined: Whether it existed before the run.
    """
    import ray  # noqa: PLC0415 (see the module)

    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]  # Ray is typed in parts
    hosts = Counter(_host(node) for node in alive)
    nodes = [
        Node(
            node["NodeID"],
            _host(node) if hosts[_host(node)] == 1 else f"{_host(node)}-{node['NodeID'][:6]}",
            node["Resources"],
        )
        for node in alive
    ]
    return Cluster(nodes, groups, joined)


def _host(node: Mapping[str, Any]) -> str:
    return str(node["NodeManagerHostname"] or node["NodeManagerAddress"])


def is_head() -> bool:
    """Return whether this process is on the head of the cluster that it is connected to."""
    import ray  # noqa: PLC0415 (see the module)

    here = ray.get_runtime_context().get_node_id()
    return any(
        node["NodeID"] == here and HEAD in node["Resources"]
        for node in ray.nodes()  # type: ignore[no-untyped-call]  # Ray is typed in parts
    )


def free_resources() -> list[Bundle]:
    """Return the free resources of each node that is alive."""
    return list(free_resources_of_nodes().values())


def groups_at(home: Path) -> tuple[NodeGroup, ...]:
    """Return the machines that a cluster's autoscaler may start; `home` is the home folder of its head.

    Without a file there, or if it is not the launcher's, there are none.
    """
    path = home / LAUNCHED
    try:
        return node_groups(read_yaml(path)) if path.is_file() else ()
    except (JobError, OSError, TypeError, ValueError, AttributeError):
        return ()


def node_groups(launcher: Mapping[str, Any]) -> tuple[NodeGroup, ...]:
    """Return the machines that an autoscaler may start, from a launcher's resolved file.

    A type without resources is left out: its machines count when they are present.
    """
    types: Mapping[str, Any] = launcher.get("available_node_types") or {}
    head, left = launcher.get("head_node_type"), int(launcher.get("max_workers", DEFAULT_WORKERS))
    kinds = [
        (_amounts(kind["resources"]), int(kind.get("max_workers", 0 if name == head else left)), name == head)
        for name, kind in types.items()
        if kind.get("resources")
    ]
    groups = [NodeGroup(resources, 1) for resources, _, is_head in kinds if is_head]
    # The launcher's limit is for all kinds together; the larger machines come first, since this is an upper bound.
    for resources, most, _ in sorted(
        kinds, key=lambda kind: (-kind[0].get("GPU", 0), -kind[0].get("CPU", 0))
    ):
        if number := min(most, left):
            groups.append(NodeGroup(resources, number))
            left -= number
    return tuple(groups)


def _amounts(resources: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(amount) for name, amount in resources.items()}
