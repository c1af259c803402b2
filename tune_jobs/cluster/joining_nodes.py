"""Check machines that join a cluster during a run, as the first ones were checked."""

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
"""Seconds between two searches for new nodes."""
SECONDS_BEFORE_ASKING_AGAIN = 30.0
"""Seconds before a node is asked again, if the node was not the reason why asking failed."""
SECONDS_TO_END = 3.0
"""Seconds to wait for running checks at the end of a run; an object store may take longer."""

Ask = Callable[[Sequence[Node], Callable[[], bool]], object]


class JoiningNodes:
    """Checks new nodes in a thread, and reports what is wrong with them.

    Ray may give a trial to an unfit node anyway; the report then says why it fails there. Use this as a context
    manager: after the block no node is asked any more.

    Args:
        known: Ids of the nodes that have been checked before.
        view: Returns the state of the cluster.
        ask: Checks nodes, which may take long, and raises `ResourceError` if one is unfit. Its second argument says
            whether to stop.
        tell: Called by `check` with a problem, in one line.
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
        """Start to check new nodes, and report what others have answered; at most every two seconds."""
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
                f"some machines that joined the cluster ({names}) are unfit: {error}. Fix them, or remove them"
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
