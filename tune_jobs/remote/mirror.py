"""Sends a run to its object store while it goes on: the journal within about a second, all else at intervals.

What the driver does never waits for the store. Its own disk has every event before anyone is told of it; the store
has them about a second later, or when an outage is over, whatever files are on their way meanwhile. Before a run is
said to have ended, the store has all.
"""

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tune_jobs.errors import RunFolderError, StorageFailed
from tune_jobs.location import Location, location_of
from tune_jobs.record.events import Event, HoldoutUnsealed, RunEnded, TrialCreated, TrialEnded
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal
from tune_jobs.remote import claims as openings
from tune_jobs.remote.lease import FOLDER as LEASE
from tune_jobs.remote.lease import Lease, LeaseLost
from tune_jobs.remote.segments import FOLDER as SEGMENTS
from tune_jobs.remote.segments import SegmentWriter, read_from, replace_journal
from tune_jobs.remote.store import LONGEST_PAUSE, Store, StoreError, persistently
from tune_jobs.remote.working_copy import HERE

GROUP_SECONDS = 1.0
"""Events of so long a time are sent together."""
FILES_SECONDS = 30.0
"""Files other than the journal are sent this often, and at the end."""
SECONDS_BETWEEN_RENEWALS = 1.0
"""Of looks whether the lease is due."""
END_SECONDS = 60.0
"""So long the store is waited for at the end of a command."""
SECONDS_UNTOLD = 10.0
"""Of an outage: shorter ones are nobody's business."""
_LOG = logging.getLogger(__name__)
_URGENT = (TrialEnded, HoldoutUnsealed, RunEnded)
_NOT_SENT = ("checkpoints", "ray")
_PART = re.compile(r"\..+\.\d+\.tmp")
"""Name of a file that was not written to its end."""
_NOT_OURS = ("checkpoints/", f"{SEGMENTS}/", f"{LEASE}/", f"{openings.FOLDER}/")

AfterUpload = Callable[[Callable[[], None]], None]
"""Has a call made once the store knows of all events so far; only the latest of several is made."""


