"""Hold the lease of a run, and renew it for as long as the run is written to."""

import threading
from collections.abc import Callable
from contextlib import suppress

from tune_jobs.remote.lease import Lease, LeaseLost
from tune_jobs.remote.store import StoreError

SECONDS_BETWEEN_RENEWALS = 1.0
"""Seconds between two checks whether the lease is due for renewal."""


class LeaseKeeper:
    """Takes a lease, renews it in a thread, and gives it back.

    It has its own thread, because the upload of a large file may take longer than a lease lasts.

    Args:
        lease: The lease of the run; not taken yet.
        lost: Called by the thread if another process has taken over the run.
    """

    def __init__(self, lease: Lease, lost: Callable[[LeaseLost], None]) -> None:
        self._lease, self._lost = lease, lost
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease of the run")

    def take(self) -> None:
        """Take the lease and start to renew it.

        Raises:
            RunInUse: Another process holds the lease.
            StoreError: The store cannot be reached.
        """
        self._lease.acquire()
        self._thread.start()

    def ensure(self) -> None:
        """Check that this process holds the lease. Call it before anything is written or removed.

        Raises:
            LeaseLost: Another process holds it.
            StoreError: The store cannot be reached, and the last renewal is long ago.
        """
        self._lease.ensure()

    def renew(self) -> None:
        """Renew the lease if it is due; see `Lease.renew`."""
        self._lease.renew()

    def give_back(self) -> None:
        """End the thread and release the lease. If the store cannot be reached, the lease becomes stale by itself."""
        self._over.set()
        self._thread.join()
        with suppress(StoreError):
            self._lease.release()

    def _keep(self) -> None:
        while not self._over.is_set():
            try:
                self._lease.renew()
            except LeaseLost as error:
                self._lost(error)
                return
            except StoreError:  # the next attempt may succeed
                pass
            self._over.wait(SECONDS_BETWEEN_RENEWALS)
