"""The sealed test rows of a run, and the ledger of who opened them.

Test rows are written here before the first trial starts and read by `unseal` alone, which claims an entry of
the ledger first: whatever happens afterwards, that the rows were read is on record.
"""

import fcntl
import json
import os
import time
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from tune_jobs.errors import DamagedRun, HoldoutOpened, RunFolderError
from tune_jobs.files import reason_of, replacing
from tune_jobs.location import location_of
from tune_jobs.record.folder import RunFolder
from tune_jobs.remote import claims as openings
from tune_jobs.remote.store import Store, StoreError

if TYPE_CHECKING:
    from tune_jobs.trainers.data import Rows

ROWS = "rows.npz"
LEDGER = "ledger.jsonl"
ORIGINAL = "original"
"""In a copy that came without the sealed rows: where the run is that has them."""


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """One opening of the holdout; the first of a run has number 1."""

    number: int
    time: float
    trial_id: str
    reason: str | None
    results: dict[str, float] | None = None
    """Loss and metrics on the test rows; None while the evaluation is under way, or where it failed."""


def seal(folder: RunFolder, rows: "Rows") -> None:
    """Writes the test rows, readable by their owner alone."""
    path = folder.holdout / ROWS
    with replacing(path) as file:
        np.savez(file, x=rows.x, y=rows.y)
    path.chmod(0o400)


def check_sealed(folder: RunFolder, rows: "Rows") -> None:
    """Makes sure that the sealed rows are `rows`, without anybody seeing them.

    Raises:
        DamagedRun: they are not, or cannot be read.
    """
    refuse_copy(folder)
    path = folder.holdout / ROWS
    sealed = _read_rows(path)
    if not (np.array_equal(sealed.x, rows.x) and np.array_equal(sealed.y, rows.y)):
        raise DamagedRun(f"{path}: the sealed rows are not the test rows of the run; restore it from a copy")


def mark_copy(folder: RunFolder, original: str) -> None:
    """Has the copy in `folder`, which has no sealed rows, say where the run is kept: they are opened there, once."""
    folder.holdout.mkdir(exist_ok=True, mode=0o700)
    (folder.holdout / ORIGINAL).write_text(f"{original}\n", encoding="utf-8")


def refuse_copy(folder: RunFolder) -> None:
    """Makes sure that the run is no copy without its sealed rows.

    Raises:
        RunFolderError: it is.
    """
    path = folder.holdout / ORIGINAL
    if path.is_file():
        original = path.read_text(encoding="utf-8").strip()
        raise RunFolderError(
            f"{folder.path}: a copy that was fetched; the sealed test rows stay with the run, so that they are opened "
            f"once: give the command where {original} is seen, with that name"
        )


def unseal(
    folder: RunFolder, trial_id: str, *, again: bool = False, reason: str | None = None
) -> tuple["Rows", int]:
    """Claims the next entry of the ledger, then reads the test rows.

    Args:
        folder: of the run.
        trial_id: the winner, for which they are read.
        again: the rows were read before, and are to be read once more.
        reason: why; required with `again`, and recorded.

    Returns:
        The rows, and the number of the ledger's entry.

    Raises:
        HoldoutOpened: they were read before, and `again` was not given.
        RunFolderError: there are no rows, or `again` came without a reason.
        DamagedRun: the ledger or the rows cannot be read.
    """
    path = folder.holdout / ROWS
    refuse_copy(folder)
    if not path.is_file():
        raise RunFolderError(
            f"{folder.path}: the run has no sealed test rows ({ROWS} is missing in holdout/)"
        )
    if again and not (reason and reason.strip()):
        raise RunFolderError(
            "--again needs --reason TEXT: why the test rows are read once more; it is recorded"
        )
    number = _claim(folder, trial_id, again=again, reason=reason)
    try:
        return _read_rows(path), number
    except DamagedRun as error:
        raise DamagedRun(
            f"{error}. Entry {number} of the ledger stays: look again with --again --reason TEXT"
        ) from error


