"""The file of one checkpoint: a header that all kinds of training share, and a state that only its kind can read.

    tune-jobs checkpoint 1
    {"run": …, "trial": …, "kind": …, "configuration": …, "epochs": N}
    N lines, one an epoch: {"epoch": 1, …}
    the state, as `Training.save` wrote it
    checksum 0123abcd

The header is JSON. The last line is the CRC-32 of all bytes before it. The state follows the header directly, so the
file is written from front to back, without a second copy of a large state.

Later formats keep the first line, with another number, and the checksum. So a file of a later version is refused as
such, and not called damaged.
"""

import io
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from tune_jobs.errors import LaterVersion
from tune_jobs.files import parse_json
from tune_jobs.trainers.errors import CheckpointError, CheckpointMissing

ORIGIN = ("run", "trial", "kind", "configuration")
"""Keys of the header that say what the checkpoint belongs to."""
_FIRST_LINE = b"tune-jobs checkpoint 1\n"
_TITLES = {"run": "run", "trial": "trial", "kind": "kind of training", "configuration": "configuration"}
_ANY_FIRST_LINE = re.compile(rb"tune-jobs checkpoint \d+\n")
_CHECKSUM = b"\nchecksum %08x\n"
_CHECKSUM_LINE = re.compile(rb"\nchecksum ([0-9a-f]{8})\n")
_CHECKSUM_BYTES = len(_CHECKSUM % 0)
_CHUNK_BYTES = 1 << 20
"""Bytes that are read at a time to compute a checksum."""


