"""The journal: appended events are read back, even if a dead process left a torn end."""

import json
import math
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_jobs.errors import DamagedRun, LaterVersion, RunInUse, StorageFailed
from tune_jobs.record.codes import Cause, Ending, Status
from tune_jobs.record.events import (
    CheckpointDamaged,
    CheckpointWritten,
    EpochsReported,
    Event,
    HoldoutEvaluated,
    HoldoutUnsealed,
    JobChanged,
    NoticeAdded,
    RunEnded,
    RunResumed,
    RunStarted,
    TrialCreated,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
    TrialStarted,
    TrialUnplaceable,
    WinnerSelected,
    WorkerLost,
    WrongEvent,
    event_from_mapping,
)
from tune_jobs.record.journal import Journal, in_use, read_journal
from tune_jobs.record.lines import START, encode_line, parse_content

MakeEvents = Callable[..., list[Event]]

NUMBERS = st.integers() | st.floats()
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
    max_leaves=5,
)
MAPPINGS = st.dictionaries(st.text(), VALUES, max_size=3)
TEXT = st.text(st.characters())  # half surrogate pairs too: an error's text may hold anything
TIMES = st.floats(0.0, 250e9)
WHOLE = st.integers(-(2**63), 2**63 - 1)
COUNTS = st.integers(0, 2**63 - 1)
IDS = st.integers(0, 99_999).map("{:04d}".format) | st.from_regex(r"[0-9A-Za-z_-]{1,64}", fullmatch=True)
FILES = st.lists(IDS, min_size=1, max_size=3).map("/".join)
ROWS = st.builds(
    lambda row, epoch: {**row, "epoch": epoch, "seconds": 0.5},
    st.dictionaries(st.text(), WHOLE | st.floats(), max_size=3),
    st.integers(1, 10**9),
)
EVENTS: dict[type[Event], st.SearchStrategy[Event]] = {
    RunStarted: st.builds(
        RunStarted,
        time=TIMES,
        name=TEXT,
        job_folder=TEXT,
        trials=COUNTS,
        rows=st.dictionaries(st.text(), WHOLE, max_size=3),
        fingerprints=st.dictionaries(st.text(), st.text(), max_size=3),
        versions=st.dictionaries(st.text(), st.text(), max_size=3),
        notices=st.lists(TEXT, max_size=3).map(tuple),
    ),
    RunResumed: st.builds(
        RunResumed,
        time=TIMES,
        trials=COUNTS,
        versions=st.dictionaries(st.text(), st.text(), max_size=3),
        notices=st.lists(TEXT, max_size=3).map(tuple),
        driver=TEXT,
    ),
    JobChanged: st.builds(JobChanged, time=TIMES, job_file=TEXT, changes=MAPPINGS),
    TrialCreated: st.builds(TrialCreated, time=TIMES, trial_id=IDS, number=COUNTS, configuration=MAPPINGS),
    TrialStarted: st.builds(TrialStarted, time=TIMES, trial_id=IDS),
    EpochsReported: st.builds(
        EpochsReported,
        time=TIMES,
        trial_id=IDS,
        results=st.lists(ROWS, max_size=3).map(tuple),
        worker=TEXT,
    ),
    CheckpointWritten: st.builds(CheckpointWritten, time=TIMES, trial_id=IDS, epoch=COUNTS, file=FILES),
    CheckpointDamaged: st.builds(CheckpointDamaged, time=TIMES, trial_id=IDS, file=FILES, reason=TEXT),
    TrialPaused: st.builds(TrialPaused, time=TIMES, trial_id=IDS, epoch=COUNTS),
    TrialPromoted: st.builds(TrialPromoted, time=TIMES, trial_id=IDS, epoch=COUNTS),
    WorkerLost: st.builds(WorkerLost, time=TIMES, trial_id=IDS, reason=TEXT),
    TrialUnplaceable: st.builds(TrialUnplaceable, time=TIMES, trial_id=IDS, reason=TEXT),
    NoticeAdded: st.builds(NoticeAdded, time=TIMES, text=TEXT),
    TrialEnded: st.builds(
        TrialEnded,
        time=TIMES,
        trial_id=IDS,
        status=st.sampled_from(Status),
        cause=st.sampled_from(Cause),
        reason=TEXT,
        details=TEXT,
    ),
    RunEnded: st.builds(RunEnded, time=TIMES, ending=st.sampled_from(Ending)),
    WinnerSelected: st.builds(WinnerSelected, time=TIMES, winner=st.none() | IDS),
    HoldoutUnsealed: st.builds(HoldoutUnsealed, time=TIMES, trial_id=IDS, reason=st.none() | TEXT),
    HoldoutEvaluated: st.builds(
        HoldoutEvaluated,
        time=TIMES,
        number=st.integers(1, 2**31),
        trial_id=IDS,
        results=st.dictionaries(st.text(), WHOLE | st.floats(), max_size=3),
        reason=st.none() | TEXT,
    ),
}


