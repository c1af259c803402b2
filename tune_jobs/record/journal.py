"""The run's journal: an append-only file of events, one checked line each, written by the driver alone.

A line is the CRC-32 of the event's JSON in eight hexadecimal digits, a space, and the JSON. Everything else
that a run shows (tables, selection, progress) is made from it.
"""

import fcntl
import json
import os
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from weakref import WeakSet

from tune_jobs.errors import DamagedRun, LaterVersion, RunInUse, StorageFailed
from tune_jobs.files import reason_of, sync_folder
from tune_jobs.record.events import Event, RunResumed, RunStarted, event_from_mapping
from tune_jobs.record.storage_failures import storage_failed
from tune_jobs.versions import versions_here

Listener = Callable[[Event], None]

SECONDS_FOR_THE_LOCK = 1.0
"""A lock is asked for this long: whoever looks whether a run is in progress holds it for a moment."""


@dataclass(frozen=True)
class Content:
    """What a journal's file holds."""

    events: Sequence[Event]
    sound: int
    """Bytes of whole lines, from the start."""
    torn: int
    """Bytes after them: a line that was not finished."""


class Journal:
    """Appends events and then tells its listeners of them, in this order; no other process can do so meanwhile.

    What a process that died left unfinished at the end of the file is cut off first. A listener that fails is
    the run's failure: guests that may fail, such as trackers, guard themselves.

    Args:
        path: of the file, which is made where it is missing.
        listeners: called with every event that is appended.

    Raises:
        RunInUse: another process writes to it.
        LaterVersion: a later version of tune-jobs wrote a line; the file stays as it is.
        DamagedRun: a line before the last is damaged.
    """

    def __init__(self, path: Path, *listeners: Listener) -> None:
        self.failure: StorageFailed | None = None
        """Why the last event could not be written."""
        self._listeners = list(listeners)
        self._path = path
        new = not path.exists()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            lock(self._file, path)
            content = scan_journal(path)
            if content.torn:
                os.truncate(self._file, content.sound)
            if new:
                sync_folder(path.parent)
        except BaseException:
            os.close(self._file)
            raise
        self.past = content.events
        """What was in it when it was opened."""
        self.cut = content.torn
        """Bytes that were cut off its end."""
        self._size = content.sound
        self._torn = False
        _OPEN.add(self)

    def follow(self, listener: Listener) -> None:
        """Tells `listener` of every event from now on, after those who have followed for longer."""
        self._listeners.append(listener)

    def append(self, event: Event) -> None:
        """Writes `event` to the disk itself, and only then tells the listeners.

        Raises:
            StorageFailed: the disk is full, or cannot be written to; the file ends with the event before. Or a
                listener is of the opinion that the run must end, for a like reason; all have been told by then, so
                that none knows less than the file.
        """
        text = json.dumps(event.to_mapping(), separators=(",", ":"), default=_plain).encode()
        self._write(b"%08x %s\n" % (zlib.crc32(text), text))
        failure: StorageFailed | None = None
        for listener in self._listeners:
            try:
                listener(event)
            except StorageFailed as error:
                failure = self.failure = failure or error
        if failure is not None:
            raise failure

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def size(self) -> int:
        """Bytes that are on the disk, all of them of whole lines."""
        return self._size

    def close(self) -> None:
        """Lets another process write to it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, line: bytes) -> None:
        try:
            if self._torn:
                self._cut()
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fdatasync(self._file)
        except OSError as error:
            self._torn = True
            with suppress(OSError):  # else before the next line, which would be written onto a torn one
                self._cut()
            run = self._path.parent.parent
            self.failure = storage_failed(self._path, reason_of(error, run), run)
            raise self.failure from error
        self._size += len(line)

    def _cut(self) -> None:
        os.truncate(self._file, self._size)
        self._torn = False


_OPEN: WeakSet[Journal] = WeakSet()


def _close_copies() -> None:
    """In a process that was forked off: else it would hold the lock, should it outlive the writer."""
    for journal in _OPEN:
        journal.close()


os.register_at_fork(after_in_child=_close_copies)


def refuse_if_in_use(path: Path) -> None:
    """Looks whether a process writes to the journal at `path`, for whoever has something to say before it opens it.

    Raises:
        RunInUse: one does.
    """
    if in_use(path):
        raise _in_use_error(path)


def lock(file: int, path: Path) -> None:
    """Has this process be the only one that writes to the journal at `path`, until `file`, which it is, is closed.

    Raises:
        RunInUse: another process writes to it.
    """
    until = time.monotonic() + SECONDS_FOR_THE_LOCK
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > until:
                raise _in_use_error(path) from error
            time.sleep(0.05)
        else:
            return


def _in_use_error(path: Path) -> RunInUse:
    return RunInUse(
        f"{path.parent.parent}: another process is at work on this run{_writer(path)}; wait for its end, or stop "
        "it with Ctrl-C or SIGTERM"
    )


def _writer(path: Path) -> str:
    with suppress(DamagedRun, LaterVersion):
        events = scan_journal(path).events
        drivers = [event.driver for event in events if isinstance(event, RunStarted | RunResumed)]
        return f" ({drivers[-1]})" if drivers else ""
    return ""


def read_journal(path: Path) -> list[Event]:
    """All events in the order in which they happened; a torn last line is left out.

    Raises:
        LaterVersion: a later version of tune-jobs wrote a line.
        DamagedRun: a line before the last is damaged; the message names it.
    """
    return list(scan_journal(path).events)


def in_use(path: Path) -> bool:
    """Does a process write to the journal at `path`?"""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def scan_journal(path: Path) -> Content:
    """What the file at `path` holds; its last line is torn where it is not finished or not sound.

    Raises:
        LaterVersion: a later version of tune-jobs wrote a line, wherever it stands and whatever else is damaged.
        DamagedRun: a line before the last is damaged; the message names it.
    """
    content = path.read_bytes()
    *lines, rest = content.split(b"\n")
    parsed = [parse_line(line) for line in lines]
    _refuse_unknown(str(path.parent.parent), [*parsed, parse_line(rest)])
    events: list[Event] = []
    sound = 0
    for number, (line, event) in enumerate(zip(lines, parsed, strict=True), start=1):
        if not isinstance(event, Event):
            if number == len(lines) and not rest:
                break
            raise DamagedRun(
                f"{path}: line {number} of {len(lines)} is damaged; restore the file from a copy, or keep the "
                f"{number - 1} events in front of it with `tune-jobs repair {path.parent.parent} --cut`"
            )
        events.append(event)
        sound += len(line) + 1
    return Content(events, sound, len(content) - sound)


def sound_lines(path: Path) -> int:
    """Bytes of the lines in front of the first damaged one."""
    sound = 0
    for line in path.read_bytes().splitlines(keepends=True):
        if not line.endswith(b"\n") or not isinstance(parse_line(line[:-1]), Event):
            break
        sound += len(line)
    return sound


def refuse_later_version(path: Path, shown_as: str = "") -> None:
    """Refuse a journal that this version cannot understand, for callers that use a run without its events.

    Args:
        path: of the journal.
        shown_as: the run in the message, if that is not the folder of the journal.

    Raises:
        LaterVersion: a later version of tune-jobs wrote a line.
    """
    parsed = [parse_line(line) for line in path.read_bytes().split(b"\n")]
    _refuse_unknown(shown_as or str(path.parent.parent), parsed)


@dataclass(frozen=True)
class UnknownLine:
    """A line whose checksum is right, with content that this version does not know."""

    content: Any
    """What its JSON holds; None if it is no JSON."""


def parse_line(line: bytes) -> Event | UnknownLine | None:
    """The event in a line of the journal, given without its end.

    Returns:
        The event; an `UnknownLine` if the line is sound and this version does not know what it says; None if the
        line is damaged.
    """
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    content: Any = None
    try:
        content = json.loads(text)
        return event_from_mapping(content)
    except (ValueError, KeyError, TypeError, AttributeError):
        return UnknownLine(content)


def _refuse_unknown(run: str, parsed: Sequence[Event | UnknownLine | None]) -> None:
    unknown = [number for number, one in enumerate(parsed, start=1) if isinstance(one, UnknownLine)]
    if not unknown:
        return
    here = versions_here(["tune-jobs"]).get("tune-jobs", "")
    others = [version for one in parsed if (version := _version_in(one)) not in {"", here}]
    writer = f" {others[-1]}" if others else ""
    raise LaterVersion(
        f"{run}: line {unknown[0]} of its journal was written by a later version of tune-jobs{writer}, and "
        f"this version ({here or 'unknown'}) does not know what it says; nothing was changed. "
        "Use the later version for this run: `pip install --upgrade tune-jobs`"
    )


def _version_in(parsed: Event | UnknownLine | None) -> str:
    """The version of tune-jobs that a line names: those with which a driver begins do."""
    content = parsed.content if isinstance(parsed, UnknownLine) else vars(parsed) if parsed else {}
    versions = content.get("versions") if isinstance(content, dict) else None
    version = versions.get("tune-jobs") if isinstance(versions, dict) else None
    return version if isinstance(version, str) else ""


def _plain(value: Any) -> Any:
    """Numbers of numpy as Python's own."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{value!r} of {type(value)} cannot be written to the journal")
