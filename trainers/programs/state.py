"""The state of a program's training in a checkpoint: a header in JSON, then bytes that only the program reads.

    {"program": 1, "by": …, "epoch": 9, …, "sizes": [5120, 5056]}
    the state after the last epoch, and that after the best epoch, as the program pickled them

No framework is needed to read the header, or to copy the bytes.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tune_jobs.trainers.errors import CheckpointError
from tune_jobs.trainers.interface import TrainingRequest

_FORMAT = 1
_LONGEST_HEADER = 10_000_000
"""Bytes of a header, which holds a configuration and two epochs."""
_CHUNK = 1 << 20
_FOREIGN = "the checkpoint is not of a program, or a part is missing; continue from another one"


@dataclass(frozen=True, kw_only=True)
class Header:
    """What tune-jobs itself knows about a saved training."""

    epoch: int
    last: Mapping[str, Any]
    """The row of the last epoch."""
    best: tuple[int, float] | None
    """The best epoch and its score."""
    left: bool
    """Whether the program left its loop over the epochs."""


def signature_of(request: TrainingRequest) -> Any:
    """Return what two requests of one training have in common, as JSON reads it back."""
    return json.loads(json.dumps([dict(request.configuration), request.seed, request.max_epochs]))


def write_state(
    file: BinaryIO, header: Header, request: TrainingRequest, last: Path, best: Path | None
) -> None:
    """Write a state.

    Args:
        file: The file to write to.
        header: What is known about the training.
        request: The request of the training.
        last: The state after the last epoch.
        best: The state after the best epoch; None if it is the last.
    """
    sizes = [last.stat().st_size, 0 if best is None else best.stat().st_size]
    values = {"program": _FORMAT, "by": signature_of(request), **vars(header), "sizes": sizes}
    file.write(json.dumps(values).encode() + b"\n")
    for path in (last, best):
        if path is not None:
            with path.open("rb") as content:
                shutil.copyfileobj(content, file, _CHUNK)


def read_header(file: BinaryIO) -> tuple[Header, Any, tuple[int, int]]:
    """Read the header of a state; return it, the signature of its request, and the sizes of both parts.

    Raises:
        CheckpointError: It is no state of a program.
    """
    try:
        values = json.loads(file.readline(_LONGEST_HEADER))
        last, best = values["sizes"]
        place = file.tell()
        whole = values["program"] == _FORMAT and file.seek(0, 2) == place + last + best
        file.seek(place)
        header = Header(
            epoch=values["epoch"],
            last=values["last"],
            best=None if values["best"] is None else (values["best"][0], values["best"][1]),
            left=values["left"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(_FOREIGN) from error
    if not whole:
        raise CheckpointError(_FOREIGN)
    return header, values["by"], (last, best)


def read_state(
    file: BinaryIO, request: TrainingRequest, folder: Path, *, inherit: bool = False
) -> tuple[Header, Path, Path]:
    """Copy both parts of a state into files of `folder`.

    Returns:
        The header, the state after the last epoch, and that after the best epoch.

    Raises:
        CheckpointError: It is no state of a program, or of another training.
    """
    header, by, sizes = read_header(file)
    if not inherit and by != signature_of(request):
        raise CheckpointError(
            "the checkpoint is of another training: its configuration, seed or length differs"
        )
    paths = [folder / f"loaded-{part}" for part in ("last", "best")]
    for path, size in zip(paths, sizes, strict=True):
        with path.open("wb") as copy:
            _copy(file, copy, size)
    last, best = paths
    return header, last, best if sizes[1] else last


def _copy(file: BinaryIO, copy: BinaryIO, size: int) -> None:
    while size > 0 and (chunk := file.read(min(_CHUNK, size))):
        copy.write(chunk)
        size -= len(chunk)
