"""Turn the errors of full, read-only or missing disks into one `StorageFailed`."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from tune_jobs.errors import StorageFailed, TuneJobsError
from tune_jobs.files import DISK_FULL, reason_of
from tune_jobs.location import location_of
from tune_jobs.text import quoted

_UNWRITABLE = {*DISK_FULL, errno.EROFS, errno.EIO, errno.ESTALE}
"""Numbers of the errors that are a disk's fault, whatever code raises them."""
_IN_TEXT = re.compile(r"\[Errno (\d+)\] ([^:\n\[]+)(?:: '([^'\n]+)')?")


class Writer(Protocol):
    """A writer that keeps the error that stopped it."""

    @property
    def failure(self) -> TuneJobsError | None: ...


def storage_error(what: str | Path, reason: str, run: Path) -> StorageFailed:
    """Return the error that ends `run`, because `what` cannot be written to its folder or object store."""
    place = location_of(run)
    if place is not None and "checkpoints" in Path(what).parts:
        return StorageFailed(
            f"{what}: cannot be written to ({reason}); the run has stopped, and everything reported before is on this "
            f"machine's disk. Once {place} accepts objects again, continue with `tune-jobs resume {quoted(place)}`",
            run,
        )
    return StorageFailed(
        f"{what}: cannot be written to ({reason}); the run has stopped, and everything reported before is on disk. "
        f"Free disk space, or make the folder writable; then continue with `tune-jobs resume {quoted(run)}`",
        run,
    )


@contextmanager
def storage_failures(run: Path, *writers: Writer) -> Iterator[None]:
    """Turn every error that a full or read-only disk causes inside the block into `StorageFailed`.

    Ray Tune turns the errors of its callbacks into text. The errors that the writers keep therefore come first, as they
    are. Some are of another kind, such as `LaterVersion` for a checkpoint that a worker does not understand.

    Args:
        run: The run folder.
        writers: The writers to that folder.
    """
    try:
        yield
    except StorageFailed:
        raise
    except Exception as error:
        failure: TuneJobsError | None = _failure_of(writers) or _failure_in(error, run)
        if failure is None:
            raise
        raise failure from error
    if (failure := _failure_of(writers)) is not None:
        raise failure


def _failure_of(writers: tuple[Writer, ...]) -> TuneJobsError | None:
    return next((writer.failure for writer in writers if writer.failure is not None), None)


def _failure_in(error: Exception, run: Path) -> StorageFailed | None:
    """Return the disk's failure that `error` is or quotes; None if `error` is of another kind."""
    if isinstance(error, OSError) and error.errno in _UNWRITABLE:
        return storage_error(error.filename or run, reason_of(error, run), run)
    for number, words, path in reversed(_IN_TEXT.findall(str(error))):
        if int(number) in _UNWRITABLE:
            return storage_error(path or run, words.strip(), run)
    return None
