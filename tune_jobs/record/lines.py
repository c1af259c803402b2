"""The lines of a journal: each has a checksum and follows from the line before it.

A line has four fields, with a space between two of them:

    0d4a1f6e 17 5b0c93aa {"type":"trial_started","time":1000000.0,"trial_id":"0003"}

They are the CRC-32 of the rest of the line, the number of the line from 1, the CRC-32 of the line before it (zeros in
the first line), and the event as JSON. So a lost, doubled or moved line is noticed, and so is the joint of two
journals. A CRC-32 finds accidents; it does not keep out someone who forges a line.
"""

import gc
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from json.scanner import make_scanner
from typing import Any, NamedTuple

from tune_jobs.record.event_values import count_texts
from tune_jobs.record.events import (
    FORMAT,
    EpochsReported,
    Event,
    HoldoutEvaluated,
    HoldoutUnsealed,
    TrialCreated,
    WinnerSelected,
    WrongEvent,
    event_from_mapping,
    format_of,
)
from tune_jobs.versions import versions_here


@dataclass(frozen=True)
class Place:
    """A place between two lines of a journal: all that the next line must agree with."""

    number: int = 0
    """Number of the line before it."""
    checksum: bytes = b"00000000"
    """Checksum of the line before it."""
    trials: frozenset[str] = frozenset()
    """Trials that the lines before it created."""


START = Place()
"""The place before the first line."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """Content of a journal's file, up to the first line that is not sound."""

    events: Sequence[Event]
    """One for each sound line at the start of the file."""
    sound: int
    """Bytes of these lines."""
    end: Place
    """The place after these lines."""
    rest: int
    """Bytes after them."""
    lines: int
    """Lines of the file that end with a line break, sound or not."""
    damaged: int | None
    """Number of the damaged line, from 1; None if no more than the end of the file was not written to its end."""
    damage: str
    """What is wrong with the damaged line; empty without one."""
    unknown: int | None
    """Number of the first line that another version wrote, wherever it is; None without one."""
    earlier: bool
    """Whether that version is an earlier one: its format is lower. A later one otherwise."""
    writer: str
    """The version of tune-jobs that wrote it, if a line names one; otherwise empty."""


@dataclass(frozen=True)
class UnknownLine:
    """The content of a line with a correct checksum that this version does not know."""

    content: Any
    """The JSON of the line; None if it is not JSON."""
    chained: bool = True
    """Whether the line names the one before it. Earlier versions wrote lines that do not."""

    @property
    def is_earlier(self) -> bool:
        """Return whether an earlier version wrote the line, or begins its work with it."""
        if not self.chained:
            return True
        try:
            return isinstance(self.content, dict) and format_of(self.content) < FORMAT
        except (ValueError, TypeError):
            return False


@dataclass(frozen=True)
class WrongLine:
    """The content of a line with a correct checksum that no driver wrote."""

    why: str
    """What is wrong with it, as the end of "line 17 …"."""


class Line(NamedTuple):
    """A line with a correct checksum."""

    number: int
    checksum: bytes
    before: bytes
    """The checksum of the line before it, as this line has it."""
    content: Event | UnknownLine | WrongLine


def encode_line(event: bytes, place: Place) -> tuple[bytes, Place]:
    """Return the line for the JSON of an event at `place`, with its line break, and the place after it.

    The trials of the place stay as they are: they matter to readers alone.
    """
    rest = b"%d %s %s" % (place.number + 1, place.checksum, event)
    checksum = b"%08x" % zlib.crc32(rest)
    return b"%s %s\n" % (checksum, rest), Place(place.number + 1, checksum, place.trials)


def parse_line(line: bytes) -> Line | None:
    """Parse a line of a journal, given without its line break; None if the line is damaged."""
    rest = line[9:]
    if line[:9] != b"%08x " % zlib.crc32(rest):
        return None
    number, *chained = rest.split(b" ", 2)
    if len(chained) < 2 or not number.isdigit() or len(number) > len(str(2**63)):
        unknown = UnknownLine(_json_or_none(rest), chained=not rest.startswith(b"{"))
        return Line(0, line[:8], b"", unknown)
    return Line(int(number), line[:8], chained[0], _event_of(chained[1]))


def _event_of(text: bytes) -> Event | UnknownLine | WrongLine:
    content: Any = None
    try:
        decoded = text.decode()
        content, end = _parse(decoded, 0)
        if end != len(decoded):
            return UnknownLine(_json_or_none(text))
        event = event_from_mapping(content)
        return event if _has_each_key_once(text, content, event) else WrongLine("has a key twice")
    except WrongEvent as error:
        return WrongLine(str(error))
    except RecursionError:
        return WrongLine("has values that are nested too deep")
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return UnknownLine(content)