def write(path: Path, events: list[Event]) -> list[str]:
    """Write a journal and return a text per event, which can be compared even with NaN."""
    with Journal(path) as journal:
        for event in events:
            journal.append(event)
    return list(map(plain, events))


def plain(event: Event) -> str:
    return json.dumps(event.to_mapping())


def read(path: Path) -> list[str]:
    return list(map(plain, read_journal(path)))


def test_no_kind_of_event_is_left_out_here() -> None:
    assert set(EVENTS) == set(Event.__subclasses__())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(*EVENTS.values()), max_size=3))
def test_any_event_comes_back_in_order(tmp_path_factory: pytest.TempPathFactory, events: list[Event]) -> None:
    path = tmp_path_factory.mktemp("journal") / "events.jsonl"
    named = {getattr(event, "trial_id", getattr(event, "winner", None)) for event in events} - {None}
    events = [event for event in events if not isinstance(event, TrialCreated)]
    created = [
        TrialCreated(trial_id=name, number=number, configuration={}) for number, name in enumerate(named)
    ]
    events = [*created, *events]
    assert write(path, events) == read(path)
    assert [type(event) for event in read_journal(path)] == [type(event) for event in events]


def test_numbers_that_are_not_finite_survive(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    result = {"epoch": 1, "val_loss": math.nan, "train_loss": math.inf, "lr": -math.inf, "seconds": 1e-320}
    created = TrialCreated(trial_id="1", number=0, configuration={})
    write(path, [created, EpochsReported(trial_id="1", results=[result], worker="node:1")])
    _, event = read_journal(path)
    assert isinstance(event, EpochsReported)
    assert repr(event.results) == repr([result])


def nested(levels: int) -> list[Any]:
    return [nested(levels - 1)] if levels else []


CREATED = TrialCreated(time=5.0, trial_id="0000", number=0, configuration={})


@pytest.mark.parametrize(
    "event",
    [
        {**CREATED.to_mapping(), "number": "0"},
        {**CREATED.to_mapping(), "number": True},
        {**CREATED.to_mapping(), "number": 10**40},
        {**CREATED.to_mapping(), "configuration": [["lr", 0.1]]},
        {**CREATED.to_mapping(), "time": 1e300},
        {**CREATED.to_mapping(), "time": math.nan},
        {**CREATED.to_mapping(), "time": -1.0},
        {**CREATED.to_mapping(), "time": "now"},
        {**CREATED.to_mapping(), "trial_id": 0},
        {**CREATED.to_mapping(), "trial_id": ["0000"]},
        *(
            {**EpochsReported(trial_id="0000", results=[row], worker="").to_mapping()}
            for row in (
                {"seconds": 1.0}, {"epoch": 1}, {"epoch": 0, "seconds": 1.0}, {"epoch": 1.5, "seconds": 1.0},
                {"epoch": 1, "seconds": "1"}, {"epoch": 1, "seconds": 1.0, "val_loss": [1.0]},
                {"epoch": 1, "seconds": 1.0, "val_loss": None}, {"epoch": 1, "seconds": 10**30},
            )
        ),
        {"type": "run_ended", "time": 5.0, "ending": 3},
        {"type": "run_ended", "time": 5.0},
        *({**CREATED.to_mapping(), "trial_id": name} for name in ("", ".", "..", "../0000", "/etc", "0" * 65, "0\n")),
        {**CREATED.to_mapping(), "number": -1},
        {**CREATED.to_mapping(), "configuration": {"a": nested(60)}},
        {"type": "winner_selected", "time": 5.0, "winner": "../0000"},
        *(
            {**CheckpointWritten(trial_id="0000", epoch=1, file="").to_mapping(), "file": file}
            for file in ("", "/etc/passwd", "../other/epoch-000001.pt", "checkpoints/../../x", "a//b")
        ),
    ],
)  # fmt: skip
def test_values_that_no_driver_writes_are_damage_under_a_right_checksum_too(
    tmp_path: Path, event: dict[str, Any]
) -> None:
    text = json.dumps(event).encode()
    with pytest.raises(WrongEvent):
        event_from_mapping(event)
    path = tmp_path / "events.jsonl"
    path.write_bytes(encode_line(text, START)[0])
    with pytest.raises(DamagedRun, match=r"line 1 of 1 (has a value of `[a-z_]+` that|lacks a value)"):
        read_journal(path)


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"a":' * 100_000, b'{"type":' + b"[" * 100_000])
def test_json_of_any_depth_is_one_message(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(encode_line(text, START)[0])
    with pytest.raises(DamagedRun, match="line 1 of 1 has values that are nested too deep"):
        read_journal(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"trial_id":"0000"', b'"trial_id":"0000","trial_id":"0000"'),
        (b'"configuration":{}', b'"configuration":{"lr":1,"lr":2}'),
        (b'"configuration":{}', b'"configuration":{"lr":[{"a":1, "a" : 1}]}'),
    ],
)
def test_a_key_that_is_there_twice_is_damage(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(encode_line(json.dumps(CREATED.to_mapping(), separators=(",", ":")).encode(), START)[0])
    assert read_journal(path) == [CREATED]
    text = path.read_bytes().split(b" ", 3)[3].rstrip(b"\n").replace(old, new)
    path.write_bytes(encode_line(text, START)[0])
    with pytest.raises(DamagedRun, match="line 1 of 1 has a key twice"):
        read_journal(path)


# Lines that were lost, doubled or moved


Change = Callable[[list[bytes]], list[bytes]]
MOVED: dict[str, tuple[Change, str]] = {
    "lost": (lambda lines: [*lines[:2], *lines[3:]], "line 3 of 7 was written as line 4"),
    "first lost": (lambda lines: lines[1:], "line 1 of 7 was written as line 2"),
    "doubled": (lambda lines: [*lines[:3], *lines[2:]], "line 4 of 9 was written as line 3"),
    "last doubled": (lambda lines: [*lines, lines[-1]], "line 9 of 9 was written as line 8"),
    "last but one lost": (lambda lines: [*lines[:-2], lines[-1]], "line 7 of 7 was written as line 8"),
    "swapped": (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], "line 3 of 8 was written as line 4"),
    "reversed": (lambda lines: lines[::-1], "line 1 of 8 was written as line 8"),
    "joined": (lambda lines: [*lines, *lines], "line 9 of 16 was written as line 1"),
}  # fmt: skip


@pytest.mark.parametrize("how", MOVED)
def test_lines_that_were_lost_doubled_or_moved_are_noticed(
    tmp_path: Path, make_events: MakeEvents, how: str
) -> None:
    path = tmp_path / "events.jsonl"
    write(path, make_events([{"losses": [0.5]}, {"losses": [0.5]}])[:8])
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 8
    change, words = MOVED[how]
    changed = b"".join(change(lines))
    path.write_bytes(changed)
    with pytest.raises(DamagedRun, match=re.escape(words)):
        read_journal(path)
    with pytest.raises(DamagedRun, match=re.escape(words)):
        Journal(path)
    assert path.read_bytes() == changed


def test_a_line_of_another_journal_is_noticed(tmp_path: Path, make_events: MakeEvents) -> None:
    path, other = tmp_path / "events.jsonl", tmp_path / "other.jsonl"
    write(path, make_events([{"losses": [0.5]}]))
    write(other, make_events([{"losses": [0.25]}]))
    lines, others = (file.read_bytes().splitlines(keepends=True) for file in (path, other))
    place = next(number for number, pair in enumerate(zip(lines, others, strict=True)) if pair[0] != pair[1])
    path.write_bytes(b"".join([*lines[: place + 1], *others[place + 1 :]]))
    with pytest.raises(DamagedRun, match=f"line {place + 2} of .* does not follow from the line before it"):
        read_journal(path)


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([TrialStarted(trial_id="0001")], "line 2 of 2 names trial 0001, which no line before it created"),
        ([WinnerSelected(winner="0001")], "line 2 of 2 names trial 0001, which no line before it created"),
        ([CREATED], "line 2 of 2 creates trial 0000 again"),
    ],
)
def test_trials_are_created_once_before_they_are_named(
    tmp_path: Path, events: list[Event], words: str
) -> None:
    path = tmp_path / "events.jsonl"
    write(path, [CREATED, *events])
    with pytest.raises(DamagedRun, match=words):
        read_journal(path)


