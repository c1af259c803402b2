"""Machines that join a run are asked once, beside it, and what is wrong with them is told."""

import threading
import time
from collections.abc import Sequence

import pytest

from tune_jobs.cluster import newcomers
from tune_jobs.cluster.capacity import Cluster, Node
from tune_jobs.cluster.newcomers import Newcomers
from tune_jobs.errors import ResourceError


def node(name: str) -> Node:
    return Node(f"id-{name}", name, {"CPU": 1.0})


class Questioned:
    """A cluster that grows, and the nodes that were asked."""

    def __init__(self) -> None:
        self.nodes = [node("head")]
        self.asked: list[str] = []
        self.told: list[str] = []
        self.held = threading.Event()
        self.held.set()

    def look(self) -> Cluster:
        return Cluster(list(self.nodes))

    def ask(self, nodes: Sequence[Node]) -> None:
        self.held.wait(10)
        self.asked += [node.name for node in nodes]
        if any(node.name == "odd" for node in nodes):
            raise ResourceError("odd: torch 2.12.0 there and 2.13.0 here")
        if any(node.name == "lost" for node in nodes):
            raise RuntimeError("it was lost while it was asked")


@pytest.fixture
def questioned(monkeypatch: pytest.MonkeyPatch) -> Questioned:
    monkeypatch.setattr(newcomers, "SECONDS_BETWEEN_LOOKS", -1.0)
    return Questioned()


def looks(watch: Newcomers, questioned: Questioned, asked: int) -> None:
    """Looks until so many nodes were asked, and once more."""
    until = time.monotonic() + 10
    while len(questioned.asked) < asked and time.monotonic() < until:
        watch.look()
        time.sleep(0.01)
    time.sleep(0.05)
    watch.look()


def test_those_that_were_there_before_are_not_asked_again(questioned: Questioned) -> None:
    watch = Newcomers(questioned.look, questioned.ask, questioned.told.append)
    questioned.nodes += [node("new"), node("odd")]
    looks(watch, questioned, asked=2)
    looks(watch, questioned, asked=2)
    assert questioned.asked == ["new", "odd"]
    assert questioned.told == [
        "of the machines that have joined (new, odd) not all are fit: odd: torch 2.12.0 there and 2.13.0 here. "
        "Mend it, or take it out"
    ]


def test_the_run_does_not_wait_for_the_answer(questioned: Questioned) -> None:
    watch = Newcomers(questioned.look, questioned.ask, questioned.told.append)
    questioned.held.clear()
    questioned.nodes.append(node("odd"))
    watch.look()
    watch.look()
    assert questioned.asked == questioned.told == []
    questioned.held.set()
    looks(watch, questioned, asked=1)
    assert len(questioned.told) == 1


def test_a_machine_that_is_lost_while_it_is_asked_is_nobodys_fault(questioned: Questioned) -> None:
    watch = Newcomers(questioned.look, questioned.ask, questioned.told.append)
    questioned.nodes.append(node("lost"))
    looks(watch, questioned, asked=1)
    assert questioned.told == []
