"""The run's journal: an append-only file of events, one checked line each, written by the driver alone.

Tables, selection and progress of a run are built from the journal. `lines` has the format of its lines.
"""

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from weakref import WeakSet

from tune_jobs.errors import DamagedRun, EarlierVersion, LaterVersion, OtherVersion, RunInUse, StorageFailed
from tune_jobs.files import reason_of, sync_folder
from tune_jobs.record.events import (
    FORMAT,
    Event,
    RunResumed,
    RunStarted,
    WrongEvent,
    event_from_mapping,
    refuse_wrong_values,
)
from tune_jobs.record.foreign_changes import Written, foreign_change
from tune_jobs.record.lines import START, Content, Place, encode_line, parse_content, version_here
from tune_jobs.record.storage_failures import storage_error
from tune_jobs.text import quoted

Listener = Callable[[Event], None]

SECONDS_FOR_THE_LOCK = 1.0
"""Seconds to wait for the lock: a reader that checks for a run in progress holds it for a moment."""


class Journal:
    """The journal, open for writing: it appends an event, then calls its listeners; it excludes other writers.

    An unfinished line that a dead process left at the end of the file is cut off first. If a listener fails, the run
    fails: guests that may fail, such as trackers, catch their own errors.

    Args:
        path: The file, which is created if it is missing.
        listeners: Called with every event that is appended.

    Raises:
        RunInUse: Another process writes to the journal.
        OtherVersion: Another version of tune-jobs wrote a line; the file stays as it is.
        DamagedRun: A line before the last one is damaged.
    """

    def __init__(self, path: Path, *listeners: Listener) -> None:
        self.failure: StorageFailed | None = None
        """The reason why the last event could not be written; None if it was written."""
        self._listeners = list(listeners)
        self._path = path
        new = not path.exists()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            lock(self._file, path)
            content = sound_content(path)
            if content.rest:
                os.truncate(self._file, content.sound)
            if new:
                sync_folder(path.parent)
        except BaseException:
            os.close(self._file)
            raise
        self._past = tuple(content.events)
        self.cut = content.rest
        """Bytes that were cut off the end of the file."""
        self._place = content.end
        self._written = Written(content.sound, lambda: _lines_of(content.events, START)[0])
        self._torn = False
        self._writing = threading.RLock()
        """Held while a line is written, and while the file is compared with what was written."""
        self._changed: StorageFailed | None = None
        _OPEN.add(self)

    def follow(self, listener: Listener) -> None:
        """Call `listener` with every event from now on, after all earlier listeners."""
        self._listeners.append(listener)

    def append(self, *events: Event) -> None:
        """Force `events` to disk in one write, then call the listeners with each of them.

        Raises:
            TypeError, WrongEvent: No reader would accept an event; none is written.
            StorageFailed: The disk is full or cannot be written to; the file then ends with the events before. Or
                another program has replaced or changed the file; what was written is kept, and the message says
                where. Or a listener asks the run to stop for the same kind of reason; every listener has received the
                event by then.
        """
        lines, after = _lines_of(events, self._place)
        if not lines:
            return
        self._write(lines)
        self._place = after
        failure: StorageFailed | None = None
        for event in events:
            for listener in self._listeners:
                try:
                    listener(event)
                except StorageFailed as error:
                    failure = self.failure = failure or error
        if failure is not None:
            raise failure

    def append_to_past(self, events: Sequence[Event]) -> None:
        """Append events that happened before the journal was opened and are missing in it; then `past` includes them.

        Raises:
            StorageFailed: See `append`.
        """
        self.append(*events)
        self._past = (*self._past, *events)

    @property
    def past(self) -> Sequence[Event]:
        """Return the events that the journal held when it was opened, and those of `append_to_past`."""
        return self._past

    @property
    def path(self) -> Path:
        """Return the path of the file."""
        return self._path

    @property
    def size(self) -> int:
        """Return the number of bytes on disk, all of complete lines."""
        return self._written.size

    def refuse_foreign_changes(self) -> None:
        """Stop, once and for all, if another program has replaced or changed the file.

        Raises:
            StorageFailed: See `append`.
        """
        with self._writing:  # a line that is only half written is no change
            if self._changed is None and not self._torn:
                self._changed = foreign_change(self._file, self._path, self._written)
            if self._changed is not None:
                self.failure = self._changed
                raise self._changed

    def close(self) -> None:
        """Close the file and release the lock."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, lines: bytes) -> None:
        with self._writing:
            self.refuse_foreign_changes()
            try:
                if self._torn:
                    self._cut()
                rest = memoryview(lines)
                while rest:
                    rest = rest[os.write(self._file, rest) :]
                os.fdatasync(self._file)
            except OSError as error:
                self._torn = True
                with suppress(OSError):  # the next write tries again: a line must not follow a torn one
                    self._cut()
                run = self._path.parent.parent
                self.failure = storage_error(self._path, reason_of(error, run), run)
                raise self.failure from error
            self._written.add(lines)

    def _cut(self) -> None:
        os.truncate(self._file, self._written.size)
        self._torn = False


_OPEN: WeakSet[Journal] = WeakSet()


def _close_copies() -> None:
    """Close the journals of a forked process, which would otherwise hold the lock after the writer has ended."""
    for journal in _OPEN:
        journal.close()


os.register_at_fork(after_in_child=_close_copies)


def refuse_if_in_use(path: Path) -> None:
    """Refuse early if a process writes to the journal at `path`, before any other message.

    Raises:
        RunInUse: A process writes to it.
    """
    if in_use(path):
        raise _in_use_error(path)


def lock(file: int, path: Path) -> None:
    """Take the exclusive write lock on the journal at `path`.

    `file` is an open descriptor of the journal. Closing it releases the lock.

    Raises:
        RunInUse: Another process writes to the journal.
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
    with suppress(DamagedRun, OtherVersion):
        events = sound_content(path).events
        drivers = [event.driver for event in events if isinstance(event, RunStarted | RunResumed)]
        return f" ({drivers[-1]})" if drivers else ""
    return ""


