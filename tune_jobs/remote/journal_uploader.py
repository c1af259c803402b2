"""Send the events of a run to its object store, and make calls that must wait until the store has them."""

import threading
from collections.abc import Callable

from tune_jobs.errors import RunFolderError
from tune_jobs.record.journal import Journal
from tune_jobs.remote.outage import Outage
from tune_jobs.remote.segments import SegmentWriter, read_from, replace_journal
from tune_jobs.remote.store import Store, StoreError


class JournalUploader:
    """Sends the events of the journal that the store lacks.

    Args:
        journal: The open journal.
        store: The store of the run.
        outage: Observes every attempt to send.
        ensure_lease: Raises if this process may not write to the run. Called before every write.
    """

    def __init__(
        self, journal: Journal, store: Store, outage: Outage, ensure_lease: Callable[[], None]
    ) -> None:
        self._journal, self._store, self._outage = journal, store, outage
        self._ensure_lease = ensure_lease
        self._writer: SegmentWriter
        """Made by `begin`."""
        self._sending = threading.Lock()
        """Held by the thread that sends events."""
        self._waiting = threading.Lock()
        """Held while `_after` is read and changed."""
        self._after: Callable[[], None] | None = None

    def begin(self, *, replace: bool) -> None:
        """Find out how much of the journal the store has. The other methods send the rest.

        Args:
            replace: Replace the store's journal if it is another one.

        Raises:
            RunFolderError: The store's journal is another one, and `replace` is false: the run was continued elsewhere.
            LeaseLost: This process may not write to the run any more.
            StoreError: The store cannot be reached.
        """
        sent = self._bytes_in_store(replace=replace)
        self._writer = SegmentWriter(self._store, self._journal.path, sent)

    def after_upload(self, call: Callable[[], None]) -> None:
        """Make `call` in the next `send`, once the store has all events so far. It replaces an older call."""
        with self._waiting:
            self._after = call

    def send(self) -> None:
        """Send all events so far, then make the call that waits for them.

        Raises:
            LeaseLost: This process may not write to the run any more.
            StorageFailed: Another program has changed the file of the journal.
            StoreError: The store does not take them; the call waits for the next time.
        """
        with self._waiting:
            after, self._after = self._after, None
        try:
            self.send_events()
            if after is not None:
                self._ensure_lease()
                after()
        except StoreError:
            with self._waiting:
                self._after = self._after or after
            raise

    def send_events(self) -> None:
        """Send all events so far.

        Raises:
            LeaseLost, StorageFailed, StoreError: See `send`.
        """
        with self._sending:
            if self._journal.size > self._writer.sent:
                self._journal.refuse_foreign_changes()  # the store would get the lines of another file
                with self._outage.observe():
                    self._ensure_lease()
                    self._writer.send(self._journal.size)

    def _bytes_in_store(self, *, replace: bool) -> int:
        """Return the number of bytes of the journal that the store has."""
        kept = read_from(self._store)
        here = self._journal.path.read_bytes()[: self._journal.size]
        if here.startswith(kept):
            return len(kept)
        if replace:
            self._ensure_lease()
            replace_journal(self._store, here)
            return len(here)
        raise RunFolderError(
            f"{self._store.place}: the run was continued elsewhere after it was read; run the command again"
        )
