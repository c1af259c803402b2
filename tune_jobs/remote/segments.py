"""The journal of a run in an object store: the same bytes as in the file, in objects that follow one another.

`journal/events-<term>-<start>.jsonl` holds whole lines, the first of which begins `start` bytes after the start of the
journal. Each process that writes to a run has its own term, one higher than all before it (the word is that
of Raft: Ongaro and Ousterhout 2014). From the byte at which a term begins, earlier terms do not count: a process
that was taken for dead, and writes once more, changes nothing. The last object of a term is replaced by one with
more lines until it is large; those before it never change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from pathlib import Path

from tune_jobs.errors import DamagedRun
from tune_jobs.remote.store import Store

FOLDER = "journal"
"""Prefix of the names of all segments."""
SEGMENT_BYTES = 256_000
"""Size in bytes from which a segment does not grow any more."""
_PREFIX, _SUFFIX = "events-", ".jsonl"


@dataclass(frozen=True, order=True)
class Segment:
    """One object of a journal."""

    term: int
    """Term of the process that writes it; the first process of a run has 1."""
    start: int
    """Bytes of the journal in front of the segment."""
    size: int
    """Bytes of the segment."""

    @property
    def name(self) -> str:
        return segment_name(self.term, self.start)


@dataclass(frozen=True)
class Piece:
    """The part of a segment that counts: bytes `begin` to `end` of the journal, `end` excluded."""

    segment: Segment
    begin: int
    end: int


def segment_name(term: int, start: int) -> str:
    """Return the name of the segment that a term begins `start` bytes after the start of the journal."""
    return f"{FOLDER}/{_PREFIX}{term:06d}-{start:012d}{_SUFFIX}"


def segments(store: Store) -> list[Segment]:
    """List all segments, by term and then by start."""
    found = []
    for stored in store.objects(FOLDER):
        term, _, start = stored.name.removeprefix(f"{FOLDER}/{_PREFIX}").removesuffix(_SUFFIX).partition("-")
        if term.isdecimal() and start.isdecimal() and segment_name(int(term), int(start)) == stored.name:
            found.append(Segment(int(term), int(start), stored.size))
    return sorted(found)


def pieces(found: list[Segment]) -> list[Piece]:
    """Return the parts of sorted segments that count, in the order of the journal. Gaps stay gaps."""
    counting: list[Piece] = []
    for _, of_term in groupby(found, key=lambda segment: segment.term):
        own = [Piece(segment, segment.start, segment.start + segment.size) for segment in of_term]
        begin = own[0].begin
        before = [Piece(piece.segment, piece.begin, min(piece.end, begin)) for piece in counting]
        counting = [piece for piece in before if piece.begin < piece.end] + own
    return counting


def read_from(store: Store) -> bytes:
    """Read the whole journal; empty if there is none.

    Raises:
        DamagedRun: A segment is missing.
    """
    return read_pieces(store, pieces(segments(store)))


def first_change(known: Sequence[Piece], now: Sequence[Piece]) -> int | None:
    """Return the first byte at which a journal of the pieces `now` may differ from one of the pieces `known`.

    Returns:
        The byte that the first new or changed piece begins with; None if there is none.
    """
    for before, piece in zip_longest(known, now):
        if piece is None:
            return None
        if piece != before:
            return int(piece.begin)
    return None


def read_pieces(store: Store, counting: Sequence[Piece], start: int = 0) -> bytes:
    """Read what the pieces hold from byte `start` on; empty if there is nothing.

    Raises:
        DamagedRun: A segment is missing.
    """
    content = b""
    for piece in counting:
        begin = start + len(content)
        if piece.end <= begin:
            continue
        if piece.begin > begin:
            raise DamagedRun(
                f"{store.uri(FOLDER)}: the journal lacks its bytes {begin} to {piece.begin - 1}; restore the "
                "object that held them, from an older version or a copy"
            )
        first = piece.segment.start
        content += store.get(piece.segment.name)[begin - first : piece.end - first]
    return content


class SegmentWriter:
    """Sends the bytes of a journal's file that the store lacks, in a new term.

    Args:
        store: The store of the run.
        file: The file of the journal.
        sent: Bytes at the start of the file that the store holds, and that count.
    """

    def __init__(self, store: Store, file: Path, sent: int) -> None:
        self._store = store
        self._file = file
        self._term = _next_term(store)
        self._start = sent
        """First byte of the segment that is written to."""
        self.sent = sent

    def send(self, size: int) -> None:
        """Send the first `size` bytes of the file, which are whole lines.

        Raises:
            StoreError: The store does not take them; nothing that it held is lost.
        """
        if size <= self.sent:
            return
        with self._file.open("rb") as file:
            file.seek(self._start)
            content = file.read(size - self._start)
        self._store.put(segment_name(self._term, self._start), content)
        self.sent = size
        if size - self._start >= SEGMENT_BYTES:
            self._start = size


def replace_journal(store: Store, content: bytes) -> None:
    """Replace the journal in the store by `content`, in one step."""
    before = segments(store)
    store.put(segment_name(_next_term(store), 0), content)
    for segment in before:  # these do not count any more
        store.delete(segment.name)


def _next_term(store: Store) -> int:
    return max((segment.term for segment in segments(store)), default=0) + 1
