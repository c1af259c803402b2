"""Compute how many trials the nodes of a cluster have room for.

A bundle is what Ray places on one node as a whole, such as `{"CPU": 1, "GPU": 0.5}`. A trial takes one bundle, or
several equal ones if several workers train it.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tune_jobs.errors import ResourceError
from tune_jobs.job.settings import ResourceSettings

Bundle = Mapping[str, float]
"""Amounts by name of the resource."""

SECONDS_BETWEEN_VIEWS = 1.0
"""Seconds between two views of a cluster. Nodes that join or leave it are noticed by the next view."""
_SETTINGS = {"CPU": "cpus_per_trial", "GPU": "gpus_per_trial"}
"""The key of `resources` that sets each resource of Ray."""
_ROUNDING = 1e-9
"""Tolerance for amounts of resources, whose sums are rounded."""


@dataclass(frozen=True)
class Node:
    """A machine of the cluster."""

    node_id: str
    name: str
    """The host name or address, for people; it is unique."""
    resources: Bundle
    """All resources of the machine, whether they are in use or not."""


@dataclass(frozen=True)
class NodeGroup:
    """Machines of one kind that an autoscaler may start."""

    resources: Bundle
    """Resources of one machine."""
    most: int
    """The limit on machines of this kind."""


@dataclass(frozen=True)
class Cluster:
    """The nodes of a cluster, and those that it may get."""

    nodes: Sequence[Node]
    """The nodes that are alive."""
    groups: Sequence[NodeGroup] = ()
    """Machines that an autoscaler may scale the cluster to, present nodes included; empty without an autoscaler."""
    joined: bool = False
    """Whether it was joined at an address; the reader of a message may then be at another machine."""

    @property
    def grows(self) -> bool:
        """Return whether an autoscaler may start more machines."""
        return sum(group.most for group in self.groups) > len(self.nodes)

    def places(self, bundle: Bundle) -> int:
        """Return how many bundles the present nodes have room for when they are empty."""
        return sum(places_on(node.resources, bundle) for node in self.nodes)

    def most_places(self, bundle: Bundle) -> int:
        """Return how many bundles there is room for once an autoscaler has started all machines that it may."""
        return max(
            self.places(bundle), sum(group.most * places_on(group.resources, bundle) for group in self.groups)
        )

    def concurrent_trials(self, resources: ResourceSettings) -> int:
        """Return how many trials run at the same time.

        If an autoscaler may start machines, all of them count: trials that wait for a place make it start them.

        Raises:
            ResourceError: There is never room for a single trial.
        """
        bundle, workers = workers_of(resources.bundles)
        trials = self.most_places(bundle) // workers
        if trials == 0:
            raise ResourceError(_no_room(self, bundle, workers))
        return trials if resources.max_concurrent is None else min(trials, resources.max_concurrent)


class Capacity:
    """The number of trials that can run at the same time now; a cluster grows and shrinks.

    Args:
        resources: The resources of the job.
        view: Returns the state of the cluster; called at most once a second.

    Raises:
        ResourceError: There is never room for a single trial.
    """

    def __init__(self, resources: ResourceSettings, view: Callable[[], Cluster]) -> None:
        self.first = view().concurrent_trials(resources)
        """The number at the beginning."""
        self._resources = resources
        self._view = view
        self._now = self.first
        self._viewed = time.monotonic()

    def __call__(self) -> int:
        """Return the present number, at least one: nodes that were lost may come back."""
        if time.monotonic() - self._viewed > SECONDS_BETWEEN_VIEWS:
            self._viewed = time.monotonic()
            try:
                self._now = self._view().concurrent_trials(self._resources)
            except ResourceError:
                self._now = 1
        return self._now


def workers_of(bundles: Sequence[Bundle]) -> tuple[Bundle, int]:
    """Return what one worker of a trial takes, and the number of workers; an empty bundle fits anywhere."""
    workers = [bundle for bundle in bundles if bundle]
    return workers[0], len(workers)


def places_on(resources: Bundle, bundle: Bundle) -> int:
    """Return how many bundles one empty node has room for.

    A trial with less than one GPU never spans two GPUs, so the rest of each GPU is of no use.
    """
    rooms = []
    for name, needed in bundle.items():
        if needed <= 0:
            continue
        present = resources.get(name, 0.0)
        if name == "GPU" and needed < 1:
            rooms.append(math.floor(present + _ROUNDING) * math.floor(1 / needed + _ROUNDING))
        else:
            rooms.append(math.floor(present / needed + _ROUNDING))
    return min(rooms, default=0)


def missing_resource(bundle: Bundle, nodes: Sequence[Bundle]) -> str | None:
    """Return the resource that keeps a bundle from every node; None if a node has room for it.

    Args:
        bundle: The bundle to place.
        nodes: The free resources of each node. Free GPUs may be shares of several, so a GPU that suffices
            only in the sum is not returned.
    """

    def has(free: Bundle, name: str) -> bool:
        return free.get(name, 0.0) + _ROUNDING >= bundle[name]

    if any(all(has(free, name) for name in bundle) for free in nodes):
        return None
    for name in ("GPU", *bundle):  # the scarcest one is named
        if name in bundle and not any(has(free, name) for free in nodes):
            return name
    return " and ".join(bundle)  # each is free on some node, but no node has all of them free


def bundle_text(bundle: Bundle) -> str:
    """Return a bundle as text: `1 CPU and 0.5 GPU`."""
    return " and ".join(f"{amount:g} {name}" for name, amount in bundle.items() if amount > 0) or "nothing"


def _no_room(cluster: Cluster, bundle: Bundle, workers: int) -> str:
    offers = [node.resources for node in cluster.nodes] + [group.resources for group in cluster.groups]
    for name, setting in _SETTINGS.items():
        needed = bundle.get(name, 0.0)
        present = max((offer.get(name, 0.0) for offer in offers), default=0.0)
        if needed > present:
            ask = f"set `--resources.{setting}` to at most {present:g}" if present else f"ask for no {name}"
            return (
                f"resources.{setting}: a {'trial' if workers == 1 else 'worker'} asks for {needed:g}, but "
                f"{_machine(cluster)} has {present:g}; {ask}, or use a larger machine or cluster"
            )
    if workers > 1 and cluster.most_places(bundle):
        return (
            f"resources.workers_per_trial: a trial asks for {workers} workers of {bundle_text(bundle)} each, but "
            f"there is room for {cluster.most_places(bundle)}; set `--resources.workers_per_trial` to at most "
            f"{cluster.most_places(bundle)}, or use a larger machine or cluster"
        )
    have = "; ".join(
        f"{node.name}: {bundle_text({name: node.resources.get(name, 0) for name in bundle})}"
        for node in cluster.nodes
    )
    return (
        f"resources: a {'trial' if workers == 1 else 'worker'} asks for {bundle_text(bundle)} on one machine, but "
        f"none has both ({have}); ask for less, or use other machines"
    )


def _machine(cluster: Cluster) -> str:
    own = len(cluster.nodes) == 1 and not cluster.groups and not cluster.joined
    return "this machine" if own else "the largest machine of the cluster"