class DamagedCheckpoint(CheckpointError):
    """A file is damaged or no checkpoint. Its state was not looked at.

    Attributes:
        reason: The damage that was found.
    """

    def __init__(self, name: str | Path, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"checkpoint {name} is damaged or no checkpoint ({reason}); delete it and continue from an earlier one"
        )


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was opened."""

    origin: Mapping[str, Any]
    """The `run`, `trial`, `kind` of training and `configuration` that it belongs to."""
    epochs: Sequence[Mapping[str, Any]]
    """Rows of all epochs that the training had reported, as `EpochResult.to_mapping` makes them."""
    state: BinaryIO
    """The bytes that `Training.save` wrote, as a separate file that can seek."""


def epoch_line(row: Mapping[str, Any]) -> bytes:
    """Return an epoch as a line of the header. A line is made once, and written with every later checkpoint."""
    return json.dumps(row, separators=(",", ":"), default=_plain).encode() + b"\n"


def check_origin(checkpoint: Checkpoint, origin: Mapping[str, Any], name: str | Path) -> None:
    """Check that a checkpoint belongs to the training with this origin.

    Raises:
        DamagedCheckpoint: It belongs to another run, trial, kind of training or configuration.
    """
    own = json.loads(json.dumps(origin, default=_plain))
    for key in ORIGIN:
        if json.dumps(checkpoint.origin[key], sort_keys=True) != json.dumps(own[key], sort_keys=True):
            raise DamagedCheckpoint(
                name, f"it belongs to another {_TITLES[key]}: {checkpoint.origin[key]}, and not {own[key]}"
            )


def write_checkpoint(
    file: BinaryIO,
    origin: Mapping[str, Any],
    epoch_lines: Sequence[bytes],
    save: Callable[[BinaryIO], bool],
) -> bool:
    """Write a checkpoint to an empty file.

    Args:
        file: The file, which is written from front to back.
        origin: The `run`, `trial`, `kind` of training and `configuration` that it belongs to.
        epoch_lines: The `epoch_line` of every epoch that the training has reported.
        save: `Training.save`.

    Returns:
        False if the training has no state to save. Then the file is no checkpoint.

    Raises:
        OSError: The file could not be written.
    """
    summed = _SummedFile(file)
    header = {**origin, "epochs": len(epoch_lines)}
    summed.write(_FIRST_LINE + epoch_line(header) + b"".join(epoch_lines))
    try:
        has_state = save(cast("BinaryIO", summed))
    except Exception:
        if summed.failure is not None:  # frameworks hide the error of the disk behind their own
            raise summed.failure from None
        raise
    file.write(_CHECKSUM % summed.sum)
    return has_state


@contextmanager
def open_checkpoint(path: Path) -> Iterator[Checkpoint]:
    """Open the checkpoint at `path`; see `read_checkpoint`.

    Raises:
        CheckpointMissing: There is no such file.
        DamagedCheckpoint: The file is damaged, or no checkpoint.
        LaterVersion: A later version of tune-jobs wrote it.
    """
    try:
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointMissing(f"there is no checkpoint {path}") from error
    except OSError as error:
        raise _as_damaged(path, error) from error
    with file:
        yield read_checkpoint(file, path)


def read_checkpoint(file: BinaryIO, name: str | Path) -> Checkpoint:
    """Verify the checksum of a file and read its header. The kind reads the state, while the file is open.

    Args:
        file: An open file on a disk.
        name: The name of the file in messages.

    Raises:
        DamagedCheckpoint: The file is damaged, or no checkpoint.
        LaterVersion: A later version of tune-jobs wrote it.
    """
    try:
        first, end = _verify(file)
    except (OSError, ValueError) as error:
        raise _as_damaged(name, error) from error
    if first != _FIRST_LINE:
        raise LaterVersion(
            f"checkpoint {name} was written by a later version of tune-jobs, in {first.decode().strip()!r}, which this "
            "version does not know; it was not changed. Use the later version for this run: `pip install --upgrade "
            "tune-jobs`"
        )
    try:
        file.seek(len(_FIRST_LINE))
        header = parse_json(file.readline())
        epochs = [parse_json(file.readline()) for _ in range(header["epochs"])]
        state = io.BufferedReader(_Part(file, file.tell(), end), _CHUNK_BYTES)
        origin = {name: header[name] for name in ORIGIN}
        return Checkpoint(origin, epochs, cast("BinaryIO", state))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _as_damaged(name, error) from error


def _as_damaged(name: str | Path, error: Exception) -> DamagedCheckpoint:
    return DamagedCheckpoint(name, " ".join(str(error).split()) or type(error).__name__)


def _verify(file: BinaryIO) -> tuple[bytes, int]:
    """Return the first line of the file and the position of its checksum, which was verified.

    Raises:
        ValueError: The file is no checkpoint, or its checksum is wrong.
    """
    end = os.fstat(file.fileno()).st_size - _CHECKSUM_BYTES
    file.seek(0)
    first = _ANY_FIRST_LINE.fullmatch(file.readline(100))
    if first is None:
        raise ValueError("it does not begin like one")
    file.seek(max(end, 0))
    line = _CHECKSUM_LINE.fullmatch(file.read())
    if line is None or int(line[1], 16) != _sum(file, end):
        raise ValueError("it does not match its checksum")
    return first[0], end


def _sum(file: BinaryIO, length: int) -> int:
    file.seek(0)
    crc = 0
    while length > 0 and (chunk := file.read(min(_CHUNK_BYTES, length))):
        crc = zlib.crc32(chunk, crc)
        length -= len(chunk)
    return crc


def _plain(number: Any) -> Any:
    """Return a number of NumPy as a number of Python."""
    return number.item()


class _SummedFile(io.RawIOBase):
    """A file that is written from front to back. It keeps the CRC-32 of its content and the first error of a write."""

    def __init__(self, file: BinaryIO) -> None:
        self.sum = 0
        self.failure: OSError | None = None
        self._file = file
        self._length = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.sum = zlib.crc32(data, self.sum)
        try:
            written = self._file.write(data)
        except OSError as error:
            self.failure = self.failure or error
            raise
        self._length += written
        return written

    def tell(self) -> int:
        return self._length


class _Part(io.RawIOBase):
    """The bytes of a file from `start` to `end`, as a file that can be read."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file, self._start, self._length = file, start, end - start
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        size = max(0, min(len(buffer), self._length - self._at))
        self._file.seek(self._start + self._at)
        read: int = self._file.readinto(memoryview(buffer)[:size])  # type: ignore[attr-defined]  # of all files
        self._at += read
        return read
