"""Checkpoint files: written whole or not at all, checked by a sum, and read without running code from them.

A file is what `torch.save` writes, and `torch.load` reads it; behind it stands one line with the CRC-32 of all
before. PyTorch's own archive has a sum for each tensor, but none for the directory that says where they lie.
"""

import os
import pickle
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO, cast
from uuid import uuid4

import torch

from tune_jobs.trainers.errors import CheckpointError, CheckpointMissing

_CHECKSUM = b"\nchecksum %08x\n"
_CHECKSUM_LINE = re.compile(rb"\nchecksum ([0-9a-f]{8})\n")
_CHECKSUM_BYTES = len(_CHECKSUM % 0)
_CHUNK = 1 << 20


def save_checkpoint(state: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write tensors and plain values to `path`, replacing what is there in one step.

    A process that dies on the way leaves the old file as it was, and perhaps a hidden temporary file beside
    it, which is never read; `remove_leftovers` deletes such. The file is not forced to disk (that would add half
    to the time of a small save): it outlives the process, and after a power cut `load_checkpoint` tells whether
    it is whole.

    Raises:
        OSError: the folder is missing, full or not writable.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            written = _Summed(file)
            try:
                torch.save(dict(state), cast("IO[bytes]", written))
            except RuntimeError:
                if written.failure is not None:  # PyTorch says where it stumbled, and not over what
                    raise written.failure from None
                raise
            file.write(_CHECKSUM % written.sum)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint, with all tensors on the CPU.

    Raises:
        CheckpointMissing: there is no such file.
        CheckpointError: it is damaged.
    """
    path = Path(path)
    try:
        _verify(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointMissing(f"there is no checkpoint {path}") from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged file may lead its readers anywhere
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, pickle.UnpicklingError):  # the rest is advice on how to run code from the file
            reason = "its values cannot be read"
        raise CheckpointError(
            f"checkpoint {path} is damaged or no checkpoint ({reason}); delete it and go on from an earlier one"
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(
            f"checkpoint {path} holds a {type(state).__name__}; it is not one of this package's"
        )
    return state


def remove_leftovers(folder: Path) -> None:
    """Deletes what processes left in `folder` that were killed while they saved a checkpoint there."""
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)


class _Summed:
    """A file being written, the CRC-32 of what was, and why no more can be."""

    def __init__(self, file: BinaryIO) -> None:
        self.sum = 0
        self.failure: OSError | None = None
        self._file = file

    def write(self, data: bytes) -> int:
        self.sum = zlib.crc32(data, self.sum)
        try:
            return self._file.write(data)
        except OSError as error:
            self.failure = self.failure or error
            raise

    def flush(self) -> None:
        """Part of what PyTorch asks of a file."""


def _verify(path: Path) -> None:
    """Compares the sum; a file without one, made by `torch.save` alone, has those of its archive.

    Raises:
        OSError: the file cannot be read.
        ValueError, BadZipFile, ...: it is damaged.
    """
    with path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size - _CHECKSUM_BYTES
        file.seek(max(length, 0))
        line = _CHECKSUM_LINE.fullmatch(file.read())
        if line is not None:
            if int(line[1], 16) != _sum(file, length):
                raise ValueError("it does not match its checksum")
            return
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} does not match its checksum")


def _sum(file: BinaryIO, length: int) -> int:
    file.seek(0)
    crc = 0
    while length > 0 and (chunk := file.read(min(_CHUNK, length))):
        crc = zlib.crc32(chunk, crc)
        length -= len(chunk)
    return crc
