"""The sealed test rows of a run.

They are written before the first trial starts. Only `unseal` reads them. It claims an opening in the journal first:
whatever happens afterwards, the record says that the rows were read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tune_jobs.errors import DamagedRun, RunFolderError
from tune_jobs.files import replacing, sha256_of
from tune_jobs.holdout.ledger import claim_opening
from tune_jobs.record.events import RunStarted
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal

if TYPE_CHECKING:
    from tune_jobs.trainers.data import Rows

ROWS = "rows.npz"
"""Name of the file in the folder of the holdout."""
ORIGINAL = "original"
"""Name of the file in a copy without the sealed rows that says where the original run is."""


SEALED = "holdout"
"""Name of the fingerprint of the sealed rows in the run's first event."""


def rows_path(folder: RunFolder) -> Path:
    """Return the path of the sealed rows."""
    return folder.holdout / ROWS


def seal(folder: RunFolder, rows: "Rows") -> None:
    """Write the test rows, readable by their owner alone."""
    path = rows_path(folder)
    with replacing(path) as file:
        np.savez(file, x=rows.x, y=rows.y)
    path.chmod(0o400)


def check_sealed(folder: RunFolder, rows: "Rows", started: RunStarted) -> None:
    """Check that the sealed rows are `rows`, and those of the run's start. Nothing of them leaves this function.

    Raises:
        DamagedRun: The sealed rows are others, or cannot be read.
        RunFolderError: The run is a copy without its sealed rows.
    """
    refuse_copy(folder)
    path = rows_path(folder)
    with _open_sealed(folder, started) as file:
        sealed = _read_rows(file)
    if not (np.array_equal(sealed.x, rows.x) and np.array_equal(sealed.y, rows.y)):
        raise DamagedRun(f"{path}: the sealed rows are not the test rows of the run; restore it from a copy")


def mark_copy(folder: RunFolder, original: str) -> None:
    """Mark `folder` as a copy without test rows, and record where the original is."""
    folder.holdout.mkdir(exist_ok=True, mode=0o700)
    (folder.holdout / ORIGINAL).write_text(f"{original}\n", encoding="utf-8")


def refuse_copy(folder: RunFolder) -> None:
    """Refuse a copy of a run that came without its sealed rows.

    Raises:
        RunFolderError: The run is a copy without its sealed rows.
    """
    path = folder.holdout / ORIGINAL
    if path.is_file():
        original = path.read_text(encoding="utf-8").strip()
        raise RunFolderError(
            f"{folder.path}: this is a copy without the test rows, which stay with the run. Run the command on a "
            f"machine that has the original, with its path: {original}"
        )


def unseal(
    folder: RunFolder, journal: Journal, trial_id: str, *, again: bool = False, reason: str | None = None
) -> tuple["Rows", int]:
    """Claim the next opening, then read the test rows.

    Args:
        folder: The run folder.
        journal: The open journal of the run, whose first event has the fingerprint of the rows.
        trial_id: The winner, for which the rows are read.
        again: Read the rows although they were read before.
        reason: The reason for reading them again; required with `again`, and recorded.

    Returns:
        The rows, and the number of the opening.

    Raises:
        HoldoutOpened: The rows were read before, and `again` was not given.
        RunFolderError: There are no rows, or `again` came without a reason.
        DamagedRun: The ledger cannot be read, or the rows are not those that were sealed; nothing was claimed.
    """
    refuse_copy(folder)
    if not rows_path(folder).is_file():
        raise RunFolderError(
            f"{folder.path}: the run has no sealed test rows ({ROWS} is missing in holdout/)"
        )
    require_reason(again=again, reason=reason)
    started = next((event for event in journal.past if isinstance(event, RunStarted)), None)
    with _open_sealed(folder, started) as file:
        number = claim_opening(folder, journal, trial_id, again=again, reason=reason)
        return _read_rows(file), number


def require_reason(*, again: bool, reason: str | None) -> None:
    """Check that another opening of the holdout has a reason.

    Raises:
        RunFolderError: It has none.
    """
    if again and not (reason and reason.strip()):
        raise RunFolderError(
            "--again needs --reason TEXT: why the test rows are read once more; the reason is recorded"
        )


@contextmanager
def _open_sealed(folder: RunFolder, started: RunStarted | None) -> Iterator[BufferedReader]:
    """Open the sealed rows, after a comparison of their SHA-256 with that of the run's start.

    The file stays open from the comparison to the end of the block: no other file can take its place.

    Raises:
        DamagedRun: They are not the rows that were sealed, or cannot be read, or the journal has no SHA-256 of them.
    """
    path = rows_path(folder)
    try:
        file = path.open("rb")
    except OSError as error:
        raise _damaged(path, f"the test rows cannot be read ({error.strerror})") from error
    with file:
        expected = started.fingerprints.get(SEALED) if started else None
        if expected is None:
            raise _damaged(path, "the journal of the run has no SHA-256 of its test rows")
        if (found := sha256_of(file)) != expected:
            raise _damaged(
                path,
                f"these are not the test rows that were sealed (SHA-256 {found[:12]}, at the start of the run "
                f"{expected[:12]})",
            )
        yield file


def _damaged(path: Path, why: str) -> DamagedRun:
    return DamagedRun(f"{path}: {why}; the holdout was not opened. Restore the file from a copy of this run")


def _read_rows(file: BufferedReader) -> "Rows":
    """Read rows whose SHA-256 was compared."""
    from tune_jobs.trainers.data import Rows  # noqa: PLC0415 (imports pyarrow)

    with np.load(file, allow_pickle=False) as arrays:
        return Rows(arrays["x"], arrays["y"])