def read_journal(path: Path) -> list[Event]:
    """Return all events in order; a torn last line is left out.

    Raises:
        OtherVersion: Another version of tune-jobs wrote a line.
        DamagedRun: A line before the last one is damaged; the message names it.
    """
    return list(sound_content(path).events)


def in_use(path: Path) -> bool:
    """Return whether a process writes to the journal at `path`."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def sound_content(path: Path) -> Content:
    """Return the content of the file at `path`; its last line may be unfinished, and no other.

    Raises:
        OtherVersion: Another version of tune-jobs wrote a line, wherever it is and whatever else is damaged.
        DamagedRun: A line before the last one is damaged; the message names it.
    """
    content = scan_journal(path)
    if content.damaged is not None:
        raise DamagedRun(
            f"{path}: line {content.damaged} of {content.lines} {content.damage}; restore the file from a copy, or "
            f"keep the {len(content.events)} events in front of it with "
            f"`tune-jobs repair {quoted(path.parent.parent)} --cut`"
        )
    return content


def scan_journal(path: Path, shown_as: str = "") -> Content:
    """Return the content of the file at `path`, damaged or not.

    Args:
        path: The journal.
        shown_as: The run in a message, if that is not the folder of the journal.

    Raises:
        OtherVersion: Another version of tune-jobs wrote a line, wherever it is and whatever else is damaged.
    """
    content = parse_content(path.read_bytes())
    if content.unknown is not None:
        raise _other_version_error(content, shown_as or path.parent.parent)
    return content


def _other_version_error(content: Content, run: str | Path) -> OtherVersion:
    what = f"{run}: line {content.unknown} of its journal was written by"
    writer = f"version of tune-jobs{content.writer and f' {content.writer}'}"
    here = f"this version ({version_here() or 'unknown'})"
    if content.earlier:
        return EarlierVersion(
            f"{what} an earlier {writer}, before format {FORMAT}, and {here} reads no earlier format; nothing was "
            "changed. Use the version that wrote it for this run; there is no conversion"
        )
    return LaterVersion(
        f"{what} a later {writer}, and {here} does not know what it says; nothing was changed. "
        "Use the later version for this run: `pip install --upgrade tune-jobs`"
    )


def refuse_other_version(path: Path) -> None:
    """Refuse a journal that this version cannot understand, for callers that use a run without its events.

    Raises:
        OtherVersion: Another version of tune-jobs wrote a line.
    """
    scan_journal(path)


def _lines_of(events: Sequence[Event], place: Place) -> tuple[bytes, Place]:
    """Return the lines for events of a journal, the first of which is at `place`, and the place after them."""
    lines = []
    for event in events:
        line, place = encode_line(_json_of(event), place)
        lines.append(line)
    return b"".join(lines), place


def _json_of(event: Event) -> bytes:
    """Return the JSON of an event.

    Raises:
        TypeError, WrongEvent: No reader would accept it.
    """
    text = json.dumps(event.to_mapping(), separators=(",", ":"), default=_plain).encode()
    try:
        refuse_wrong_values(event)
    except WrongEvent:  # but a tuple, or a number of numpy, is read as a list or a number
        event_from_mapping(json.loads(text))
    return text


def _plain(value: Any) -> Any:
    """Convert a numpy number to a Python number."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{value!r} of {type(value)} cannot be written to the journal")
