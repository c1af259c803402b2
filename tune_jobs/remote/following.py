"""Keep this machine's copy of a run up to date while someone watches the run."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from tune_jobs.errors import TuneJobsError
from tune_jobs.location import location_of
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import in_use
from tune_jobs.remote import segments
from tune_jobs.remote.store import Store
from tune_jobs.remote.working_copy import lock_copy, pull, update_journal

SECONDS_BETWEEN_DOWNLOADS = 1.0
"""Seconds between two updates of the journal of a copy."""
SECONDS_BETWEEN_FILES = 30.0
"""Seconds between two updates of all files of a copy; the journal alone shows the progress of a run."""


@contextmanager
def keep_up_to_date(folder: RunFolder) -> Iterator[None]:
    """Update a copy inside the block: its journal every second, its other files now and then, and all at the end.

    A run folder that is no copy is left as it is.
    """
    place = location_of(folder.path)
    if place is None:
        yield
        return
    over = threading.Event()
    follower = CopyFollower(folder, Store(place))

    def follow() -> None:
        due = time.monotonic() + SECONDS_BETWEEN_FILES
        while not over.wait(SECONDS_BETWEEN_DOWNLOADS):
            with suppress(TuneJobsError, OSError):  # the next attempt may succeed
                follower.update()
                if time.monotonic() > due:
                    pull(place)
                    due = time.monotonic() + SECONDS_BETWEEN_FILES

    thread = threading.Thread(target=follow, name="copy of the run")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    with suppress(TuneJobsError, OSError):  # the copy is shown as it is
        pull(place)


class CopyFollower:
    """Updates the journal of a copy repeatedly, and reads only the pieces that may be new.

    Args:
        folder: The copy.
        store: The store of the run.
    """

    def __init__(self, folder: RunFolder, store: Store) -> None:
        self._folder, self._store = folder, store
        self._known: Sequence[segments.Piece] = ()
        """Pieces that this object has copied."""

    def update(self) -> None:
        """Update the journal. A piece that grew is read from its beginning, and compared with the copy.

        Raises:
            DamagedRun: An object of the journal is missing.
            StoreError: The store cannot be reached.
        """
        journal = self._folder.journal
        with lock_copy(self._folder):
            if in_use(journal):
                return
            now = segments.pieces(segments.segments(self._store))
            start = segments.first_change(self._known, now)
            if start is None:
                return
            if start > journal.stat().st_size:  # the copy was cut meanwhile
                start = 0
            update_journal(journal, segments.read_pieces(self._store, now, start), start)
            self._known = now
