"""The journal of a run in an object store: the same bytes as in the file, in objects that follow one another.

`journal/events-<n>.jsonl` holds whole lines, the first of which begins `n` bytes after the start of the journal.
The last one is written anew with more lines until it is large; those before it never change.
"""

from dataclasses import dataclass
from pathlib import Path

from tune_jobs.errors import DamagedRun
from tune_jobs.remote.store import Store

FOLDER = "journal"
SEGMENT_BYTES = 256_000
"""A segment of this size is not written to any more."""
_PREFIX, _SUFFIX = "events-", ".jsonl"


@dataclass(frozen=True)
class Segment:
    """One object."""

    start: int
    """Bytes of the journal in front of it."""
    size: int

    @property
    def name(self) -> str:
        return segment_name(self.start)


def segment_name(start: int) -> str:
    """Of the segment that begins `start` bytes after the start of the journal."""
    return f"{FOLDER}/{_PREFIX}{start:012d}{_SUFFIX}"


def segments(store: Store) -> list[Segment]:
    """All segments in the order of the journal."""
    found = []
    for stored in store.objects(FOLDER):
        digits = stored.name.removeprefix(f"{FOLDER}/{_PREFIX}").removesuffix(_SUFFIX)
        if digits.isdecimal() and segment_name(int(digits)) == stored.name:
            found.append(Segment(int(digits), stored.size))
    return sorted(found, key=lambda segment: segment.start)


def read_from(store: Store, start: int = 0) -> bytes:
    """What the journal holds from byte `start` on; none where there is no more.

    Raises:
        DamagedRun: a segment is missing.
    """
    content = b""
    for segment in segments(store):
        if segment.start + segment.size <= start:
            continue
        begin = start + len(content)
        if segment.start > begin:
            raise DamagedRun(
                f"{store.uri(FOLDER)}: the journal lacks its bytes {begin} to {segment.start - 1}; restore the "
                "object that held them, from an older version or a copy"
            )
        content += store.get(segment.name)[begin - segment.start :]
    return content


class SegmentWriter:
    """Sends what a journal's file has more than the store.

    Args:
        store: of the run.
        file: the journal.
        sent: bytes at the start of the file that the store holds.
    """

    def __init__(self, store: Store, file: Path, sent: int) -> None:
        self._store = store
        self._file = file
        self._start = sent
        """Of the segment that is written to: never one that somebody else began."""
        self.sent = sent

    def send(self, size: int) -> None:
        """Has the store hold the first `size` bytes of the file, which are whole lines.

        Raises:
            StoreError: it does not; nothing that it held is lost.
        """
        if size <= self.sent:
            return
        with self._file.open("rb") as file:
            file.seek(self._start)
            content = file.read(size - self._start)
        self._store.put(segment_name(self._start), content)
        self.sent = size
        if size - self._start >= SEGMENT_BYTES:
            self._start = size


def replace_journal(store: Store, content: bytes) -> None:
    """Has the store hold `content` in place of the journal that it held.

    First the whole is there, then the old segments behind its first go: whoever reads meanwhile finds one of both.
    """
    store.put(segment_name(0), content)
    for segment in segments(store):
        if segment.start > 0:
            store.delete(segment.name)