def test_a_part_is_parsed_like_the_whole(tmp_path: Path, make_events: MakeEvents) -> None:
    """`tune-jobs watch` reads what was added since it last read."""
    path = tmp_path / "events.jsonl"
    write(path, make_events([{"losses": [0.5]}]))
    content = path.read_bytes()
    whole = parse_content(content)
    for length in range(0, len(content), 50):
        first = parse_content(content[:length])
        second = parse_content(content[first.sound :], first.end)
        assert [*first.events, *second.events] == list(whole.events)
        assert second.end == whole.end
        assert second.damaged is None


def test_numbers_of_numpy_become_python_s_own(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with Journal(path) as journal:
        journal.append(
            TrialCreated(
                trial_id="1",
                number=0,
                configuration={"a": np.int64(3), "b": np.float32(0.5), "c": np.bool_(True)},
            )
        )
        with pytest.raises(TypeError, match="cannot be written to the journal"):
            journal.append(TrialCreated(trial_id="2", number=1, configuration={"a": object()}))
    (event,) = read_journal(path)
    assert isinstance(event, TrialCreated)
    assert event.configuration == {"a": 3, "b": 0.5, "c": True}


@pytest.mark.parametrize(
    "event",
    [
        TrialCreated(time=-1.0, trial_id="0001", number=1, configuration={}),
        TrialCreated(trial_id="../x", number=1, configuration={}),
        TrialCreated(trial_id="0001", number=1, configuration={"a": nested(60)}),
        EpochsReported(trial_id="0000", results=[{"epoch": 1, "seconds": 1.0, "auc": None}], worker="node:1"),
        EpochsReported(trial_id="0000", results=[{"epoch": 1, "seconds": 10**30}], worker="node:1"),
        HoldoutUnsealed(time=1e300, trial_id="0000"),
    ],
)
def test_no_event_is_written_that_no_reader_would_accept(tmp_path: Path, event: Event) -> None:
    path = tmp_path / "events.jsonl"
    with Journal(path) as journal:
        journal.append(CREATED)
        with pytest.raises(WrongEvent, match=r"has a value of `[a-z_]+` that no driver writes"):
            journal.append(event)
        journal.append(NoticeAdded(time=6.0, text="after"))
    assert read_journal(path) == [CREATED, NoticeAdded(time=6.0, text="after")]


def test_a_line_is_a_checksum_its_number_the_checksum_before_it_and_json(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path, [TrialStarted(time=1.5, trial_id="0007")])
    rest = b'1 00000000 {"type":"trial_started","time":1.5,"trial_id":"0007"}'
    assert path.read_bytes() == b"%08x %s\n" % (zlib.crc32(rest), rest)


def test_an_event_is_on_disk_before_any_listener_receives_it(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    received: list[Any] = []

    def listener(event: Event) -> None:
        received.append((event, len(read_journal(path))))

    def failing(event: Event) -> None:
        raise RuntimeError("out of order")

    first, second = NoticeAdded(text="1"), NoticeAdded(text="2")
    with Journal(path, listener, failing) as journal:
        for event in (first, second):
            with pytest.raises(RuntimeError, match="out of order"):
                journal.append(event)
    assert received == [(first, 1), (second, 2)]
    assert read_journal(path) == [first, second]


def test_a_new_listener_receives_later_events_after_older_listeners(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    received: list[tuple[str, Event, int]] = []

    def listener(name: str) -> Callable[[Event], None]:
        return lambda event: received.append((name, event, len(read_journal(path))))

    first, second, third = (NoticeAdded(text=str(number)) for number in range(3))
    with Journal(path, listener("given")) as journal:
        journal.append(first)
        journal.follow(listener("later"))
        journal.append(second)
        journal.follow(listener("last"))
        journal.append(third)
    assert received == [
        ("given", first, 1),
        *[("given", second, 2), ("later", second, 2)],
        *[("given", third, 3), ("later", third, 3), ("last", third, 3)],
    ]


def test_all_listeners_receive_the_event_at_which_one_of_them_stops_the_run(tmp_path: Path) -> None:
    """Otherwise the run would look unfinished when it is concluded, and would be ended again."""
    path = tmp_path / "events.jsonl"
    received: list[Event] = []
    event = NoticeAdded(text="0")

    def stops(why: str) -> Callable[[Event], None]:
        def listener(_: Event) -> None:
            raise StorageFailed(why, tmp_path)

        return listener

    with Journal(path, stops("first"), received.append, stops("second"), received.append) as journal:
        with pytest.raises(StorageFailed, match="first") as caught:
            journal.append(event)
        assert journal.failure is caught.value
    assert received == [event, event]
    assert read_journal(path) == [event]


def test_an_event_that_a_listener_appends_follows_the_event_that_it_received(tmp_path: Path) -> None:
    """So the decision of a scheduler follows the report that caused it."""
    path = tmp_path / "events.jsonl"
    report, decision = NoticeAdded(text="a report"), NoticeAdded(text="a decision")
    with Journal(path) as journal:
        journal.follow(lambda event: journal.append(decision) if event is report else None)
        journal.append(report)
    assert read_journal(path) == [report, decision]


# Leftovers of a dead process


def test_a_journal_cut_anywhere_keeps_every_whole_line(tmp_path: Path, make_events: MakeEvents) -> None:
    path = tmp_path / "events.jsonl"
    events = make_events([{"losses": [0.5]}])
    written = write(path, events)
    content = path.read_bytes()
    for length in [*range(0, len(content), 7), len(content) - 1, len(content)]:
        path.write_bytes(content[:length])
        assert read(path) == written[: content[:length].count(b"\n")]


def test_an_empty_journal_has_no_events(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.touch()
    assert read_journal(path) == []


@pytest.mark.parametrize(
    "tail", [b"\0" * 40, b"\0" * 40 + b"\n", b"0123 9 \0\0\0}\n", b"12345678 {}", b"\xff", b"\n"]
)
def test_an_end_that_was_not_written_to_its_end_is_left_out(
    tmp_path: Path, make_events: MakeEvents, tail: bytes
) -> None:
    path = tmp_path / "events.jsonl"
    written = write(path, make_events([{"losses": [0.5]}]))
    with path.open("ab") as file:
        file.write(tail)
    assert read(path) == written


@pytest.mark.parametrize("tail", [b"12345678 {}\n", b"\xff\xfe\n"])
def test_a_whole_last_line_that_is_damaged_is_noticed(
    tmp_path: Path, make_events: MakeEvents, tail: bytes
) -> None:
    """It was written to its end, so it may be an opening of the holdout that listeners had received."""
    path = tmp_path / "events.jsonl"
    write(path, make_events([{"losses": [0.5]}]))
    with path.open("ab") as file:
        file.write(tail)
    with pytest.raises(DamagedRun, match="line 8 of 8 is damaged"):
        read_journal(path)


@pytest.mark.parametrize("cut", [1, 2, 30])
def test_events_after_a_torn_line_are_not_lost(tmp_path: Path, make_events: MakeEvents, cut: int) -> None:
    path = tmp_path / "events.jsonl"
    written = write(path, make_events([{"losses": [0.5]}]))
    path.write_bytes(path.read_bytes()[:-cut])
    later = write(path, [HoldoutUnsealed(trial_id="0000"), HoldoutUnsealed(trial_id="0000", reason="again")])
    assert read(path) == [*written[:-1], *later]


def test_a_sound_journal_is_appended_to_as_it_is(tmp_path: Path, make_events: MakeEvents) -> None:
    path = tmp_path / "events.jsonl"
    written = write(path, make_events([{"losses": [0.5]}]))
    later = write(path, [HoldoutUnsealed(trial_id="0000")])
    assert read(path) == written + later


def test_damage_before_the_end_is_named_by_its_line(tmp_path: Path, make_events: MakeEvents) -> None:
    path = tmp_path / "events.jsonl"
    write(path, make_events([{"losses": [0.5]}]))
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"trial_started", b"trial_stopped")
    path.write_bytes(b"".join(lines))
    with pytest.raises(DamagedRun) as caught:
        read_journal(path)
    assert str(caught.value) == (
        f"{path}: line 3 of {len(lines)} is damaged; restore the file from a copy, "
        f"or keep the 2 events in front of it with `tune-jobs repair {path.parent.parent} --cut`"
    )


@pytest.mark.parametrize("position", [0, 5, 8, 9, 20, -2])
def test_any_changed_byte_is_noticed(tmp_path: Path, make_events: MakeEvents, position: int) -> None:
    path = tmp_path / "events.jsonl"
    write(path, make_events([{"losses": [0.5]}]))
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = bytearray(lines[1])
    damaged[position] ^= 1
    path.write_bytes(b"".join([lines[0], bytes(damaged), *lines[2:]]))
    with pytest.raises(DamagedRun, match="line 2 of"):
        read_journal(path)


@pytest.mark.parametrize("text", [b"[]", b"3", b"null", b"{}", b'{"type": "unheard_of"}', b"{"])
def test_a_sound_checksum_over_no_event_is_no_damage(tmp_path: Path, text: bytes) -> None:
    """The writer wrote it on purpose: a later version may store anything."""
    path = tmp_path / "events.jsonl"
    line, _ = encode_line(text, START)
    for content in (line, line * 2, line[:-1]):
        path.write_bytes(content)
        with pytest.raises(LaterVersion, match="line 1 of its journal was written by a later version"):
            Journal(path)
        assert path.read_bytes() == content


def test_the_lines_before_the_damage_are_known(tmp_path: Path, make_events: MakeEvents) -> None:
    path = tmp_path / "events.jsonl"
    write(path, make_events([{"losses": [0.5]}]))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"garbage\n", *lines[3:]]))
    damaged = parse_content(path.read_bytes())
    assert (damaged.sound, damaged.damaged, len(damaged.events)) == (len(lines[0] + lines[1]), 3, 2)
    torn = parse_content(b"".join([*lines[:2], lines[2][:-5]]))
    assert (torn.sound, torn.damaged, torn.rest) == (damaged.sound, None, len(lines[2]) - 5)