_parse: Callable[[str, int], tuple[Any, int]] = make_scanner(json.JSONDecoder())  # type: ignore[arg-type]  # as json does
"""`json.loads` without its search for spaces around the value and its guess of the encoding."""


def _has_each_key_once(text: bytes, content: Mapping[str, Any], event: Event) -> bool:
    """Return whether no object in the text has a key twice. To count quotes is faster, and enough for most lines."""
    rows = event.results if type(event) is EpochsReported else None
    # Values of such an event are the type, the trial, the worker, and numbers.
    texts = count_texts(content) if rows is None else len(content) + 3 + sum(map(len, rows))
    if text.count(b'"') == 2 * texts:
        return True
    try:
        json.loads(text, object_pairs_hook=_without_doubles)
    except WrongEvent:
        return False
    return True


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of JSON with these pairs.

    Raises:
        WrongEvent: It has a key twice.
    """
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise WrongEvent
    return mapping


def _json_or_none(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def parse_content(content: bytes, place: Place = START) -> Content:
    """Parse lines of a journal: the one place that tells sound lines from others.

    Args:
        content: Lines, the last of which may be unfinished.
        place: The place of the first of them in the journal.
    """
    *lines, unfinished = content.split(b"\n")
    with uncollected():
        parsed = [parse_line(line) for line in (*lines, unfinished)]
    events: list[Event] = []
    number, checksum, trials, damage = place.number, place.checksum, set(place.trials), ""
    for line in parsed[:-1]:
        damage = _damage(line, number, checksum, trials)
        if damage or line is None or not isinstance(line.content, Event):
            break
        if isinstance(line.content, TrialCreated):
            trials.add(line.content.trial_id)
        events.append(line.content)
        number, checksum = line.number, line.checksum
    sound = sum(len(line) + 1 for line in lines[: len(events)])
    first = len(events) + 1  # the first line that is not sound
    torn = first > len(lines) or (first == len(lines) and not unfinished and _is_unwritten(lines[-1]))
    unknown = {
        number: line.content
        for number, line in enumerate(parsed, place.number + 1)
        if line is not None and isinstance(line.content, UnknownLine)
    }
    return Content(
        events=events,
        sound=sound,
        end=Place(number, checksum, frozenset(trials)),
        rest=len(content) - sound,
        lines=place.number + len(lines),
        damaged=None if torn else place.number + first,
        damage="" if torn else damage,
        unknown=min(unknown, default=None),
        earlier=any(line.is_earlier for line in unknown.values()),
        writer=_other_version(parsed) if unknown else "",
    )


@contextmanager
def uncollected() -> Iterator[None]:
    """Let Python not look for garbage while a block makes many objects, all of which stay."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _is_unwritten(line: bytes) -> bool:
    """Return whether a power cut left the line: a part of the file that was not written before it reads as zeros."""
    return b"\0" in line or not line


def _damage(line: Line | None, number: int, checksum: bytes, trials: set[str]) -> str:
    """Return what is wrong with the line after the one with this number and checksum; empty if it is sound.

    The text is the end of "line 17 …".
    """
    if line is None:
        return "is damaged"
    content = line.content
    if isinstance(content, UnknownLine):
        return ""
    if line.number != number + 1:
        return f"was written as line {line.number}: lines were lost, doubled or moved, or two journals were joined"
    if line.before != checksum:
        return "does not follow from the line before it: that line was replaced, or two journals were joined"
    return content.why if isinstance(content, WrongLine) else _damage_of_trial(content, trials)


def _damage_of_trial(event: Event, trials: set[str]) -> str:
    trial = vars(event).get("winner" if type(event) is WinnerSelected else "trial_id")
    if type(event) is TrialCreated:
        return f"creates trial {trial} again" if trial in trials else ""
    if trial is None or trial in trials:
        return ""
    if isinstance(event, HoldoutUnsealed | HoldoutEvaluated) and event.from_ledger:
        return ""  # a cut took its trial away, but an opening stays
    return f"names trial {trial}, which no line before it created"


def _other_version(parsed: Sequence[Line | None]) -> str:
    """Return the last version of tune-jobs that a line names, other than this one; empty without one."""
    not_others = {"", version_here()}
    others = [version for line in parsed if (version := _version_in(line)) not in not_others]
    return others[-1] if others else ""


def version_here() -> str:
    """Return the installed version of tune-jobs; empty if it is unknown."""
    return versions_here(["tune-jobs"]).get("tune-jobs", "")


def _version_in(line: Line | None) -> str:
    """Return the version of tune-jobs that a line names; the first event of a driver does."""
    if line is None:
        return ""
    content = line.content.content if isinstance(line.content, UnknownLine) else vars(line.content)
    versions = content.get("versions") if isinstance(content, dict) else None
    version = versions.get("tune-jobs") if isinstance(versions, dict) else None
    return version if isinstance(version, str) else ""
