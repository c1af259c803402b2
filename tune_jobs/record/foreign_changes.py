"""Notice what other programs do to the journal of a run at work: replace, move, remove, shorten, change or extend it.

An editor that saves, `sed -i`, rsync and clients that synchronise folders put a new file in the place of the old one.
The driver would go on writing to the old one, which nobody sees, and a second driver could lock the new one.
"""

import os
import tempfile
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from tune_jobs.errors import StorageFailed
from tune_jobs.files import replacing
from tune_jobs.text import quoted


class Written:
    """The lines that a driver has written to a journal, compressed: a file that is cut or changed no longer has them.

    Args:
        size: Bytes of the journal when it was opened.
        before: Makes these bytes again.
    """

    def __init__(self, size: int, before: Callable[[], bytes]) -> None:
        self.size = size
        """Bytes of the journal."""
        self.last = b""
        """The last line; empty if none was written since the journal was opened."""
        self._before = before
        self._compressor = zlib.compressobj(1)
        self._compressed: list[bytes] = []

    def add(self, line: bytes) -> None:
        """Take note of a line that is in the file."""
        self.size += len(line)
        self.last = line
        if compressed := self._compressor.compress(line):
            self._compressed.append(compressed)

    def content(self) -> bytes:
        """Return the whole journal."""
        end = self._compressor.copy().flush()
        return self._before() + zlib.decompress(b"".join([*self._compressed, end]))


def foreign_change(file: int, path: Path, written: Written) -> StorageFailed | None:
    """Return the error that ends the run if the open journal is no longer the file at `path` as it was written.

    A change that leaves the size and the last line as they are is noticed when the journal is read.

    Args:
        file: The open journal.
        path: Its place when it was opened.
        written: What was written to it.

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
                f"before is there; continue with `tune-jobs resume {quoted(new)}`",
                new,
            )
        return _stopped(path, "was removed", written)
    last = len(written.last)
    if not os.path.samestat(here, there):
        return _stopped(path, "was replaced by another file", written)
    if here.st_size < written.size:
        return _stopped(path, "was shortened by another program", written)
    if here.st_size > written.size or os.pread(file, last, written.size - last) != written.last:
        return _stopped(path, "was written to by another program", written)
    return None


def _stopped(path: Path, what: str, written: Written) -> StorageFailed:
    run, kept = path.parent.parent, _keep(written, path)
    where = f" Everything that was recorded before is in {kept}." if kept else ""
    advice = (
        f"Put that file back as {path}"
        if kept and run.is_dir()
        else f"Restore {path if run.is_dir() else run} from a copy"
    )
    return StorageFailed(
        f"{path}: {what} while the run was at work, so the run has stopped.{where} {advice}; then continue with "
        f"`tune-jobs resume {quoted(run)}`",
        run,
    )


def _keep(written: Written, path: Path) -> Path | None:
    """Write what the journal held beside its place, or to the first folder above it that exists; return the copy."""
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
                target.write(written.content())
        except OSError:
            continue
        return copy
    return None
