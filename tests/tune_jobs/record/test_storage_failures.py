"""Errors of a full or read-only disk become one error that says what to do."""

import errno
import os
from pathlib import Path

import pytest

from tune_jobs.errors import StorageFailed
from tune_jobs.record.storage_failures import storage_error, storage_failures

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/runs/x/study.log")


class Keeps:
    def __init__(self, failure: StorageFailed | None) -> None:
        self.failure = failure


def raised(run: Path, error: BaseException | None, *writers: Keeps) -> BaseException | None:
    def work() -> None:
        if error is not None:
            raise error

    try:
        with storage_failures(run, *writers):
            work()
    except BaseException as other:
        return other
    return None


def test_the_message_says_what_is_intact_and_what_to_do(tmp_path: Path) -> None:
    failure = storage_error("checkpoints/0001/epoch-000003.pt", "Read-only file system", tmp_path)
    assert str(failure) == (
        "checkpoints/0001/epoch-000003.pt: cannot be written to (Read-only file system); the run has stopped, and "
        "everything reported before is on disk. Free disk space, or make the folder writable; then continue with "
        f"`tune-jobs resume {tmp_path}`"
    )
    assert (failure.path, failure.exit_code) == (tmp_path, 130)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_an_error_of_the_disk_is_a_failure_of_storage_from_wherever_it_comes(
    tmp_path: Path, number: int
) -> None:
    words = os.strerror(number)
    error = OSError(number, words, "/runs/x/trials.parquet")
    found = raised(tmp_path, error)
    assert isinstance(found, StorageFailed)
    assert str(found).startswith(f"/runs/x/trials.parquet: cannot be written to ({words}")
    assert found.__cause__ is error
    quoted = RuntimeError(
        f"Traceback (most recent call last):\n  File ...\n{type(error).__name__}: {error}\n"
    )
    assert str(raised(tmp_path, quoted)).startswith(f"/runs/x/trials.parquet: cannot be written to ({words})")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("of another kind"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "data.csv"),
        RuntimeError("[Errno 2] No such file or directory: 'x'"),
        KeyboardInterrupt(),
    ],
)
def test_other_errors_pass_as_they_are(tmp_path: Path, error: BaseException) -> None:
    assert raised(tmp_path, error) is error


def test_the_failure_that_a_writer_keeps_comes_first(tmp_path: Path) -> None:
    kept = storage_error("journal", "Quota exceeded", tmp_path)
    error = RuntimeError("whatever Ray Tune made of it")
    assert raised(tmp_path, error, Keeps(None), Keeps(kept)) is kept
    assert kept.__cause__ is error
    assert raised(tmp_path, None, Keeps(kept)) is kept, "swallowed on its way"
    own = storage_error("table", "Input/output error", tmp_path)
    assert raised(tmp_path, own, Keeps(kept)) is own
    assert raised(tmp_path, None, Keeps(None)) is None
