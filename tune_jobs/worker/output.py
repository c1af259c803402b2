"""The output of a trial's training: all that its code prints, Python's and native code's, in a file of the run."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MOST_BYTES = 1_000_000
"""Bytes of a trial's output that are kept, more or less; between two epochs it may grow beyond."""
_LEFT_OUT = b"(earlier output was left out)\n"


@contextmanager
def kept_output(folder: Path | None, trial_id: str) -> Iterator[Callable[[], None]]:
    """Send the standard output and error of this process to a file of the trial inside the block.

    What a worker before it has printed stays. A trial that prints nothing leaves no file. A folder that cannot be
    written to costs the output, not the trial.

    Args:
        folder: The folder of the files; None keeps no output.
        trial_id: The trial, after which the file is named.

    Yields:
        Shortens the file to its end if it has become too long.
    """
    try:
        file = None if folder is None else _opened(folder / f"{trial_id}.log")
    except OSError:
        file = None
    if folder is None or file is None:
        yield lambda: None
        return
    before = {number: os.dup(number) for number in (1, 2)}
    try:
        _flush()
        for number in before:
            os.dup2(file, number)
        yield lambda: _shorten(file)
    finally:
        _flush()
        for number, old in before.items():
            os.dup2(old, number)
            os.close(old)
        with suppress(OSError):
            _shorten(file)
            if os.fstat(file).st_size == 0:
                (folder / f"{trial_id}.log").unlink()
        os.close(file)


def _opened(path: Path) -> int:
    path.parent.mkdir(exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # the user's code may have closed it
            stream.flush()


def _shorten(file: int) -> None:
    size = os.fstat(file).st_size
    if size > MOST_BYTES:
        with suppress(OSError):
            end = os.pread(file, MOST_BYTES // 2, size - MOST_BYTES // 2)
            os.ftruncate(file, 0)
            os.write(file, _LEFT_OUT + end[end.find(b"\n") + 1 :])
