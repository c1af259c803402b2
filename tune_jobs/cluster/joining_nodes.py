"""Machines that join a cluster in the middle of a run: they are asked what those before them were asked."""

import queue
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Self

from ray.exceptions import RayError

from tune_jobs.cluster.capacity import Cluster, Node
from tune_jobs.cluster.node_checks import ChecksCancelled
from tune_jobs.errors import ResourceError, TuneJobsError

SECONDS_BETWEEN_NODE_CHECKS = 2.0
SECONDS_BEFORE_ASKING_AGAIN = 30.0
"""Where a node could not be asked, for a reason that is not its own."""
SECONDS_TO_END = 3.0
"""Whoever asks is waited for at the end: then Ray goes, and an object store may take its time."""

Ask = Callable[[Sequence[Node], Callable[[], bool]], object]


class JoiningNodes:
    """Asks nodes that were not there before, beside the run, and tells what is wrong with them.

    Ray may give a trial to such a node all the same; what is told here says why it fails there. To be used as a
    context: at its end, while Ray is still there, nobody is asked any more.

    Args:
        known: ids of the nodes that have been asked before.
        view: of the cluster.
        ask: some nodes whatever they must be asked; it takes its time, and raises `ResourceError` where one is not
            fit. Its second argument says whether it is to end.
        tell: is called with what is wrong, in one line, by `check`.
    """

    def __init__(
        self, known: Collection[str], view: Callable[[], Cluster], ask: Ask, tell: Callable[[str], None]
    ) -> None:
        self._known = set(known)
        self._view = view
        self._ask = ask
        self._tell = tell
        self._wrong: queue.Queue[str] = queue.Queue()
        self._not_asked: queue.Queue[str] = queue.Queue()
        self._checked = float("-inf")
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        until = time.monotonic() + SECONDS_TO_END
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def check(self) -> None:
        """Begins to ask those that are new, and tells what others have answered; every two seconds at most."""
        if time.monotonic() < self._checked + SECONDS_BETWEEN_NODE_CHECKS:
            return
        self._checked = time.monotonic()
        self._known -= set(_all_in(self._not_asked))
        new = [node for node in self._view().nodes if node.node_id not in self._known]
        self._known |= {node.node_id for node in new}
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if new:
            thread = threading.Thread(target=self._question, args=(new,), name="joining nodes", daemon=True)
            self._threads.append(thread)
            thread.start()
        for wrong in _all_in(self._wrong):
            self._tell(wrong)

    def _question(self, nodes: Sequence[Node]) -> None:
        try:
            self._ask(nodes, self._over.is_set)
        except ChecksCancelled:
            return
        except ResourceError as error:
            names = ", ".join(node.name for node in nodes)
            self._wrong.put(
                f"of the machines that have joined ({names}) not all are fit: {error}. Mend it, or take it out"
            )
        except (TuneJobsError, RayError, OSError, RuntimeError):  # a node was lost, or a store out of reach
            self._over.wait(SECONDS_BEFORE_ASKING_AGAIN)
            for node in nodes:
                self._not_asked.put(node.node_id)


def _all_in(waiting: queue.Queue[str]) -> list[str]:
    found = []
    with suppress(queue.Empty):
        while True:
            found.append(waiting.get_nowait())
    return found
