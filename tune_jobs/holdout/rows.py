"""The sealed test rows of a run.

They are written before the first trial starts. Only `unseal` reads them. It claims an entry of the ledger first:
whatever happens afterwards, the record says that the rows were read.
"""

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tune_jobs.errors import DamagedRun, RunFolderError
from tune_jobs.files import replacing
from tune_jobs.holdout.ledger import claim_opening
from tune_jobs.record.folder import RunFolder

if TYPE_CHECKING:
    from tune_jobs.trainers.data import Rows

ROWS = "rows.npz"
"""Name of the file in the folder of the holdout."""
ORIGINAL = "original"
"""Name of the file in a copy without the sealed rows that says where the original run is."""


def seal(folder: RunFolder, rows: "Rows") -> None:
    """Write the test rows, readable by their owner alone."""
    path = folder.holdout / ROWS
    with replacing(path) as file:
        np.savez(file, x=rows.x, y=rows.y)
    path.chmod(0o400)


def check_sealed(folder: RunFolder, rows: "Rows") -> None:
    """Check that the sealed rows are `rows`. Nothing of them leaves this function.

    Raises:
        DamagedRun: The sealed rows are others, or cannot be read.
        RunFolderError: The run is a copy without its sealed rows.
    """
    refuse_copy(folder)
    path = folder.holdout / ROWS
    sealed = _read_rows(path)
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
    folder: RunFolder, trial_id: str, *, again: bool = False, reason: str | None = None
) -> tuple["Rows", int]:
    """Claim the next entry of the ledger, then read the test rows.

    Args:
        folder: The run folder.
        trial_id: The winner, for which the rows are read.
        again: Read the rows although they were read before.
        reason: The reason for reading them again; required with `again`, and recorded.

    Returns:
        The rows, and the number of the ledger's entry.

    Raises:
        HoldoutOpened: The rows were read before, and `again` was not given.
        RunFolderError: There are no rows, or `again` came without a reason.
        DamagedRun: The ledger or the rows cannot be read.
    """
    path = folder.holdout / ROWS
    refuse_copy(folder)
    if not path.is_file():
        raise RunFolderError(
            f"{folder.path}: the run has no sealed test rows ({ROWS} is missing in holdout/)"
        )
    if again and not (reason and reason.strip()):
        raise RunFolderError(
            "--again needs --reason TEXT: why the test rows are read once more; the reason is recorded"
        )
    number = claim_opening(folder, trial_id, again=again, reason=reason)
    try:
        return _read_rows(path), number
    except DamagedRun as error:
        raise DamagedRun(
            f"{error}. Entry {number} of the ledger stays: look again with --again --reason TEXT"
        ) from error


def _read_rows(path: Path) -> "Rows":
    from tune_jobs.trainers.data import Rows  # noqa: PLC0415 (imports pyarrow)

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
    """Check the checksums of the whole file: NumPy skips them if it reads a part."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} does not match its checksum")
