"""Disks that are full, read-only or gone: noticed before a run begins, and told as what they are during it."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from tune_jobs.errors import StorageFailed

PROBE_BYTES = 1_000_000
"""What a write test writes: about what a small run leaves."""

_FULL = {errno.ENOSPC, errno.EDQUOT}
_UNWRITABLE = {*_FULL, errno.EROFS, errno.EIO, errno.ESTALE}
"""Errors that are a disk's fault wherever they come from."""
_IN_TEXT = re.compile(r"\[Errno (\d+)\] ([^:\n\[]+)(?:: '([^'\n]+)')?")


class Writer(Protocol):
    """Something that keeps why it could not write."""

    failure: StorageFailed | None


def write_test(folder: Path) -> None:
    """Finds out whether `folder` takes a file, by writing one to the disk itself; it is removed again.

    Raises:
        OSError: it does not.
    """
    path = folder / f".write-test.{os.getpid()}.tmp"
    try:
        with path.open("wb") as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def reason_of(error: OSError, folder: Path) -> str:
    """Why `folder` could not be written to: the system's words, and the room that is left where that matters."""
    words = error.strerror or " ".join(str(error).split())
    if error.errno not in _FULL:
        return words
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return words
    return f"{words}; {free / 1e6:.1f} MB free"


def storage_failed(what: str | Path, reason: str, run: Path) -> StorageFailed:
    """The error that ends a run in whose folder, or object store, `what` cannot be written."""
    from tune_jobs.remote.working_copy import location_of  # noqa: PLC0415 (it builds on this module)

    place = location_of(run)
    if place is not None and "checkpoints" in Path(what).parts:
        return StorageFailed(
            f"{what}: cannot be written to ({reason}); the run has stopped, and what was reported before is on this "
            f"machine's disk. Once {place} takes objects again, `tune-jobs resume {place}` goes on",
            run,
        )
    return StorageFailed(
        f"{what}: cannot be written to ({reason}); the run has stopped, and what was reported before is on disk. "
        f"Make room, or make the folder writable; then `tune-jobs resume {run}` goes on",
        run,
    )


@contextmanager
def storage_failures(run: Path, *writers: Writer) -> Iterator[None]:
    """Has all that a full or read-only disk does to the code inside end in one `StorageFailed`.

    Ray Tune turns what its callbacks raise into text, so that what `writers` keep is asked first.

    Args:
        run: the run folder.
        writers: the run's own.
    """
    try:
        yield
    except StorageFailed:
        raise
    except Exception as error:
        failure = _kept(writers) or _failure_in(error, run)
        if failure is None:
            raise
        raise failure from error
    if (failure := _kept(writers)) is not None:
        raise failure


def _kept(writers: tuple[Writer, ...]) -> StorageFailed | None:
    return next((writer.failure for writer in writers if writer.failure is not None), None)


def _failure_in(error: Exception, run: Path) -> StorageFailed | None:
    """The failure that `error` is, or whose text it quotes; None where it is of another kind."""
    if isinstance(error, OSError) and error.errno in _UNWRITABLE:
        return storage_failed(error.filename or run, reason_of(error, run), run)
    for number, words, path in reversed(_IN_TEXT.findall(str(error))):
        if int(number) in _UNWRITABLE:
            return storage_failed(path or run, words.strip(), run)
    return None
