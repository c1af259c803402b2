"""The copy of a run on this machine's disk, where the run itself is kept in an object store.

The driver, and every command that reads, works on such a copy as on any run folder; what is here makes it and
brings it up to date. Checkpoints stay in the store. All copies of one place lie in one folder, which names it.
"""

import fcntl
import hashlib
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from tune_jobs.errors import RunFolderError, TuneJobsError
from tune_jobs.location import PLACE_FILE, Location, is_uri, location_of
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import in_use
from tune_jobs.remote import claims as openings
from tune_jobs.remote import lease, segments
from tune_jobs.remote.servers import server_of
from tune_jobs.remote.store import Store, Stored, StoreError

CACHE_VARIABLE = "TUNE_JOBS_CACHE"
"""Of the environment: the folder of all copies, in place of `~/.cache/tune-jobs`."""
SECONDS_BETWEEN_DOWNLOADS = 1.0
"""How often a run that is watched from afar is looked at."""
SECONDS_BETWEEN_FILES = 30.0
"""How often all its files are; its journal alone tells how it goes on."""
HERE = "on this machine, in "
"""Stands before the path of a copy where the copy is meant, and not the run."""
_NOT_COPIED = ("checkpoints/", f"{segments.FOLDER}/", f"{lease.FOLDER}/", f"{openings.FOLDER}/", "ray/")
HOLDS_ROWS = ("holdout/rows.npz", "submitted/")
"""Objects with test rows: for those who go on with the run, or open them, alone."""
DASHBOARDS = ("wandb/", "tensorboard/")


def cache() -> Path:
    """The folder of all copies."""
    named = os.environ.get(CACHE_VARIABLE)
    general = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named or Path(general, "tune-jobs")).absolute().resolve()


def copies_folder(place: Location) -> Path:
    """The folder for the copies of all runs at `place`, which is made, for its owner alone.

    Raises:
        RunFolderError: it cannot be made.
    """
    key = hashlib.sha256(f"{server_of(place)} {place}".encode()).hexdigest()[:16]
    home = cache() / key
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not (home / PLACE_FILE).exists():
            temporary = home / f"{PLACE_FILE}.{os.getpid()}"
            temporary.write_text(str(place), encoding="utf-8")
            temporary.replace(home / PLACE_FILE)
    except OSError as error:
        raise RunFolderError(
            f"{home}: cannot be written to ({error.strerror}); this machine's copies of the runs at {place} go there. "
            f"Name another folder in the environment variable {CACHE_VARIABLE}"
        ) from error
    return home


def storage_folder(storage: str) -> Path:
    """The folder that the run folders of a job's `storage` are made in: itself, or that of the copies."""
    return copies_folder(Location.parse(storage)) if is_uri(storage) else Path(storage)


def checkpoints_of(folder: RunFolder) -> Path | Location:
    """Where workers write the checkpoints of a run to."""
    place = location_of(folder.path)
    return folder.checkpoints if place is None else place / folder.checkpoints.name


def address_text(text: str) -> str:
    """`text` with the places that runs are kept at for the paths of their copies, unless those are meant."""
    return re.sub(
        f"(?<!{HERE})" + re.escape(f"{cache()}{os.sep}") + r"[0-9a-f]{16}(?![0-9a-f])", _shown_home, text
    )


def open_folder(address: str | Path) -> RunFolder:
    """Open a run: the folder at `address`, or an up-to-date copy of the run at `s3://bucket/prefix/run`.

    Raises:
        RunFolderError: There is no such run, or the store cannot be reached.
        DamagedRun: An object of the journal is missing in the store.
    """
    if not is_uri(address):
        return RunFolder.open(address)
    try:
        place = Location.parse(str(address))
    except ValueError as error:
        raise RunFolderError(f"RUN: {error}") from error
    return pull(place)


def pull(place: Location, *, without: tuple[str, ...] = HOLDS_ROWS + DASHBOARDS) -> RunFolder:
    """This machine's copy of the run at `place`, up to date.

    A copy that a process of this machine is at work on is left as it is, since it is ahead of the store. So is
    what an earlier process did not come to send; that of a run which has gone on elsewhere since is set aside.

    Args:
        place: the run's.
        without: what the names of objects begin with that are left out, beside checkpoints; by default what only those
            who go on with the run have use for.

    Raises:
        RunFolderError: there is no run, or the store cannot be asked.
        DamagedRun: an object of the journal is missing.
    """
    folder = RunFolder(copies_folder(place.parent) / place.name)
    try:
        with _alone(folder):
            if not (folder.is_run and in_use(folder.journal)):
                _update(folder, Store(place), without)
    except StoreError as error:
        has = f"; a copy, maybe an old one, is {HERE}{folder.path}" if folder.is_run else ""
        raise RunFolderError(f"{place}: cannot be read ({error.strerror}){has}") from error
    return folder


def complete(folder: RunFolder, *, without: tuple[str, ...] = ()) -> None:
    """Brings all of `folder` but that up to date, if it is a copy; see `pull`."""
    if (place := location_of(folder.path)) is not None:
        pull(place, without=without)


