"""Checkpoint files: written whole or not at all, and read without running code from them."""

import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

from trainers.errors import CheckpointError


def save_checkpoint(state: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write tensors and plain values to `path`, replacing what is there in one step.

    A process that dies on the way leaves the old file as it was, and perhaps a hidden temporary file beside
    it, which is never read. The file is not forced to disk (that would add half to the time of a small save):
    it outlives the process, and after a power cut `load_checkpoint` tells whether it is whole.

    Raises:
        OSError: the folder is missing, full or not writable.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        torch.save(dict(state), temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint, with all tensors on the CPU.

    Raises:
        CheckpointError: there is no such file, or it is damaged.
    """
    path = Path(path)
    try:
        _verify(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}") from error
    except (
        OSError,
        RuntimeError,
        EOFError,
        KeyError,
        ValueError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        raise CheckpointError(
            f"checkpoint {path} is damaged or no checkpoint ({error}); delete it and go on from an earlier "
            "one"
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(
            f"checkpoint {path} holds a {type(state).__name__}; it is not one of this package's"
        )
    return state


def _verify(path: Path) -> None:
    # PyTorch writes the archive's checksums and does not look at them.
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} does not match its checksum")
