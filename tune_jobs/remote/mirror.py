"""Send a run to its object store while it lasts: the journal within about a second, all else at intervals.

The driver never waits for the store. Its own disk has every event before any listener receives it. The store has it
about a second later, or after an outage, even if files are uploaded meanwhile. A run counts as ended only after
the store has everything.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tune_jobs.errors import RunFolderError, StorageFailed
from tune_jobs.location import Location, location_of
from tune_jobs.record.events import Event, HoldoutUnsealed, RunEnded, TrialCreated, TrialEnded
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal
from tune_jobs.remote.file_uploader import FileUploader
from tune_jobs.remote.journal_uploader import JournalUploader
from tune_jobs.remote.lease import Lease, LeaseLost
from tune_jobs.remote.lease_keeper import LeaseKeeper
from tune_jobs.remote.outage import Outage
from tune_jobs.remote.sender import PeriodicSender
from tune_jobs.remote.store import Store, StoreError, call_with_retries
from tune_jobs.remote.working_copy import HERE
from tune_jobs.text import quoted

GROUP_SECONDS = 1.0
"""Seconds between two uploads of the journal; the events in between are sent together."""
FILES_SECONDS = 30.0
"""Seconds between two uploads of the files other than the journal; they are sent at the end too."""
END_SECONDS = 60.0
"""Seconds for which the end of a command waits for the store."""
_URGENT = (TrialEnded, HoldoutUnsealed, RunEnded)
"""Events that are sent at once."""

AfterUpload = Callable[[Callable[[], None]], None]
"""A function that runs a callback once all events so far are uploaded. A newer callback replaces an older one."""


@contextmanager
def mirrored(folder: RunFolder, journal: Journal, *, replace: bool = False) -> Iterator[AfterUpload]:
    """Keep the object store of a run up to date inside the block; do nothing for a run without a store.

    Args:
        folder: The run folder.
        journal: The open journal of the run.
        replace: Replace the store's journal if it is another one.

    Raises:
        RunInUse: A process of another machine is at work on the run.
        RunFolderError: The store cannot be reached at first, or the run was continued elsewhere.
        StorageFailed: Another process has taken over the run; or at the end, the store does not take the rest.
    """
    place = location_of(folder.path)
    if place is None:
        yield lambda call: call()
        return
    mirror = Mirror(folder, place, journal)
    mirror.begin(replace=replace)
    try:
        yield mirror.after_upload
    except BaseException:
        with suppress(StorageFailed):  # what has ended the run comes first
            mirror.end()
        raise
    mirror.end()


class Mirror:
    """Keeps the object store of one run up to date; see `mirrored`.

    The journal, the files, the lease and the watch for outages have a thread each, so none waits for another.

    Args:
        folder: The working copy.
        place: The place of the run in the store.
        journal: The open journal.
    """

    def __init__(self, folder: RunFolder, place: Location, journal: Journal) -> None:
        self._folder, self._place, self._journal = folder, place, journal
        self._store = Store(place)
        self._lease = LeaseKeeper(Lease(self._store), self._fail)
        self._outage = Outage(place, folder.path)
        self._events = JournalUploader(journal, self._store, self._outage, self._lease.ensure)
        self._files = FileUploader(folder, self._store, self._events.send_events, self._lease.ensure)
        self._event_sender = PeriodicSender(
            "journal of the run", self._events.send, GROUP_SECONDS, self._fail
        )
        self._file_sender = PeriodicSender("files of the run", self._send_files, FILES_SECONDS, self._fail)
        self._failing = threading.Lock()
        self._failure: StorageFailed | None = None
        self._raised = False
        """Whether the failure was raised to the journal."""

    def begin(self, *, replace: bool = False) -> None:
        """Take the lease and send what the store lacks; threads do so from then on. For errors see `mirrored`."""
        try:
            self._lease.take()
        except StoreError as error:
            raise self._unreachable(error) from error
        self._outage.start()
        try:
            self._events.begin(replace=replace)
            self._files.remember_sent()
            self._remove_unknown_trials()
            self._events.send_events()
            self._files.send()
        except BaseException as error:
            self._release()
            if isinstance(error, LeaseLost):
                raise self._failure_of(error) from None
            if isinstance(error, StoreError):
                raise self._unreachable(error) from error
            raise
        self._journal.follow(self)
        self._event_sender.start()
        self._file_sender.start()

    def __call__(self, event: Event) -> None:
        """Take note of an event that was appended to the journal.

        Raises:
            StorageFailed: The store can no longer be kept up to date; raised once.
        """
        if self._failure is not None and not self._raised:
            self._raised = True
            raise self._failure
        if isinstance(event, _URGENT):
            self._event_sender.wake()

    def after_upload(self, call: Callable[[], None]) -> None:
        """Make `call` in a thread once the store has all events so far. It replaces an older call."""
        self._events.after_upload(call)

    def end(self) -> None:
        """Send all that is left, and give the lease back.

        Raises:
            StorageFailed: The store does not take the rest, which stays on this machine.
        """
        self._stop_sending()
        self._event_sender.join()
        self._file_sender.join()
        try:
            self._send_rest()
        finally:
            self._release()

    def _stop_sending(self) -> None:
        self._event_sender.stop()
        self._file_sender.stop()

    def _release(self) -> None:
        self._outage.stop()
        self._lease.give_back()

    def _send_files(self) -> None:
        self._files.send(lambda: self._file_sender.is_stopping)

    def _send_rest(self) -> None:
        if self._failure is not None:
            if not self._raised:
                raise self._failure
            return
        try:
            call_with_retries(self._send_all, END_SECONDS)
        except LeaseLost as error:
            raise self._failure_of(error) from None
        except StoreError as error:
            raise StorageFailed(
                f"{self._place}: does not have the whole run yet ({error.strerror}); the rest is safe {HERE}"
                f"{self._folder.path}, and `tune-jobs resume {quoted(self._place)}`, run here, sends it",
                self._folder.path,
            ) from error

    def _send_all(self) -> None:
        self._lease.renew()
        self._events.send()
        self._files.send()

    def _remove_unknown_trials(self) -> None:
        """Remove checkpoints of trials that the journal does not know: their creation was lost with a machine.

        A resumed run gives their ids to other trials.
        """
        known = {event.trial_id for event in self._journal.past if isinstance(event, TrialCreated)}
        for name in self._store.folders("checkpoints"):
            if name.isdecimal() and name not in known:
                self._lease.ensure()
                self._store.delete_all(f"checkpoints/{name}")

    def _fail(self, error: Exception) -> None:
        """Stop the threads that send. Only the first failure is raised."""
        with self._failing:
            self._failure = self._failure or self._failure_of(error)
        self._stop_sending()

    def _failure_of(self, error: Exception) -> StorageFailed:
        """Return the failure that an error other than an outage means for the run."""
        if isinstance(error, StorageFailed):
            return error
        if isinstance(error, LeaseLost):
            return StorageFailed(
                f"{self._place}: another process has taken over this run, because this process was silent for "
                f"too long; this process has stopped, and the other one continues. What this process did "
                f"meanwhile is {HERE}{self._folder.path}",
                self._folder.path,
            )
        return StorageFailed(
            f"{self._place}: cannot be written to ({type(error).__name__}: {error}); the run has stopped, "
            f"and everything reported is safe {HERE}{self._folder.path}",
            self._folder.path,
        )

    def _unreachable(self, error: StoreError) -> RunFolderError:
        return RunFolderError(f"{self._place}: cannot be written to ({error.strerror})")
