"""The run's journal: an append-only file of events, one checked line each, written by the driver alone.

A line is the CRC-32 of the event's JSON in eight hexadecimal digits, a space, and the JSON. Everything else
that a run shows (tables, selection, progress) is made from it.
"""

import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from tune_jobs.errors import DamagedRun
from tune_jobs.events import Event, event_from_mapping

Listener = Callable[[Event], None]


class Journal:
    """Appends events and then tells its listeners of them, in this order.

    What a process that died left unfinished at the end of the file is cut off first. A listener that fails is
    the run's failure: guests that may fail, such as trackers, guard themselves.
    """

    def __init__(self, path: Path, *listeners: Listener) -> None:
        self._listeners = list(listeners)
        _cut_torn_end(path)
        self._file = path.open("ab")

    def follow(self, listener: Listener) -> None:
        """Tells `listener` of every event from now on, after those who have followed for longer."""
        self._listeners.append(listener)

    def append(self, event: Event) -> None:
        """Writes `event`, hands it to the operating system, and only then tells the listeners."""
        text = json.dumps(event.to_mapping(), separators=(",", ":"), default=_plain).encode()
        self._file.write(b"%08x %s\n" % (zlib.crc32(text), text))
        self._file.flush()
        for listener in self._listeners:
            listener(event)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_journal(path: Path) -> list[Event]:
    """All events in the order in which they happened; a torn last line is left out.

    Raises:
        DamagedRun: a line before the last is damaged; the message names it.
    """
    lines = path.read_bytes().split(b"\n")
    torn = lines.pop()  # what follows the last line end: nothing, or a line that was not finished
    events = []
    for number, line in enumerate(lines, start=1):
        event = _parse(line)
        if event is None:
            if number == len(lines) and not torn:
                break
            raise DamagedRun(
                f"{path}: line {number} of {len(lines)} is damaged; restore the file from a copy, "
                f"or cut it before that line to keep the {number - 1} events in front of it"
            )
        events.append(event)
    return events


def _cut_torn_end(path: Path) -> None:
    """Without this the next event would be written onto a torn line, and be lost with it."""
    if not path.exists():
        return
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    last = content.rfind(b"\n", 0, max(end - 1, 0)) + 1
    if _parse(content[last : end - 1]) is None:
        end = last
    if end < len(content):
        os.truncate(path, end)


def _parse(line: bytes) -> Event | None:
    checksum, _, text = line.partition(b" ")
    try:
        if checksum != b"%08x" % zlib.crc32(text):
            return None
        return event_from_mapping(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _plain(value: Any) -> Any:
    """Numbers of numpy as Python's own."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{value!r} of {type(value)} cannot be written to the journal")
