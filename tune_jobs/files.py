"""Write files in one step, force them to the disk, and say why a disk refuses them."""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

PROBE_BYTES = 1_000_000
"""Bytes that a probe of a disk writes: about the size of a small run."""
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Numbers of the errors that say that a disk, or a user's share of it, is full."""

_DISK_FAILS = DISK_FULL | {errno.EROFS, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE}
"""Numbers of the errors of a failing disk, and of too many open files."""
_NETWORK_FAILS = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN})
"""Numbers of the errors of a failing network."""


def is_of_machine(error: OSError) -> bool:
    """Return whether the system refused something: a file, a disk or a connection.

    All other errors of this class, such as those of a closed descriptor, are mistakes in a program.
    """
    if error.filename is not None or isinstance(error, ConnectionError | TimeoutError):
        return True
    return error.errno in _DISK_FAILS | _NETWORK_FAILS


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that replaces `path` at the end of the block. Readers see the old or the new file, never a part.

    Only one process at a time writes a file of a run. Temporary files of other processes were therefore left by
    killed ones, and are removed: those with the name of this file and a process number, and no others.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    leftovers = re.compile(rf"\.{re.escape(path.name)}\.\d+\.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        if error.filename in {None, str(temporary)}:  # a failed write or sync names no file
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):  # on a disk that became read-only, this error would hide the first one
            for leftover in path.parent.iterdir():
                if leftovers.fullmatch(leftover.name):
                    leftover.unlink(missing_ok=True)


def parse_json(text: str | bytes) -> Any:
    """Return the value of JSON from a file, which may be damaged.

    Raises:
        ValueError: It is no JSON, or it is nested too deep.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def exists(path: Path) -> bool:
    """Return whether there is a file or folder at `path`; a name that is too long for the system has none."""
    try:
        return path.exists()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


def sha256_of(file: BufferedReader) -> str:
    """Return the SHA-256 of all bytes of a file, in hex digits; the file is read from its start again afterwards."""
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    return digest


def fingerprint_of(path: Path) -> str:
    """Return the SHA-256 of the file at `path`, in hex digits.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return sha256_of(file)


def sync_folder(path: Path) -> None:
    """Force the folder's list of files to the disk."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def probe_writable(folder: Path) -> None:
    """Write a file to the disk of `folder`, and remove it again.

    Raises:
        OSError: The folder cannot be written to.
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
    """Say why `folder` could not be written to: the system's words and, if the disk is full, the space left."""
    words = error.strerror or " ".join(str(error).split())
    if error.errno not in DISK_FULL:
        return words
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return words
    return f"{words}; {free / 1e6:.1f} MB free"