@contextmanager
def mirrored(folder: RunFolder, journal: Journal, *, replace: bool = False) -> Iterator[AfterUpload]:
    """Has the object store of a run follow all that happens in `folder`; nothing is done for a run without one.

    Args:
        folder: of the run.
        journal: its open journal.
        replace: the store's journal may be another one, and gives way.

    Raises:
        RunInUse: a process of another machine is at work on the run.
        RunFolderError: the store cannot be asked at first, or the run has gone on elsewhere.
        StorageFailed: another process has taken the run over; or at the end, the store does not take the rest.
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


class Outage:
    """Says in the log when a store takes nothing for long, and when it does again.

    Args:
        place: in the store.
        here: where all is kept meanwhile.
    """

    def __init__(self, place: Location, here: Path) -> None:
        self._place, self._here = place, here
        self._lock = threading.Lock()
        self._since: float | None = None
        self._reason = "it has not answered yet"
        self._told = False

    @contextmanager
    def told(self) -> Iterator[None]:
        """Around whatever gives the store something."""
        with self._lock:
            self._since = self._since or time.monotonic()
        try:
            yield
        except StoreError as error:
            self._reason = str(error.strerror)
            raise
        except BaseException:  # no matter of the store's
            with self._lock:
                self._since = None
            raise
        with self._lock:
            if self._told:
                _LOG.warning("%s: takes objects again", self._place)
            self._since, self._told = None, False

    def look(self) -> None:
        """Says what there is to say, once; to be called now and then by who does not wait for the store."""
        with self._lock:
            if self._told or self._since is None or time.monotonic() < self._since + SECONDS_UNTOLD:
                return
            self._told = True
        _LOG.warning(
            "%s: has taken nothing for %g s (%s); the run goes on, all is kept %s%s and sent when it does",
            self._place, SECONDS_UNTOLD, self._reason, HERE, self._here,
        )  # fmt: skip


class Mirror:
    """Follows one run; see `mirrored`.

    Args:
        folder: the working copy.
        place: where the run is kept.
        journal: open.
    """

    def __init__(self, folder: RunFolder, place: Location, journal: Journal) -> None:
        self._folder, self._place, self._journal = folder, place, journal
        self._store = Store(place)
        self._lease = Lease(self._store)
        self._sent: dict[str, tuple[int, int]] = {}
        """Size and time of change of files as the store has them."""
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        """Held by whoever sends events."""
        self._urgent = self._over = self._done = False
        self._after: Callable[[], None] | None = None
        self._failure: StorageFailed | None = None
        self._told = False
        self._outage = Outage(place, folder.path)
        self._threads = [
            threading.Thread(target=self._follow_journal, name="journal of the run"),
            threading.Thread(target=self._follow_files, name="files of the run"),
        ]
        self._watch = threading.Thread(
            target=self._watch_for_outages, name="outages of the store", daemon=True
        )
        self._renewal = threading.Thread(target=self._renew, name="lease of the run")

    def begin(self, *, replace: bool = False) -> None:
        """Takes the lease, and sends what the store lacks; from then on threads go on with that."""
        try:
            self._lease.acquire()
        except StoreError as error:
            raise self._unreachable(error) from error
        self._renewal.start()
        self._watch.start()
        try:
            self._writer = SegmentWriter(self._store, self._folder.journal, self._common(replace=replace))
            self._remember_sent()
            self._remove_strangers()
            self._send_events()
            self._send_files()
        except BaseException as error:
            self._release()
            if isinstance(error, LeaseLost):
                raise self._lost() from None
            if isinstance(error, StoreError):
                raise self._unreachable(error) from error
            raise
        self._journal.follow(self)
        for thread in self._threads:
            thread.start()

    def __call__(self, event: Event) -> None:
        """An event was appended to the journal."""
        if self._failure is not None and not self._told:
            self._told = True
            raise self._failure
        if isinstance(event, _URGENT):
            self._wake()

    def after_upload(self, call: Callable[[], None]) -> None:
        """Has `call` made by a thread, once the store has all events so far."""
        with self._changed:
            self._after = call

    def end(self) -> None:
        """Sends all that is left, and gives the lease back.

        Raises:
            StorageFailed: the store does not take it; nothing of it is lost.
        """
        self._over = True
        self._wake()
        for thread in self._threads:
            thread.join()
        try:
            self._send_rest()
        finally:
            self._release()

    def _release(self) -> None:
        self._done = True
        self._wake()
        self._renewal.join()
        self._watch.join()
        with suppress(StoreError):  # it becomes stale
            self._lease.release()

    def _send_rest(self) -> None:
        if self._failure is not None:
            if not self._told:
                raise self._failure
            return
        try:
            persistently(self._send_all, END_SECONDS)
        except LeaseLost:
            raise self._lost() from None
        except StoreError as error:
            raise StorageFailed(
                f"{self._place}: has not all of the run yet ({error.strerror}); the rest is safe {HERE}"
                f"{self._folder.path}, and `tune-jobs resume {self._place}`, given here, sends it",
                self._folder.path,
            ) from error

    def _follow_journal(self) -> None:
        self._repeat(self._send_journal, GROUP_SECONDS, lambda: self._urgent)

    def _follow_files(self) -> None:
        """Beside the journal, since a large file takes its time."""
        self._repeat(lambda: self._send_files(self._is_stopping), FILES_SECONDS)

    def _repeat(
        self, send: Callable[[], None], seconds: float, urgent: Callable[[], bool] = lambda: False
    ) -> None:
        """Sends at intervals, or at once; after failures of the store with growing pauses, up to the longest."""
        pause = 0.0
        while not self._is_stopping():
            with self._changed:
                self._changed.wait_for(lambda: urgent() or self._is_stopping(), pause or seconds)
                if urgent():
                    self._urgent = False
            try:
                send()
                pause = 0.0
            except StoreError:
                pause = min(2 * pause or GROUP_SECONDS, LONGEST_PAUSE)
            except LeaseLost:
                self._fail(self._lost())
            except Exception as error:  # else the run would go on, and nobody hear of it
                self._fail(
                    StorageFailed(
                        f"{self._place}: cannot be written to ({type(error).__name__}: {error}); the run has stopped, "
                        f"and what was reported is safe {HERE}{self._folder.path}",
                        self._folder.path,
                    )
                )

    def _is_stopping(self) -> bool:
        return self._over or self._failure is not None

    def _fail(self, failure: StorageFailed) -> None:
        """The first failure is what is told."""
        with self._changed:
            self._failure = self._failure or failure
            self._changed.notify_all()

    def _renew(self) -> None:
        """Beside the uploads, since a large file takes its time."""
        while not self._done:
            try:
                self._lease.renew()
            except LeaseLost:
                self._fail(self._lost())
                return
            except StoreError:  # the next time may do
                pass
            with self._changed:
                self._changed.wait_for(lambda: self._done, SECONDS_BETWEEN_RENEWALS)

    def _watch_for_outages(self) -> None:
        """Beside all that waits for the store, which may hold a connection open and say nothing."""
        while not self._done:
            self._outage.look()
            with self._changed:
                self._changed.wait_for(lambda: self._done, SECONDS_BETWEEN_RENEWALS)

    def _wake(self) -> None:
        with self._changed:
            self._urgent = True
            self._changed.notify_all()

    def _send_all(self) -> None:
        self._lease.renew()
        self._send_journal()
        self._send_files()

    def _send_journal(self) -> None:
        with self._changed:
            after, self._after = self._after, None
        try:
            self._send_events()
            if after is not None:
                self._lease.ensure()
                after()
        except StoreError:
            with self._changed:
                self._after = self._after or after
            raise

    def _send_events(self) -> None:
        with self._sending:
            if self._journal.size > self._writer.sent:
                with self._outage.told():
                    self._lease.ensure()
                    self._writer.send(self._journal.size)

    def _send_files(self, is_stopping: Callable[[], bool] = lambda: False) -> None:
        """Files as they are now, unless all is to stop; each after the journal, so that none knows more than that."""
        now = self._files()
        for name in now:
            if is_stopping():
                return
            with suppress(FileNotFoundError):  # replaced or removed meanwhile
                self._send_file(name)
        for name in [name for name in self._sent if name not in now]:
            self._lease.ensure()
            self._store.delete(name)
            del self._sent[name]

    def _send_file(self, name: str) -> None:
        state = _state_of(self._folder.path / name)
        if self._sent.get(name) != state:
            self._send_events()
            self._lease.ensure()
            self._store.upload(self._folder.path / name, name, state[0])
            self._sent[name] = state

    def _files(self) -> dict[str, tuple[int, int]]:
        found = {}
        top = self._folder.path
        for folder, below, names in os.walk(top):
            if Path(folder) == top:
                below[:] = [name for name in below if name not in _NOT_SENT]
            of_user = (self._folder.submitted, self._folder.modules)  # whose files have any names
            users = any(Path(folder).is_relative_to(one) for one in of_user)
            below[:] = [n for n in below if n != "__pycache__" and (users or not n.startswith("."))]
            for name in names:
                path = Path(folder, name)
                hidden = name.startswith(".") or name.endswith((".tmp", ".lock"))
                if (hidden and not users) or _PART.fullmatch(name) or path == self._folder.journal:
                    continue
                with suppress(FileNotFoundError):
                    if not path.is_symlink():
                        found[path.relative_to(top).as_posix()] = _state_of(path)
        return found

    def _common(self, *, replace: bool) -> int:
        """Bytes that the store has of the journal."""
        kept = read_from(self._store)
        here = self._folder.journal.read_bytes()[: self._journal.size]
        if here.startswith(kept):
            return len(kept)
        if replace:
            self._lease.ensure()
            replace_journal(self._store, here)
            return len(here)
        raise RunFolderError(
            f"{self._place}: the run has gone on elsewhere since it was read; give the command once more"
        )

    def _remember_sent(self) -> None:
        """Files that the store has already, as far as sizes and times tell."""
        stored = {one.name: one for one in self._store.objects() if not one.name.startswith(_NOT_OURS)}
        for name, (size, changed) in self._files().items():
            one = stored.get(name)
            if one is not None and one.size == size and changed / 1e9 <= one.modified:
                self._sent[name] = (size, changed)

    def _remove_strangers(self) -> None:
        """Checkpoints of trials that the journal does not know: their creation was lost with a machine.

        A resumed run makes other trials of their names.
        """
        known = {event.trial_id for event in self._journal.past if isinstance(event, TrialCreated)}
        for name in self._store.folders("checkpoints"):
            if name.isdecimal() and name not in known:
                self._lease.ensure()
                self._store.delete_all(f"checkpoints/{name}")

    def _unreachable(self, error: StoreError) -> RunFolderError:
        return RunFolderError(f"{self._place}: cannot be written to ({error.strerror})")

    def _lost(self) -> StorageFailed:
        return StorageFailed(
            f"{self._place}: another process has taken this run over, since this one was not heard of for long; it has "
            f"stopped here, and the other one goes on. What this one did meanwhile is {HERE}{self._folder.path}",
            self._folder.path,
        )


def _state_of(path: Path) -> tuple[int, int]:
    """Size and time of change."""
    status = path.lstat()
    return status.st_size, status.st_mtime_ns