def pull_all(place: Location) -> Path:
    """Copies of all runs at `place`; returns the folder that they are in.

    Raises:
        RunFolderError: the store cannot be asked.
    """
    home = copies_folder(place)
    try:
        for name in Store(place).folders():
            if segments.segments(Store(place / name)):
                pull(place / name)
    except StoreError as error:
        raise RunFolderError(f"{place}: cannot be read ({error.strerror})") from error
    return home


def at_work(folder: RunFolder) -> bool:
    """Is a process at work on the run, here or, for one in an object store, on any machine?"""
    if in_use(folder.journal):
        return True
    place = location_of(folder.path)
    if place is None:
        return False
    try:
        return bool(lease.holders(Store(place)))
    except StoreError:  # nobody can tell
        return True


@contextmanager
def kept_up_to_date(folder: RunFolder) -> Iterator[None]:
    """Has a copy follow its run while somebody looks at it: the journal at each look, all else now and then.

    Whoever has looked to the end has all.
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
            with suppress(TuneJobsError, OSError):  # the next look may succeed
                follower.look()
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
    with suppress(TuneJobsError, OSError):  # what is there is shown
        pull(place)


class CopyFollower:
    """Brings the journal of a copy up to date, again and again, and reads no more of it than what may be new.

    Args:
        folder: the copy.
        store: of the run.
    """

    def __init__(self, folder: RunFolder, store: Store) -> None:
        self._folder, self._store = folder, store
        self._known: Sequence[segments.Piece] = ()
        """What the copy holds, as far as this object has seen to it."""

    def look(self) -> None:
        """A piece that grew is read from its beginning, and compared with what the copy has of it.

        Raises:
            DamagedRun: an object of the journal is missing.
            StoreError: the store cannot be asked.
        """
        journal = self._folder.journal
        with _alone(self._folder):
            if in_use(journal):
                return
            now = segments.pieces(segments.segments(self._store))
            start = segments.first_change(self._known, now)
            if start is None:
                return
            if start > journal.stat().st_size:  # it was cut meanwhile
                start = 0
            _update_journal(journal, segments.read_pieces(self._store, now, start), start)
            self._known = now


def _update(folder: RunFolder, store: Store, without: tuple[str, ...]) -> None:
    stored = store.objects()
    journal = segments.read_from(store)
    if not journal:
        if folder.is_run:  # nothing has reached the store yet
            return
        raise RunFolderError(
            f"{store.place}: no run is kept there; `tune-jobs list {store.place.parent}` shows the runs of a place"
        )
    for path in (folder.path, folder.journal.parent, folder.checkpoints, folder.ray):
        path.mkdir(parents=True, exist_ok=True)
    folder.holdout.mkdir(mode=0o700, exist_ok=True)
    ahead = _update_journal(folder.journal, journal)
    for one in stored:
        if not one.name.startswith((*_NOT_COPIED, *without, ".")) and one.name != openings.LEDGER:
            _update_file(folder.path / one.name, one, store, keep=ahead)
    openings.update_ledger(folder.path, store, [one.name for one in stored])


def _update_journal(path: Path, kept: bytes, start: int = 0) -> bool:
    """Has the file hold, from byte `start` on, what the store does; where it holds more, it stays, and that is told.

    Whoever wants to go on with the run has to wait for no more than the writing itself.
    """
    with path.open("a+b") as file:
        file.seek(start)
        here = file.read()
        if here.startswith(kept):
            return len(here) > len(kept)
        try:  # shared: no journal is opened meanwhile, and yet it does not look like a process at work
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:  # a process has begun to work on it
            return True
        if file.seek(0, os.SEEK_END) < start:  # one has, and has cut it
            return True
        file.seek(start)
        here = file.read()
        same = _whole_lines_in_common(here, kept)
        if b"\n" in here[same:]:  # else there is no more than a line that was not finished
            aside = path.with_name(f"{path.name}.elsewhere-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
            aside.write_bytes(path.read_bytes())
        file.truncate(start + same)
        file.write(kept[same:])
        file.flush()
        fcntl.flock(file, fcntl.LOCK_UN)
        os.fsync(file.fileno())
    return False


def _whole_lines_in_common(one: bytes, other: bytes) -> int:
    """Bytes of the lines at the start that are the same."""
    same = 0
    for line, other_line in zip(one.splitlines(keepends=True), other.splitlines(keepends=True), strict=False):
        if line != other_line:
            break
        same += len(line)
    return same


def _update_file(path: Path, one: Stored, store: Store, *, keep: bool) -> None:
    """Has `path` be the object, unless it is or, with `keep`, is there at all."""
    with suppress(FileNotFoundError):
        status = path.stat()
        if keep or (status.st_size == one.size and status.st_mtime >= one.modified):
            return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        store.download(one.name, part)
        os.utime(part, (one.modified, one.modified))
        if one.name == "holdout/rows.npz":
            part.chmod(0o400)
        part.replace(path)
    except FileNotFoundError:  # removed since it was listed
        pass
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _alone(folder: RunFolder) -> Iterator[None]:
    """One process, and one thread, at a time brings a copy up to date."""
    with (folder.path.parent / f".{folder.name}.lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _shown_home(found: "re.Match[str]") -> str:
    try:
        return (Path(found[0]) / PLACE_FILE).read_text(encoding="utf-8")
    except OSError:
        return found[0]