# Writers


def test_a_journal_that_is_opened_knows_its_earlier_events(tmp_path: Path, make_events: MakeEvents) -> None:
    path = tmp_path / "events.jsonl"
    events = make_events([{"losses": [0.5]}])
    write(path, events)
    sound = path.read_bytes()
    path.write_bytes(sound + b"0123abcd {")
    with Journal(path) as journal:
        assert list(map(plain, journal.past)) == list(map(plain, events))
        assert journal.cut == len(b"0123abcd {")
    assert path.read_bytes() == sound


def test_events_that_were_missing_join_the_past_and_those_of_the_run_do_not(
    tmp_path: Path, make_events: MakeEvents
) -> None:
    path = tmp_path / "events.jsonl"
    first, second, *_, last = make_events([{"losses": [0.5]}])
    write(path, [first])
    with Journal(path) as journal:
        journal.append_to_past([second])
        journal.append(last)
        assert list(map(plain, journal.past)) == list(map(plain, [first, second]))
    assert list(map(plain, read_journal(path))) == list(map(plain, [first, second, last]))


@pytest.mark.slow
def test_a_second_writer_is_refused_while_the_first_lives(tmp_path: Path, make_events: MakeEvents) -> None:
    path = tmp_path / "run" / "journal" / "events.jsonl"
    path.parent.mkdir(parents=True)
    with Journal(path) as journal:
        journal.append(RunResumed(trials=1, versions={}, driver="node-1:77"))
        assert in_use(path)
        with pytest.raises(RunInUse, match=r"run: another process is at work on this run \(node-1:77\)"):
            Journal(path)
        assert read_journal(path), "readers are not held up"
    assert not in_use(path)
    Journal(path).close()


