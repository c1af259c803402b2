"""What Ray says of its nodes, in the words of `capacity`."""

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
"""Ray's cluster launcher leaves its resolved file in the home folder of the head, and its autoscaler reads it there."""
HEAD = "node:__internal_head__"
"""Ray gives this resource to the head, and to no other node."""
DEFAULT_WORKERS = 2
"""Machines beside the head that a launcher's file starts at most where it does not say."""


@dataclass(frozen=True)
class ClusterView:
    """The cluster that this process is connected to; each call returns its present state."""

    groups: Sequence[NodeGroup] = ()
    """What its autoscaler may start."""
    joined: bool = False
    """It was there before the run."""
    asked: frozenset[str] = frozenset()
    """Ids of the nodes that were there before the run; of a cluster at an address, they were asked, and found fit."""

    def __call__(self) -> Cluster:
        return cluster_now(self.groups, joined=self.joined)


def cluster_now(groups: Sequence[NodeGroup] = (), *, joined: bool = False) -> Cluster:
    """The cluster that this process is connected to.

    Args:
        groups: what its autoscaler may start.
        joined: it was there before the run.
    """
    import ray  # noqa: PLC0415

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
    """Whether this process is on the head of the cluster that it is connected to."""
    import ray  # noqa: PLC0415

    here = ray.get_runtime_context().get_node_id()
    return any(
        node["NodeID"] == here and HEAD in node["Resources"]
        for node in ray.nodes()  # type: ignore[no-untyped-call]  # Ray is typed in parts
    )


def free_resources() -> list[Bundle]:
    """What is free on each node that is alive."""
    return list(free_resources_of_nodes().values())


def groups_at(home: Path) -> tuple[NodeGroup, ...]:
    """The machines that a cluster's autoscaler may start, where its head has its home in `home`.

    None of them where the file is not there, or is not what Ray's launcher would leave: the autoscaler will tell.
    """
    path = home / LAUNCHED
    try:
        return node_groups(read_yaml(path)) if path.is_file() else ()
    except (JobError, OSError, TypeError, ValueError, AttributeError):
        return ()


def node_groups(launcher: Mapping[str, Any]) -> tuple[NodeGroup, ...]:
    """The same, from a launcher's file as the launcher has resolved it.

    A type whose resources Ray would have to find out is left out: its machines count once they are there.
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
