"""The journal in the store equals the file, in whatever parts and however often it was sent."""

from pathlib import Path

import pytest

from tune_jobs.errors import DamagedRun
from tune_jobs.location import Location
from tune_jobs.remote import segments
from tune_jobs.remote.segments import (
    Piece,
    SegmentWriter,
    first_change,
    pieces,
    read_from,
    read_pieces,
    replace_journal,
    segment_name,
)
from tune_jobs.remote.store import Store


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(b"line %d\n" % number for number in range(100)))
    return path


def test_the_sent_journal_is_read_back(s3: Location, journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 50)
    store, content = Store(s3), journal.read_bytes()
    writer = SegmentWriter(store, journal, 0)
    ends = [end + 1 for end, byte in enumerate(content) if byte == 10]
    for size in (*ends[:20:3], ends[18], ends[-1]):
        writer.send(size)
        assert read_from(store) == content[: writer.sent]
    assert read_from(store) == content
    assert read_pieces(store, pieces(segments.segments(store)), 123) == content[123:]
    assert read_pieces(store, pieces(segments.segments(store)), len(content)) == b""
    assert len(segments.segments(store)) >= 3


def test_objects_that_may_have_changed_are_read_again(
    s3: Location, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 50)
    store = Store(s3)

    def now() -> list[Piece]:
        return pieces(segments.segments(store))

    writer = SegmentWriter(store, journal, 0)
    assert first_change([], now()) is None
    for size in (56, 112, 119):
        writer.send(size)
    known = now()
    assert [(piece.begin, piece.end) for piece in known] == [(0, 56), (56, 112), (112, 119)]
    assert (first_change([], known), first_change(known, now())) == (0, None)
    writer.send(126)
    assert first_change(known, now()) == 112, "the last one has grown"
    known = now()
    SegmentWriter(store, journal, 70).send(119)
    assert first_change(known, now()) == 56, "from the middle of it on another term counts"
    assert first_change(now(), now()[:1]) is None


def test_an_object_that_another_driver_began_is_not_written_to(s3: Location, journal: Path) -> None:
    store, content = Store(s3), journal.read_bytes()
    SegmentWriter(store, journal, 0).send(70)
    SegmentWriter(store, journal, 70).send(len(content))
    assert [one.start for one in segments.segments(store)] == [0, 70]
    assert store.get(segment_name(1, 0)) == content[:70]
    assert read_from(store) == content


def test_a_driver_that_was_taken_for_dead_and_writes_once_more_changes_nothing(
    s3: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver writes into the object that it had begun, and into a new one."""
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 50)
    store = Store(s3)
    slow, other = tmp_path / "slow", tmp_path / "other"
    slow.write_bytes(b"".join(b"A%03d\n" % number for number in range(12)))
    late = SegmentWriter(store, slow, 0)
    late.send(60)
    other.write_bytes(read_from(store))
    taken_over = SegmentWriter(store, other, 60)
    with other.open("ab") as file:
        file.write(b"B012\nB013\n")
    taken_over.send(70)
    with slow.open("ab") as file:
        file.write(b"".join(b"A-late-%05d\n" % number for number in range(20)))
    for size in range(73, slow.stat().st_size, 13):
        late.send(size)
        assert read_from(store) == other.read_bytes()
    with other.open("ab") as file:
        file.write(b"B014\n")
    taken_over.send(75)
    assert read_from(store) == other.read_bytes()
    assert read_pieces(store, pieces(segments.segments(store)), 62) == other.read_bytes()[62:]


def test_nothing_new_is_nothing_sent(s3: Location, journal: Path) -> None:
    SegmentWriter(Store(s3), journal, 0).send(0)
    assert read_from(Store(s3)) == b""
    assert Store(s3).objects() == []


def test_a_missing_object_is_damage_and_not_a_shorter_journal(
    s3: Location, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 1)
    store = Store(s3)
    writer = SegmentWriter(store, journal, 0)
    for size in (7, 14, 21):
        writer.send(size)
    store.delete(segment_name(1, 7))
    with pytest.raises(DamagedRun, match="lacks its bytes 7 to 13"):
        read_from(store)


def test_a_journal_that_was_cut_takes_the_place_of_the_longer_one(
    s3: Location, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 1)
    store = Store(s3)
    writer = SegmentWriter(store, journal, 0)
    for size in (7, 14, 21):
        writer.send(size)
    replace_journal(store, b"line 0\n")
    assert read_from(store) == b"line 0\n"
    assert len(segments.segments(store)) == 1


@pytest.mark.parametrize("content", [b"line 0\n", b"line 0\n" * 9])
def test_a_replacement_that_stops_on_the_way_has_been_made(
    content: bytes, s3: Location, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 1)
    store = Store(s3)
    writer = SegmentWriter(store, journal, 0)
    for size in (7, 14, 21):
        writer.send(size)

    def lost(*_: object) -> None:
        raise OSError("the machine is lost")

    monkeypatch.setattr(Store, "delete", lost)
    with pytest.raises(OSError, match="the machine is lost"):
        replace_journal(store, content)
    assert read_from(store) == content


def test_other_objects_beside_the_journal_are_ignored(s3: Location) -> None:
    Store(s3).put("journal/events.jsonl.damaged-20260101T000000Z", b"x")
    Store(s3).put("journal/events-1.jsonl", b"x")
    Store(s3).put("journal/events-1-0.jsonl", b"x")
    assert read_from(Store(s3)) == b""