def test_a_killed_writer_does_not_block_the_next(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    code = f"""
import os, pathlib, signal
from tune_jobs.record.events import NoticeAdded
from tune_jobs.record.journal import Journal
journal = Journal(pathlib.Path({str(path)!r}))
journal.append(NoticeAdded(text="one"))
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with Journal(path) as journal:
        assert len(journal.past) == 1


def test_a_process_that_the_writer_forked_does_not_block_the_next(tmp_path: Path) -> None:
    """One example is a process pool of the user's data function, which may outlive a killed driver."""
    path = tmp_path / "events.jsonl"
    code = f"""
import os, pathlib, signal, time
from tune_jobs.record.journal import Journal
journal = Journal(pathlib.Path({str(path)!r}))
child = os.fork()
if child == 0:
    os.close(1)
    time.sleep(600)
print(child, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    ran = subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.PIPE, text=True)
    child = int(ran.stdout)
    try:
        Journal(path).close()
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    """Limit the size of files: this cuts a line in the middle like a full disk."""
    path = tmp_path / "events.jsonl"
    received: list[Event] = []
    with Journal(path, received.append) as journal:
        journal.append(NoticeAdded(text="0000"))
        before = path.read_bytes()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, hard))
        try:
            with pytest.raises(StorageFailed, match=r"cannot be written to \(File too large\)") as caught:
                journal.append(NoticeAdded(text="0001"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert journal.failure is caught.value
        assert path.read_bytes() == before
        assert len(received) == 1, "listeners receive only events that are on disk"
        journal.append(NoticeAdded(text="0002"))
    assert [event.text for event in read_journal(path)] == ["0000", "0002"]  # type: ignore[attr-defined]


# Other programs


def replaced_by(content: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Return what an editor does that saves: it puts a new file in the place of the old one."""

    def save(path: Path) -> None:
        new = path.with_name("new")
        new.write_bytes(content(path.read_bytes()))
        new.replace(path)

    return save


def appended(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more\n")


def overwritten(path: Path) -> None:
    """Change the last line in place."""
    with path.open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"?")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (replaced_by(lambda content: content), "was replaced by another file"),
        (replaced_by(lambda content: content[:-9]), "was replaced by another file"),
        (Path.unlink, "was removed"),
        (lambda path: shutil.rmtree(path.parent), "was removed"),
        (lambda path: shutil.rmtree(path.parents[1]), "was removed"),
        (appended, "was written to by another program"),
        (overwritten, "was written to by another program"),
        (lambda path: os.truncate(path, 3), "was shortened by another program"),
        (lambda path: path.write_bytes(b""), "was shortened by another program"),
    ],
)
def test_a_journal_that_another_program_changes_stops_the_run_and_is_kept(
    tmp_path: Path, make_events: MakeEvents, change: Callable[[Path], None], what: str
) -> None:
    path = tmp_path / "runs" / "run" / "journal" / "events.jsonl"
    path.parent.mkdir(parents=True)
    write(path, make_events([{"losses": [0.5, math.nan]}])[:-1])
    with Journal(path) as journal:
        journal.append(NoticeAdded(text="before"))
        written = path.read_bytes()
        change(path)
        left = sorted(tmp_path.rglob("*.jsonl"))
        messages = set()
        for _ in range(2):
            with pytest.raises(StorageFailed, match=f"{what} while the run was at work") as caught:
                journal.append(NoticeAdded(text="after"))
            assert journal.failure is caught.value
            messages.add(str(caught.value))
    (message,) = messages
    assert f"`tune-jobs resume {path.parents[1]}`" in message
    (kept,) = re.findall(r"recorded before is in (\S+)\. (?:Put|Restore)", message)
    assert Path(kept).read_bytes() == written
    assert sorted(tmp_path.rglob("*.jsonl")) == left, "nothing was put in its place"


