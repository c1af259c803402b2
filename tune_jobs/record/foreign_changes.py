"""Notice what other programs do to the journal of a run at work: replace, move, remove, shorten or extend it.

An editor that saves, `sed -i`, rsync and clients that synchronise folders put a new file in the place of the old one.
The driver would go on writing to the old one, which nobody sees, and a second driver could lock the new one.
"""

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from tune_jobs.errors import StorageFailed
from tune_jobs.files import replacing


def foreign_change(file: int, path: Path, size: int) -> StorageFailed | None:
    """Return the error that ends the run if the open journal is no longer the file at `path` as it was written.

    Args:
        file: The open journal.
        path: Its place when it was opened.
        size: The bytes that were written to it.

    Returns:
        The error; what was written is in a file that its message names. None if nothing has changed.
    """
    here, run = os.fstat(file), path.parent.parent
    try:
        there = path.stat()
    except OSError:
        moved = Path(os.readlink(f"/proc/self/fd/{file}")) if os.path.isdir("/proc/self/fd") else path
        if here.st_nlink and moved.is_file() and os.path.samestat(moved.stat(), here):
            new = moved.parent.parent
            return StorageFailed(
                f"{run}: was moved to {new} while the run was at work, so the run has stopped. Everything reported "
                f"before is there; continue with `tune-jobs resume {new}`",
                new,
            )
        return _stopped(path, "was removed", _keep(file, path, size))
    if not os.path.samestat(here, there):
        return _stopped(path, "was replaced by another file", _keep(file, path, size))
    if here.st_size < size:
        return _stopped(path, "was shortened by another program", None)
    if here.st_size > size:
        return _stopped(path, "was written to by another program", _keep(file, path, size))
    return None


def _stopped(path: Path, what: str, kept: Path | None) -> StorageFailed:
    run = path.parent.parent
    where = f" Everything that was recorded before is in {kept}." if kept else ""
    advice = (
        f"Put that file back as {path}"
        if kept and run.is_dir()
        else f"Restore {path if run.is_dir() else run} from a copy"
    )
    return StorageFailed(
        f"{path}: {what} while the run was at work, so the run has stopped.{where} {advice}; then continue with "
        f"`tune-jobs resume {run}`",
        run,
    )


def _keep(file: int, path: Path, size: int) -> Path | None:
    """Copy the open journal beside its place, or to the first folder above it that exists; return the copy."""
    name = f"{path.name}.kept-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    run = path.parent.parent
    places = [path.with_name(name)] if path.parent.is_dir() else []
    for copy in (
        *places,
        run.parent / f"{run.name}-{name}",
        Path(tempfile.gettempdir(), f"{run.name}-{name}"),
    ):
        if not copy.parent.is_dir():
            continue
        try:
            with replacing(copy) as target:
                position = 0
                while position < size and (part := os.pread(file, min(2**20, size - position), position)):
                    target.write(part)
                    position += len(part)
        except OSError:
            continue
        return copy
    return None
