"""The openings of the holdout: the journal is their record, and the ledger lists them beside the rows.

An opening is claimed in the journal before the test rows are read.
"""

import json
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from tune_jobs.errors import DamagedRun, HoldoutOpened, LaterVersion, RunFolderError
from tune_jobs.files import parse_json, replacing
from tune_jobs.location import location_of
from tune_jobs.record.events import Event, HoldoutEvaluated, HoldoutUnsealed, refuse_wrong_values
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal
from tune_jobs.remote import claims
from tune_jobs.remote.store import Store, StoreError
from tune_jobs.text import quoted

LEDGER = "ledger.jsonl"
"""Name of the file in the folder of the holdout."""


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """One opening of the holdout."""

    number: int
    """Number of the entry, from 1."""
    time: float
    trial_id: str
    reason: str | None
    results: dict[str, float] | None = None
    """Loss and metrics on the test rows; None during the evaluation, and if it failed."""


_FIELDS = frozenset(field.name for field in fields(LedgerEntry))
"""The fields that this version knows in a line of the ledger."""


def claim_opening(
    folder: RunFolder, journal: Journal, trial_id: str, *, again: bool, reason: str | None
) -> int:
    """Claim the next opening of the holdout; after this, and not before, the rows may be read.

    The claim is an event of the journal, which only one process at a time can write.

    Args:
        folder: The run folder.
        journal: The open journal of the run.
        trial_id: The trial for which the rows are read.
        again: Claim another opening although the rows were read before.
        reason: The reason for reading them again.

    Returns:
        The number of the opening.

    Raises:
        HoldoutOpened: The rows were read before and `again` was not given, or another machine reads them now.
        RunFolderError: The object store of the run cannot record the claim.
        DamagedRun: The ledger is damaged, or contradicts the journal.
        StorageFailed: The journal cannot be written to.
    """
    opened = refuse_second_opening(folder, journal, again=again)
    append_openings(journal, folder)
    event = HoldoutUnsealed(trial_id=trial_id, reason=reason)
    number = len(opened) + 1
    _claim_in_store(folder, LedgerEntry(number=number, time=event.time, trial_id=trial_id, reason=reason))
    journal.append_to_past([event])
    with suppress(
        OSError
    ):  # the journal has the opening, and the next command that writes makes the ledger again
        write_ledger(folder, openings_in(journal.past))
    return number


def refuse_second_opening(folder: RunFolder, journal: Journal, *, again: bool) -> list[LedgerEntry]:
    """Return the openings so far.

    Raises:
        HoldoutOpened: There is one, and `again` was not given.
        DamagedRun: The ledger is damaged, or contradicts the journal.
    """
    opened = read_openings(folder, journal.past)
    if opened and not again:
        raise HoldoutOpened(_opened_before_text(folder, opened))
    return opened


def openings_in(events: Iterable[Event]) -> list[LedgerEntry]:
    """Return the openings that the events of a journal tell of, in order."""
    entries: list[LedgerEntry] = []
    for event in events:
        if isinstance(event, HoldoutUnsealed):
            number = len(entries) + 1
            entries.append(
                LedgerEntry(number=number, time=event.time, trial_id=event.trial_id, reason=event.reason)
            )
        elif isinstance(event, HoldoutEvaluated) and 0 < event.number <= len(entries):
            entries[event.number - 1] = replace(entries[event.number - 1], results=dict(event.results))
    return entries


def read_openings(folder: RunFolder, events: Iterable[Event]) -> list[LedgerEntry]:
    """Return all openings of the holdout: those of the journal, and what the ledger alone holds.

    The journal is the record. The ledger may lack openings, all of them too. It may hold more if the end of the
    journal was cut, or if another machine claimed them.

    Args:
        folder: The run folder.
        events: All events of the journal.

    Raises:
        LaterVersion: A line of the ledger has a field that this version does not know.
        DamagedRun: A line of the ledger cannot be read, or contradicts the journal.
    """
    known = openings_in(events)
    content = _content(folder)
    if _lines_of(known).startswith(content):
        return known
    try:
        listed = _parse(folder.holdout / LEDGER, content)
    except DamagedRun as error:
        raise DamagedRun(f"{error}{_remedy(folder) if known else ''}") from error
    for entry, other in zip(known, listed, strict=False):
        if difference := _difference(entry, other):
            raise DamagedRun(
                f"{folder.holdout / LEDGER}: entry {entry.number} contradicts the journal, which counts "
                f"({difference}){_remedy(folder)}"
            )
    in_both = [
        entry if entry.results is not None else other for entry, other in zip(known, listed, strict=False)
    ]
    return [*in_both, *known[len(listed) :], *listed[len(known) :]]


def read_ledger(folder: RunFolder) -> list[LedgerEntry]:
    """Return the openings in the ledger's file, in order.

    Raises:
        LaterVersion: A line has a field that this version does not know.
        DamagedRun: A line cannot be read.
    """
    return _parse(folder.holdout / LEDGER, _content(folder))


def write_ledger(folder: RunFolder, openings: Sequence[LedgerEntry]) -> bool:
    """Make the ledger from the openings, in one step; return False if it is as it should be.

    Raises:
        OSError: It cannot be written.
    """
    content = _lines_of(openings)
    if _content(folder) == content:
        return False
    with replacing(folder.holdout / LEDGER) as file:
        file.write(content)
    return True


