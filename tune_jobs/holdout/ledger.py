"""The ledger of the holdout: every opening is claimed here before the test rows are read."""

import fcntl
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import Any, BinaryIO

from tune_jobs.errors import DamagedRun, HoldoutOpened, LaterVersion, RunFolderError
from tune_jobs.files import parse_json, reason_of
from tune_jobs.location import location_of
from tune_jobs.record.events import Event, HoldoutEvaluated, HoldoutUnsealed, refuse_wrong_values
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal
from tune_jobs.remote import claims
from tune_jobs.remote.store import Store, StoreError

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


def claim_opening(folder: RunFolder, trial_id: str, *, again: bool, reason: str | None) -> int:
    """Claim the next opening of the holdout; after this, and not before, the rows may be read.

    The ledger is locked meanwhile, so one of two callers is first.

    Args:
        folder: The run folder.
        trial_id: The trial for which the rows are read.
        again: Claim another opening although the rows were read before.
        reason: The reason for reading them again.

    Returns:
        The number of the entry.

    Raises:
        HoldoutOpened: The rows were read before and `again` was not given, or another machine reads them now.
        RunFolderError: The object store of the run cannot record the claim.
        DamagedRun: The ledger is damaged.
        OSError: The ledger cannot be written to.
    """
    with (folder.holdout / LEDGER).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        opened = read_ledger(folder)
        if opened and not again:
            raise HoldoutOpened(_opened_before_text(folder, opened))
        number = len(opened) + 1
        entry = {"number": number, "time": time.time(), "trial_id": trial_id, "reason": reason}
        _claim_in_store(folder, entry)
        _append(file, entry)
    return number


def record_results(folder: RunFolder, number: int, results: dict[str, float]) -> None:
    """Add the results of the evaluation to entry `number` of the ledger.

    Raises:
        RunFolderError: The ledger cannot be written to; the message holds the results.
    """
    path = folder.holdout / LEDGER
    try:
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            _append(file, {"number": number, "results": results})
    except OSError as error:
        raise RunFolderError(
            f"{path}: cannot be written to ({reason_of(error, folder.path)}), so these results are not "
            f"recorded: {json.dumps(results)}"
        ) from error


def read_ledger(folder: RunFolder) -> list[LedgerEntry]:
    """Return all openings of the holdout, in order.

    Raises:
        LaterVersion: A line has a field that this version does not know.
        DamagedRun: A line cannot be read.
    """
    path = folder.holdout / LEDGER
    if not path.exists():
        return []
    entries: dict[int, LedgerEntry] = {}
    for line_number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), start=1):
        try:
            values = parse_json(line)
            number = values["number"]
            if "results" in values and number in entries:
                values = {**asdict(entries[number]), **values}
            unknown = values.keys() - _FIELDS
            if not unknown:
                entries[number] = LedgerEntry(**values)
                refuse_wrong_values(*_events_of(entries[number]))
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


def append_openings(journal: Journal, folder: RunFolder) -> list[Event]:
    """Append to the journal the openings and results that the ledger alone holds; return the events.

    A process may have died between the two writes. The events belong to the journal's past from then on.
    """
    known = sum(isinstance(event, HoldoutUnsealed) for event in journal.past)
    evaluated = {event.number for event in journal.past if isinstance(event, HoldoutEvaluated)}
    missing: list[Event] = []
    for entry in read_ledger(folder):
        opening, *results = _events_of(entry)
        if entry.number > known:
            missing.append(opening)
        if entry.number not in evaluated:
            missing += results
    journal.append_to_past(missing)
    return missing


def _events_of(entry: LedgerEntry) -> list[Event]:
    """Return the events of an opening: it, and its results if they are known."""
    when, trial_id, reason = entry.time, entry.trial_id, entry.reason
    events: list[Event] = [HoldoutUnsealed(time=when, trial_id=trial_id, reason=reason)]
    if (results := entry.results) is not None:
        number = entry.number
        events.append(
            HoldoutEvaluated(time=when, number=number, trial_id=trial_id, results=results, reason=reason)
        )
    return events


def _claim_in_store(folder: RunFolder, entry: Mapping[str, Any]) -> None:
    """Claim the opening in the run's object store too, if it has one: other machines have other ledgers."""
    place = location_of(folder.path)
    if place is None:
        return
    try:
        claims.claim(Store(place), entry)
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


def _append(file: BinaryIO, entry: Mapping[str, Any]) -> None:
    """Add a line to the ledger and force it to the disk, or leave the ledger as it was."""
    before = os.fstat(file.fileno()).st_size
    line = json.dumps(entry).encode() + b"\n"
    try:
        written = os.write(file.fileno(), line)
        if written < len(line):
            os.write(file.fileno(), line[written:])  # raises the error that explains why
        os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):
            os.truncate(file.fileno(), before)
        raise


def _opened_before_text(folder: RunFolder, opened: list[LedgerEntry]) -> str:
    first, last = opened[0], opened[-1]
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(first.time))
    results = ", ".join(f"{name} {value:.6g}" for name, value in (last.results or {}).items())
    return (
        f"the test rows of {folder.name} were read before, at {when} UTC for trial {first.trial_id}"
        f"{f' ({results})' if results else ''}; a second look is no longer an honest estimate. "
        "To read them all the same: --again --reason TEXT (in Python again=True, reason=TEXT); it is recorded"
    )
