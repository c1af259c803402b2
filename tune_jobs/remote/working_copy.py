"""The copy, on this machine's disk, of a run that is kept in an object store.

The driver, and every command that reads, works on such a copy as on any run folder. This module makes copies and
brings them up to date. Checkpoints stay in the store. All copies of one place are in one folder, which names the
place.
"""

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from tune_jobs.errors import DamagedRun, RunFolderError
from tune_jobs.location import PLACE_FILE, Location, is_uri, location_of
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import in_use
from tune_jobs.remote import claims, lease, segments
from tune_jobs.remote.servers import server_of
from tune_jobs.remote.store import Store, Stored, StoreError
from tune_jobs.text import quoted

CACHE_VARIABLE = "TUNE_JOBS_CACHE"
"""Environment variable that names the folder of all copies; the default is `~/.cache/tune-jobs`."""
HERE = "on this machine, in "
"""Words before a path in a message that means the copy and not the run."""
_NOT_COPIED = ("checkpoints/", f"{segments.FOLDER}/", f"{lease.FOLDER}/", f"{claims.FOLDER}/", "ray/")
"""Prefixes of the names of objects that no copy has."""
HOLDS_ROWS = ("holdout/rows.npz", "submitted/")
"""Prefixes of the names of objects with test rows. Only commands that continue the run or open the holdout copy
them."""
DASHBOARDS = ("wandb/", "tensorboard/")
"""Prefixes of the names of objects that only commands that continue the run need."""


def cache() -> Path:
    """Return the folder of all copies."""
    named = os.environ.get(CACHE_VARIABLE)
    general = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named or Path(general, "tune-jobs")).absolute().resolve()


def copies_folder(place: Location) -> Path:
    """Make the folder for the copies of all runs at `place`, which its owner alone can read.

    Raises:
        RunFolderError: The folder cannot be made.
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
    """Return the folder for run folders of a job's `storage`: itself, or the folder of the copies."""
    return copies_folder(Location.parse(storage)) if is_uri(storage) else Path(storage)


def checkpoints_of(folder: RunFolder) -> Path | Location:
    """Return where workers write the checkpoints of a run."""
    place = location_of(folder.path)
    return folder.checkpoints if place is None else place / folder.checkpoints.name


def address_text(text: str) -> str:
    """Return `text` with the places of runs instead of the paths of their copies; paths after `HERE` stay."""
    return re.sub(
        f"(?<!{HERE})" + re.escape(f"{cache()}{os.sep}") + r"[0-9a-f]{16}(?![0-9a-f])", _address_of_home, text
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
    """Return this machine's copy of the run at `place`, up to date.

    A copy that a process of this machine works on stays as it is, since it is ahead of the store. What an earlier
    process could no longer send stays too. If the run was continued elsewhere since then, the copy is set aside.

    Args:
        place: The place of the run.
        without: Prefixes of the names of objects that are left out, in addition to checkpoints. By default, those
            that only commands that continue the run need.

    Raises:
        RunFolderError: There is no run, or the store cannot be reached.
        DamagedRun: An object of the journal is missing.
    """
    folder = RunFolder(copies_folder(place.parent) / place.name)
    try:
        with lock_copy(folder):
            if not (folder.is_run and in_use(folder.journal)):
                _update(folder, Store(place), without)
    except StoreError as error:
        has = f"; a copy, maybe an old one, is {HERE}{folder.path}" if folder.is_run else ""
        raise RunFolderError(f"{place}: cannot be read ({error.strerror}){has}") from error
    return folder


def complete(folder: RunFolder, *, without: tuple[str, ...] = ()) -> None:
    """Bring `folder` up to date, if it is a copy; see `pull` for `without`."""
    if (place := location_of(folder.path)) is not None:
        pull(place, without=without)


def pull_all(place: Location) -> tuple[Path, list[str]]:
    """Copy all runs at `place`; return the folder of the copies, and the names of runs whose journal is not whole.

    Raises:
        RunFolderError: The store cannot be reached.
    """
    home, damaged = copies_folder(place), []
    try:
        for name in Store(place).folders():
            if segments.segments(Store(place / name)):
                try:
                    pull(place / name)
                except DamagedRun:
                    damaged.append(name)
    except StoreError as error:
        raise RunFolderError(f"{place}: cannot be read ({error.strerror})") from error
    return home, damaged


def at_work(folder: RunFolder) -> bool:
    """Return whether a process works on the run: on this machine or, for a run in an object store, on any."""
    if in_use(folder.journal):
        return True
    place = location_of(folder.path)
    if place is None:
        return False
    try:
        return bool(lease.holders(Store(place)))
    except StoreError:  # unknown
        return True


def _update(folder: RunFolder, store: Store, without: tuple[str, ...]) -> None:
    stored = store.objects()
    journal = segments.read_from(store)
    if not journal:
        if folder.is_run:  # nothing has reached the store yet
            return
        raise RunFolderError(
            f"{store.place}: no run is kept there; "
            f"`tune-jobs list {quoted(store.place.parent)}` shows the runs of a place"
        )
    for path in (folder.path, folder.journal.parent, folder.checkpoints, folder.ray):
        path.mkdir(parents=True, exist_ok=True)
    folder.holdout.mkdir(mode=0o700, exist_ok=True)
    ahead = update_journal(folder.journal, journal)
    for one in stored:
        if not one.name.startswith((*_NOT_COPIED, *without, ".")) and one.name != claims.LEDGER:
            _update_file(folder.path / one.name, one, store, keep=ahead)
    claims.update_ledger(folder.path, store, [one.name for one in stored])


def update_journal(path: Path, kept: bytes, start: int = 0) -> bool:
    """Update the journal's file from byte `start` to the store's content; return whether the file has more.

    Extra content of the file is kept. The file is locked only while it is written, so a process that wants to
    continue the run hardly waits.
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
        if file.seek(0, os.SEEK_END) < start:  # a process has begun, and has cut the file
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
    """Return the number of bytes in the equal lines at the start of both."""
    same = 0
    for line, other_line in zip(one.splitlines(keepends=True), other.splitlines(keepends=True), strict=False):
        if line != other_line:
            break
        same += len(line)
    return same


def _update_file(path: Path, one: Stored, store: Store, *, keep: bool) -> None:
    """Copy the object to `path`, unless the file is the same or, with `keep`, exists at all."""
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
def lock_copy(folder: RunFolder) -> Iterator[None]:
    """Let one process, and one thread, at a time bring a copy up to date."""
    with (folder.path.parent / f".{folder.name}.lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _address_of_home(found: "re.Match[str]") -> str:
    try:
        return (Path(found[0]) / PLACE_FILE).read_text(encoding="utf-8")
    except OSError:
        return found[0]
