"""Machines that join a cluster in the middle of a run: they are asked what those before them were asked."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from ray.exceptions import RayError

from tune_jobs.cluster.capacity import Cluster, Node
from tune_jobs.errors import TuneJobsError

SECONDS_BETWEEN_LOOKS = 2.0


class Newcomers:
    """Asks nodes that were not there before, beside the run, and tells what is wrong with them.

    Ray may give a trial to such a node all the same; what is told here says why it fails there.

    Args:
        look: at the cluster.
        ask: the nodes whatever they must be asked; it takes its time, and raises where one is not fit.
        tell: is called with what is wrong, in one line, out of `look`.
    """

    def __init__(
        self,
        look: Callable[[], Cluster],
        ask: Callable[[Sequence[Node]], object],
        tell: Callable[[str], None],
    ) -> None:
        self._look = look
        self._ask = ask
        self._tell = tell
        self._known = {node.node_id for node in look().nodes}
        self._wrong: queue.Queue[str] = queue.Queue()
        self._looked = time.monotonic()

    def look(self) -> None:
        """Begins to ask those that are new, and tells what others have answered; every two seconds at most."""
        if time.monotonic() < self._looked + SECONDS_BETWEEN_LOOKS:
            return
        self._looked = time.monotonic()
        new = [node for node in self._look().nodes if node.node_id not in self._known]
        self._known |= {node.node_id for node in new}
        if new:
            threading.Thread(target=self._question, args=(new,), name="newcomers", daemon=True).start()
        with suppress(queue.Empty):
            while True:
                self._tell(self._wrong.get_nowait())

    def _question(self, nodes: Sequence[Node]) -> None:
        try:
            with suppress(
                RayError, OSError, RuntimeError
            ):  # the run may end, or a node be lost, in the meantime
                self._ask(nodes)
        except TuneJobsError as error:
            names = ", ".join(node.name for node in nodes)
            self._wrong.put(
                f"of the machines that have joined ({names}) not all are fit: {error}. Mend it, or take it out"
            )