def test_the_message_of_a_run_that_was_moved_names_its_new_place(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "run" / "journal" / "events.jsonl"
    path.parent.mkdir(parents=True)
    moved = tmp_path / "elsewhere"
    with Journal(path) as journal:
        journal.append(NoticeAdded(text="before"))
        written = path.read_bytes()
        path.parents[1].rename(moved)
        with pytest.raises(StorageFailed, match=f"was moved to {moved} while .* `tune-jobs resume {moved}`"):
            journal.append(NoticeAdded(text="after"))
    assert (moved / "journal" / "events.jsonl").read_bytes() == written
    assert not path.parents[1].exists()


def test_a_line_that_is_being_written_is_no_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that uploads the journal compares the file while the driver writes to it."""
    asked, errors = threading.Event(), list[BaseException]()
    force = os.fdatasync

    def compare() -> None:
        asked.set()
        try:
            journal.refuse_foreign_changes()
        except StorageFailed as error:
            errors.append(error)

    def force_while_another_thread_compares(file: int) -> None:
        thread.start()
        asked.wait()
        thread.join(0.2)  # it would have found the new line by then
        force(file)

    with Journal(tmp_path / "events.jsonl") as journal:
        thread = threading.Thread(target=compare)
        monkeypatch.setattr(os, "fdatasync", force_while_another_thread_compares)
        journal.append(NoticeAdded(text="one"))
        thread.join()
    assert errors == []


def test_a_copy_by_a_hard_link_is_no_change(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with Journal(path) as journal:
        journal.append(NoticeAdded(text="before"))
        os.link(path, tmp_path / "backup")
        journal.append(NoticeAdded(text="after"))
    assert len(read_journal(path)) == 2


def test_several_events_are_one_write_and_each_reaches_the_listeners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[Event] = []
    events = [NoticeAdded(text=f"{number}") for number in range(3)]
    writes: list[bytes] = []
    write = os.write
    with Journal(tmp_path / "j", received.append) as journal:
        monkeypatch.setattr(
            os, "write", lambda file, lines: writes.append(bytes(lines)) or write(file, lines)
        )
        journal.append(*events)
        journal.append()
        monkeypatch.undo()
        wrong = NoticeAdded(text=3)  # type: ignore[arg-type]
        with pytest.raises(WrongEvent):
            journal.append(events[0], wrong)
    assert [one.count(b"\n") for one in writes] == [3]
    assert received == read_journal(tmp_path / "j") == events