def append_openings(journal: Journal, folder: RunFolder) -> list[Event]:
    """Append to the journal the openings and results that the ledger alone holds; return the events.

    The events belong to the journal's past from then on.

    Raises:
        DamagedRun: See `read_openings`.
    """
    known = openings_in(journal.past)
    missing: list[Event] = []
    for number, entry in enumerate(read_openings(folder, journal.past)):
        opening, *results = _events_of(entry)
        if number >= len(known):
            missing.append(opening)
        if number >= len(known) or known[number].results is None:
            missing += results
    journal.append_to_past(missing)
    return missing


def keep_openings(journal: Journal, folder: RunFolder) -> None:
    """Bring journal and ledger to the same openings; see `append_openings`."""
    append_openings(journal, folder)
    write_ledger(folder, openings_in(journal.past))


def _content(folder: RunFolder) -> bytes:
    path = folder.holdout / LEDGER
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise DamagedRun(f"{path}: cannot be read ({error.strerror})") from error


def _parse(path: Path, content: bytes) -> list[LedgerEntry]:
    entries: dict[int, LedgerEntry] = {}
    for line_number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), start=1):
        try:
            values = parse_json(line)
            number = values["number"]
            if "results" in values and number in entries:
                values = {**asdict(entries[number]), **values}
            unknown = values.keys() - _FIELDS
            if not unknown:
                entries[number] = LedgerEntry(**values)
                refuse_wrong_values(*_events_of(entries[number]))
                _refuse_gap(list(entries))
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedRun(
                f"{path}: line {line_number} is damaged; the holdout counts as opened"
            ) from error
        if unknown:
            raise LaterVersion(
                f"{path}: line {line_number} was written by a later version of tune-jobs, and this version does not "
                f"know {', '.join(sorted(unknown))}; nothing was changed, and the holdout counts as opened. "
                "Use the later version for this run: `pip install --upgrade tune-jobs`"
            )
    return list(entries.values())


def _refuse_gap(numbers: list[int]) -> None:
    if numbers != [*range(1, len(numbers) + 1)] or not {int}.issuperset(map(type, numbers)):
        raise ValueError("an entry is missing")


def _lines_of(openings: Iterable[LedgerEntry]) -> bytes:
    """Return the content of the ledger: a line for each opening, and one for its results."""
    lines = []
    for entry in openings:
        lines.append(_claim_of(entry))
        if entry.results is not None:
            lines.append({"number": entry.number, "results": entry.results})
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _claim_of(entry: LedgerEntry) -> dict[str, Any]:
    return {"number": entry.number, "time": entry.time, "trial_id": entry.trial_id, "reason": entry.reason}


def _difference(known: LedgerEntry, listed: LedgerEntry) -> str:
    """Return the first value of a ledger's entry that the journal has differently, in words; empty if all agree."""
    for name in ("time", "trial_id", "reason", "results"):
        one, other = json.dumps(getattr(known, name)), json.dumps(getattr(listed, name))
        absent = name == "results" and "null" in {one, other}
        if one != other and not absent:
            return f"{name}: {other} in the ledger, {one} in the journal"
    return ""


def _remedy(folder: RunFolder) -> str:
    return f"; `tune-jobs repair {quoted(folder.address)}` makes the ledger again from the journal"


def _events_of(entry: LedgerEntry) -> list[Event]:
    """Return the events of an opening: it, and its results if they are known."""
    common: dict[str, Any] = {
        "time": entry.time,
        "trial_id": entry.trial_id,
        "reason": entry.reason,
        "from_ledger": True,
    }
    events: list[Event] = [HoldoutUnsealed(**common)]
    if entry.results is not None:
        events.append(HoldoutEvaluated(number=entry.number, results=entry.results, **common))
    return events


def _claim_in_store(folder: RunFolder, entry: LedgerEntry) -> None:
    """Claim the opening in the run's object store too, if it has one: other machines have other ledgers."""
    place = location_of(folder.path)
    if place is None:
        return
    try:
        claims.claim(Store(place), _claim_of(entry))
    except claims.ClaimedElsewhere as error:
        raise HoldoutOpened(
            f"the test rows of {folder.name} were read before, or are being read right now, on another machine; "
            "a second look is no longer an honest estimate"
        ) from error
    except StoreError as error:
        raise RunFolderError(
            f"{place}: cannot be written to ({error.strerror}), so the opening of the holdout could not be "
            "recorded, and the test rows were not read"
        ) from error


def _opened_before_text(folder: RunFolder, opened: list[LedgerEntry]) -> str:
    first, last = opened[0], opened[-1]
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(first.time))
    results = ", ".join(f"{name} {value:.6g}" for name, value in (last.results or {}).items())
    return (
        f"the test rows of {folder.name} were read before, at {when} UTC for trial {first.trial_id}"
        f"{f' ({results})' if results else ''}; a second look is no longer an honest estimate. "
        "To read them all the same: --again --reason TEXT (in Python again=True, reason=TEXT); it is recorded"
    )
