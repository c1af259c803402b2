"""A thread that sends changes to an object store repeatedly, and continues after outages."""

import threading
from collections.abc import Callable

from tune_jobs.remote.store import LONGEST_PAUSE, StoreError

FIRST_PAUSE = 1.0
"""Seconds to wait after a first failure of the store; every further failure doubles them, up to `LONGEST_PAUSE`."""


class PeriodicSender:
    """Calls `send` at intervals in its own thread, or at once when it is woken.

    Args:
        name: The name of the thread.
        send: Sends what is new. After a `StoreError` it is called again, with growing pauses.
        seconds: Seconds between two calls.
        failed: Called with any other error of `send`. It is expected to stop this sender.
    """

    def __init__(
        self, name: str, send: Callable[[], None], seconds: float, failed: Callable[[Exception], None]
    ) -> None:
        self._send, self._seconds, self._failed = send, seconds, failed
        self._changed = threading.Condition()
        self._urgent = self._stopping = False
        self._thread = threading.Thread(target=self._repeat, name=name)

    @property
    def is_stopping(self) -> bool:
        """Return whether `stop` was called; a long `send` should then end early."""
        return self._stopping

    def start(self) -> None:
        """Start the thread. It ends at once if `stop` was called before."""
        self._thread.start()

    def wake(self) -> None:
        """Make the thread call `send` now."""
        with self._changed:
            self._urgent = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Tell the thread to end; `join` waits for it."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def join(self) -> None:
        """Wait for the end of the thread."""
        self._thread.join()

    def _repeat(self) -> None:
        pause = 0.0
        while not self._stopping:
            with self._changed:
                self._changed.wait_for(lambda: self._urgent or self._stopping, pause or self._seconds)
                self._urgent = False
            try:
                self._send()
                pause = 0.0
            except StoreError:
                pause = min(2 * pause or FIRST_PAUSE, LONGEST_PAUSE)
            except Exception as error:  # an error that ended this thread alone would stay unseen
                self._failed(error)
