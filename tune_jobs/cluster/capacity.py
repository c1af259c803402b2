"""How many trials the nodes of a cluster have room for: arithmetic on what each node has.

A bundle is what Ray places on one node as a whole, as `{"CPU": 1, "GPU": 0.5}`; a trial is one bundle, or several
alike where several workers train it.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tune_jobs.errors import ResourceError
from tune_jobs.job.settings import ResourceSettings

Bundle = Mapping[str, float]
"""Amounts by the name of a resource."""

SECONDS_BETWEEN_VIEWS = 1.0
"""Nodes that join or leave a cluster are noticed this often."""
_SETTINGS = {"CPU": "cpus_per_trial", "GPU": "gpus_per_trial"}
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Node:
    """A machine of the cluster."""

    node_id: str
    name: str
    """Its host name or address, for people; no other node has it."""
    resources: Bundle
    """All that it has, taken or not."""


@dataclass(frozen=True)
class NodeGroup:
    """Machines of one kind that an autoscaler may start."""

    resources: Bundle
    """Of one of them."""
    most: int
    """There are never more of them."""


@dataclass(frozen=True)
class Cluster:
    """What Ray has to give."""

    nodes: Sequence[Node]
    """Those that are alive."""
    groups: Sequence[NodeGroup] = ()
    """What an autoscaler may bring it to, present nodes of these groups included; empty without one."""
    joined: bool = False
    """It was joined at an address: whoever reads a message may be at none of its machines."""

    @property
    def grows(self) -> bool:
        """An autoscaler may start machines that are not there yet."""
        return sum(group.most for group in self.groups) > len(self.nodes)

    def places(self, bundle: Bundle) -> int:
        """How many bundles the nodes have room for now, were they empty."""
        return sum(places_on(node.resources, bundle) for node in self.nodes)

    def most_places(self, bundle: Bundle) -> int:
        """How many they have room for once an autoscaler has started all that it may."""
        return max(
            self.places(bundle), sum(group.most * places_on(group.resources, bundle) for group in self.groups)
        )

    def concurrent_trials(self, resources: ResourceSettings) -> int:
        """How many trials are run at a time.

        Where an autoscaler may start machines, it is as many as they all have room for: those that wait for a
        place are what it starts machines for.

        Raises:
            ResourceError: there never is room for a single one.
        """
        bundle, workers = workers_of(resources.bundles)
        trials = self.most_places(bundle) // workers
        if trials == 0:
            raise ResourceError(_no_room(self, bundle, workers))
        return trials if resources.max_concurrent is None else min(trials, resources.max_concurrent)


class Capacity:
    """How many trials are run at a time, from moment to moment: a cluster grows and shrinks.

    Args:
        resources: of the job.
        view: of the cluster; it is called once a second at most.

    Raises:
        ResourceError: there never is room for a single trial.
    """

    def __init__(self, resources: ResourceSettings, view: Callable[[], Cluster]) -> None:
        self.first = view().concurrent_trials(resources)
        """At the beginning."""
        self._resources = resources
        self._view = view
        self._now = self.first
        self._viewed = time.monotonic()

    def __call__(self) -> int:
        """At least one, since nodes that were lost may come back."""
        if time.monotonic() - self._viewed > SECONDS_BETWEEN_VIEWS:
            self._viewed = time.monotonic()
            try:
                self._now = self._view().concurrent_trials(self._resources)
            except ResourceError:
                self._now = 1
        return self._now


def workers_of(bundles: Sequence[Bundle]) -> tuple[Bundle, int]:
    """What one worker of a trial takes, and how many there are; a bundle that takes nothing fits anywhere."""
    workers = [bundle for bundle in bundles if bundle]
    return workers[0], len(workers)


def places_on(resources: Bundle, bundle: Bundle) -> int:
    """How many bundles one empty node has room for.

    Below one GPU a trial never spans two of them: what is left over on each is of no use.
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


def lacking(bundle: Bundle, nodes: Sequence[Bundle]) -> str | None:
    """The resource that keeps a bundle from being placed on any of the nodes; None where one would take it.

    Args:
        bundle: to be placed.
        nodes: what is free on each. Of GPUs that may be shares of several, so that one that would do in the sum is
            not said to be lacking.
    """

    def has(free: Bundle, name: str) -> bool:
        return free.get(name, 0.0) + _ROUNDING >= bundle[name]

    if any(all(has(free, name) for name in bundle) for free in nodes):
        return None
    for name in ("GPU", *bundle):  # what is scarcest is named
        if name in bundle and not any(has(free, name) for free in nodes):
            return name
    return " and ".join(bundle)  # each is free somewhere, and nowhere are they together


def bundle_text(bundle: Bundle) -> str:
    """`1 CPU and 0.5 GPU`."""
    return " and ".join(f"{amount:g} {name}" for name, amount in bundle.items() if amount > 0) or "nothing"


def _no_room(cluster: Cluster, bundle: Bundle, workers: int) -> str:
    offers = [node.resources for node in cluster.nodes] + [group.resources for group in cluster.groups]
    for name, setting in _SETTINGS.items():
        needed = bundle.get(name, 0.0)
        present = max((offer.get(name, 0.0) for offer in offers), default=0.0)
        if needed > present:
            ask = f"set `--resources.{setting}` to at most {present:g}" if present else f"ask for no {name}"
            return (
                f"resources.{setting}: a {'trial' if workers == 1 else 'worker'} asks for {needed:g}, and "
                f"{_machine(cluster)} has {present:g}; {ask}, or use a larger machine or cluster"
            )
    if workers > 1 and cluster.most_places(bundle):
        return (
            f"resources.workers_per_trial: a trial asks for {workers} workers of {bundle_text(bundle)} each, and "
            f"there is room for {cluster.most_places(bundle)}; set `--resources.workers_per_trial` to at most "
            "that, or use a larger machine or cluster"
        )
    have = "; ".join(
        f"{node.name}: {bundle_text({name: node.resources.get(name, 0) for name in bundle})}"
        for node in cluster.nodes
    )
    return (
        f"resources: a {'trial' if workers == 1 else 'worker'} asks for {bundle_text(bundle)} on one machine, and "
        f"none has both ({have}); ask for less, or use other machines"
    )


def _machine(cluster: Cluster) -> str:
    own = len(cluster.nodes) == 1 and not cluster.groups and not cluster.joined
    return "this machine" if own else "the largest machine of the cluster"
