"""The lines of a journal: each has a checksum and follows from the line before it.

A line has four fields, with a space between two of them:

    0d4a1f6e 17 5b0c93aa {"type":"trial_started","time":1000000.0,"trial_id":"0003"}

They are the CRC-32 of the rest of the line, the number of the line from 1, the CRC-32 of the line before it (zeros in
the first line), and the event as JSON. So a lost, doubled or moved line is noticed, and so is the joint of two
journals. A CRC-32 finds accidents; it does not keep out someone who forges a line.
"""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tune_jobs.record.events import FORMAT, Event, TrialCreated, WinnerSelected, event_from_mapping, format_of
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
    """Number of the damaged line, from 1; None if only the last line of the file is unfinished or damaged."""
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
class Line:
    """A line with a correct checksum."""

    number: int
    checksum: bytes
    before: bytes
    """The checksum of the line before it, as this line has it."""
    content: Event | UnknownLine


def encode_line(event: bytes, place: Place) -> tuple[bytes, Place]:
    """Return the line for the JSON of an event at `place`, with its line break, and the place after it.

    The trials of the place stay as they are: they matter to readers alone.
    """
    rest = b"%d %s %s" % (place.number + 1, place.checksum, event)
    checksum = b"%08x" % zlib.crc32(rest)
    return b"%s %s\n" % (checksum, rest), Place(place.number + 1, checksum, place.trials)


def parse_line(line: bytes) -> Line | None:
    """Parse a line of a journal, given without its line break; None if the line is damaged."""
    checksum, _, rest = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(rest):
        return None
    number, _, chained = rest.partition(b" ")
    before, _, text = chained.partition(b" ")
    if not number.isdigit() or len(number) > len(str(2**63)):
        return Line(0, checksum, b"", UnknownLine(_json_of(rest), chained=not rest.startswith(b"{")))
    content = _json_of(text)
    try:
        return Line(int(number), checksum, before, event_from_mapping(content))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Line(int(number), checksum, before, UnknownLine(content))


def _json_of(text: bytes) -> Any:
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
    parsed = [parse_line(line) for line in (*lines, unfinished)]
    events: list[Event] = []
    begin, trials, damage = place, set(place.trials), ""
    for line in parsed[:-1]:
        damage = _damage(line, place, trials)
        if damage or line is None or isinstance(line.content, UnknownLine):
            break
        if isinstance(line.content, TrialCreated):
            trials.add(line.content.trial_id)
        events.append(line.content)
        place = Place(line.number, line.checksum)
    sound = sum(len(line) + 1 for line in lines[: len(events)])
    first = len(events) + 1  # the first line that is not sound
    torn = first > len(lines) or (first == len(lines) and not unfinished and parsed[first - 1] is None)
    unknown = {
        number: line.content
        for number, line in enumerate(parsed, begin.number + 1)
        if line is not None and isinstance(line.content, UnknownLine)
    }
    return Content(
        events=events,
        sound=sound,
        end=Place(place.number, place.checksum, frozenset(trials)),
        rest=len(content) - sound,
        lines=begin.number + len(lines),
        damaged=None if torn else begin.number + first,
        damage="" if torn else damage,
        unknown=min(unknown, default=None),
        earlier=any(line.is_earlier for line in unknown.values()),
        writer=_other_version(parsed) if unknown else "",
    )


def _damage(line: Line | None, place: Place, trials: set[str]) -> str:
    """Return what is wrong with the line after `place`, as the end of "line 17 …"; empty if it is sound."""
    if line is None:
        return "is damaged"
    if isinstance(line.content, UnknownLine):
        return ""
    if line.number != place.number + 1:
        return f"was written as line {line.number}: lines were lost, doubled or moved, or two journals were joined"
    if line.before != place.checksum:
        return "does not follow from the line before it: that line was replaced, or two journals were joined"
    trial = getattr(line.content, "winner" if isinstance(line.content, WinnerSelected) else "trial_id", None)
    if isinstance(line.content, TrialCreated):
        return f"creates trial {trial} again" if trial in trials else ""
    return f"names trial {trial}, which no line before it created" if trial not in {None, *trials} else ""


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
