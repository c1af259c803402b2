"""Say in the log when an object store accepts nothing for long, and when it accepts objects again."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tune_jobs.location import Location
from tune_jobs.remote.store import StoreError
from tune_jobs.remote.working_copy import HERE

SECONDS_BEFORE_REPORT = 10.0
"""Seconds that an outage lasts before it is reported."""
SECONDS_BETWEEN_CHECKS = 1.0
"""Seconds between two checks whether an outage is long enough to be reported."""
_LOG = logging.getLogger(__name__)


class Outage:
    """The present outage of a store, if there is one.

    A separate thread watches for it, because the others may wait on a connection that stays silent.

    Args:
        place: The place of the run in the store.
        here: The folder on this machine that keeps everything meanwhile.
    """

    def __init__(self, place: Location, here: Path) -> None:
        self._place, self._here = place, here
        self._lock = threading.Lock()
        self._since: float | None = None
        self._reason = "it has not answered yet"
        self._reported = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="outages of the store", daemon=True)

    def start(self) -> None:
        """Start the thread that watches."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread that watches."""
        self._over.set()
        self._thread.join()

    @contextmanager
    def observe(self) -> Iterator[None]:
        """Note whether a call inside the block reaches the store: an outage begins and ends with these calls."""
        with self._lock:
            self._since = self._since or time.monotonic()
        try:
            yield
        except StoreError as error:
            self._reason = str(error.strerror)
            raise
        except BaseException:  # the store is not the cause
            with self._lock:
                self._since = None
            raise
        with self._lock:
            if self._reported:
                _LOG.warning("%s: accepts objects again", self._place)
            self._since, self._reported = None, False

    def report_if_due(self) -> None:
        """Report the outage once, if it has lasted long enough."""
        with self._lock:
            if (
                self._reported
                or self._since is None
                or time.monotonic() < self._since + SECONDS_BEFORE_REPORT
            ):
                return
            self._reported = True
        _LOG.warning(
            "%s: has accepted nothing for %g s (%s); the run continues. Everything is kept %s%s, and is sent when "
            "the store accepts objects again",
            self._place, SECONDS_BEFORE_REPORT, self._reason, HERE, self._here,
        )  # fmt: skip

    def _watch(self) -> None:
        self.report_if_due()
        while not self._over.wait(SECONDS_BETWEEN_CHECKS):
            self.report_if_due()