def record_results(folder: RunFolder, number: int, results: dict[str, float]) -> None:
    """Adds what was measured to entry `number` of the ledger.

    Raises:
        RunFolderError: it cannot be written to; the text holds the results.
    """
    path = folder.holdout / LEDGER
    try:
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            _append(file, {"number": number, "results": results})
    except OSError as error:
        raise RunFolderError(
            f"{path}: cannot be written to ({reason_of(error, folder.path)}), so that these results are not on "
            f"record: {json.dumps(results)}"
        ) from error


def read_ledger(folder: RunFolder) -> list[LedgerEntry]:
    """All openings of the holdout, the first one first.

    Raises:
        DamagedRun: a line cannot be read.
    """
    path = folder.holdout / LEDGER
    if not path.exists():
        return []
    entries: dict[int, LedgerEntry] = {}
    for line_number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), start=1):
        try:
            values = json.loads(line)
            number = values["number"]
            if "results" in values and number in entries:
                values = {**asdict(entries[number]), **values}
            entries[number] = LedgerEntry(**values)
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedRun(
                f"{path}: line {line_number} is damaged; the holdout counts as opened"
            ) from error
    return list(entries.values())


def _read_rows(path: Path) -> "Rows":
    from tune_jobs.trainers.data import Rows  # noqa: PLC0415

    try:
        _verify(path)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return Rows(arrays["x"], arrays["y"])
    except MemoryError:
        raise
    except Exception as error:  # a damaged file may lead its readers anywhere
        raise DamagedRun(
            f"{path}: the test rows cannot be read ({error}); restore the file from a copy"
        ) from error


def _verify(path: Path) -> None:
    """Looks at the checksums of all that is in the file, which NumPy does not do where it reads a part."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} does not match its checksum")


def _claim(folder: RunFolder, trial_id: str, *, again: bool, reason: str | None) -> int:
    """Writes the next entry; the ledger is locked, so that of two callers one is the first."""
    with (folder.holdout / LEDGER).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        opened = read_ledger(folder)
        if opened and not again:
            raise HoldoutOpened(_opened_before(folder, opened))
        number = len(opened) + 1
        entry = {"number": number, "time": time.time(), "trial_id": trial_id, "reason": reason}
        _claim_in_store(folder, entry)
        _append(file, entry)
    return number


def _claim_in_store(folder: RunFolder, entry: Mapping[str, Any]) -> None:
    """Has the object store of the run, if it has one, hold the claim: other machines have other ledgers."""
    place = location_of(folder.path)
    if place is None:
        return
    try:
        openings.claim(Store(place), entry)
    except openings.ClaimedElsewhere as error:
        raise HoldoutOpened(
            f"the test rows of {folder.name} were read before, or are being read right now, on another machine; "
            "a second look is no longer an honest estimate"
        ) from error
    except StoreError as error:
        raise RunFolderError(
            f"{place}: cannot be written to ({error.strerror}), so that the look at the test rows could not be "
            "recorded, and they were not read"
        ) from error


def _append(file: BinaryIO, entry: Mapping[str, Any]) -> None:
    """Adds a line to the ledger and forces it to the disk, or leaves the ledger as it was."""
    before = os.fstat(file.fileno()).st_size
    line = json.dumps(entry).encode() + b"\n"
    try:
        written = os.write(file.fileno(), line)
        if written < len(line):
            os.write(file.fileno(), line[written:])  # says what is wrong
        os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):
            os.truncate(file.fileno(), before)
        raise


def _opened_before(folder: RunFolder, opened: list[LedgerEntry]) -> str:
    first, last = opened[0], opened[-1]
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(first.time))
    results = ", ".join(f"{name} {value:.6g}" for name, value in (last.results or {}).items())
    return (
        f"the test rows of {folder.name} were read before, at {when} UTC for trial {first.trial_id}"
        f"{f' ({results})' if results else ''}; a second look is no longer an honest estimate. "
        "To read them all the same: --again --reason TEXT (in Python again=True, reason=TEXT); it is recorded"
    )
