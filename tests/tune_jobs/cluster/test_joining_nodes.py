"""Machines that join a run are checked once, in the background, and their problems are reported."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.processes import PATIENCE
from tune_jobs.cluster import joining_nodes
from tune_jobs.cluster.capacity import Cluster, Node
from tune_jobs.cluster.joining_nodes import JoiningNodes
from tune_jobs.cluster.node_checks import ChecksCancelled, check_nodes
from tune_jobs.errors import ResourceError, RunFolderError

UNFIT = (
    "some machines that joined the cluster (new, odd) are unfit: odd: torch 2.12.0 there and 2.13.0 here. "
    "Fix them, or remove them"
)


def node(name: str) -> Node:
    return Node(f"id-{name}", name, {"CPU": 1.0})


class Questioned:
    """A growing cluster, and the nodes that were asked."""

    def __init__(self) -> None:
        self.nodes = [node("head")]
        self.asked: list[str] = []
        self.told: list[str] = []
        self.failures: list[Exception] = []
        """The errors that the first questions raise."""
        self.held = threading.Event()
        self.held.set()

    def view(self) -> Cluster:
        return Cluster(list(self.nodes))

    def ask(self, nodes: Sequence[Node], over: Callable[[], bool]) -> None:
        while not self.held.wait(0.01):
            if over():
                raise ChecksCancelled
        self.asked += [node.name for node in nodes]
        if self.failures:
            raise self.failures.pop(0)
        if any(node.name == "odd" for node in nodes):
            raise ResourceError("odd: torch 2.12.0 there and 2.13.0 here")

    def watch(self) -> JoiningNodes:
        return JoiningNodes(["id-head"], self.view, self.ask, self.told.append)


@pytest.fixture
def questioned(monkeypatch: pytest.MonkeyPatch) -> Questioned:
    monkeypatch.setattr(joining_nodes, "SECONDS_BETWEEN_NODE_CHECKS", -1.0)
    monkeypatch.setattr(joining_nodes, "SECONDS_BEFORE_ASKING_AGAIN", 0.01)
    return Questioned()


def check_until(watch: JoiningNodes, seen: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE
    while not seen() and time.monotonic() < until:
        watch.check()
        time.sleep(0.01)
    assert seen()


def nobody_asks() -> bool:
    return not any(thread.name == "joining nodes" for thread in threading.enumerate())


def test_those_that_were_asked_before_are_not_asked_again(questioned: Questioned) -> None:
    with questioned.watch() as watch:
        questioned.nodes += [node("new"), node("odd")]
        check_until(watch, lambda: questioned.told)
        watch.check()
        questioned.nodes += [node("later")]
        check_until(watch, lambda: "later" in questioned.asked)
    assert questioned.asked == ["new", "odd", "later"]
    assert questioned.told == [UNFIT]


def test_an_old_node_that_was_not_asked_is_asked(questioned: Questioned) -> None:
    questioned.nodes += [node("new"), node("odd")]
    with questioned.watch() as watch:
        check_until(watch, lambda: questioned.told)
    assert questioned.told == [UNFIT]


def test_the_run_does_not_wait_for_the_answer(questioned: Questioned) -> None:
    with questioned.watch() as watch:
        questioned.held.clear()
        questioned.nodes += [node("new"), node("odd")]
        watch.check()
        watch.check()
        assert questioned.asked == questioned.told == []
        questioned.held.set()
        check_until(watch, lambda: questioned.told)
    assert questioned.told == [UNFIT]


@pytest.mark.parametrize(
    "failure",
    [RuntimeError("it was lost while it was asked"), OSError("busy"), RunFolderError("out of reach")],
)
def test_one_that_could_not_be_asked_is_asked_again(questioned: Questioned, failure: Exception) -> None:
    questioned.failures = [failure]
    with questioned.watch() as watch:
        questioned.nodes += [node("new"), node("odd")]
        check_until(watch, lambda: questioned.told)
    assert questioned.asked == ["new", "odd"] * 2
    assert questioned.told == [UNFIT]


def test_no_node_is_asked_after_the_end(questioned: Questioned) -> None:
    questioned.held.clear()
    with questioned.watch() as watch:
        questioned.nodes.append(node("new"))
        watch.check()
        assert not nobody_asks()
    assert nobody_asks()
    assert questioned.asked == []


@pytest.mark.slow
def test_checks_that_outlive_the_run_start_no_other_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from tune_jobs.tuning.ray_session import ray_connection

    # A class that is defined in the function travels to the node with its code.
    class Silent:
        def __init__(self, begun: Path) -> None:
            self.begun = begun

        def answer(self, node: str) -> str | None:
            self.begun.touch()
            time.sleep(600)
            return None

    monkeypatch.setattr(joining_nodes, "SECONDS_BETWEEN_NODE_CHECKS", -1.0)
    told: list[str] = []
    with ray_connection() as view:
        assert view.asked == {node.node_id for node in view().nodes}

        def ask(nodes: Sequence[Node], over: Callable[[], bool]) -> None:
            check_nodes(nodes, Silent(tmp_path / "begun"), over)

        with JoiningNodes((), view, ask, told.append) as watch:
            check_until(watch, (tmp_path / "begun").exists)
            assert not nobody_asks()
        assert nobody_asks()
        assert ray.is_initialized()
    assert not ray.is_initialized()
    with pytest.raises(ChecksCancelled):
        check_nodes([node("late")])
    assert not ray.is_initialized()
    assert told == []
