"""Rows as tensors: on a CPU without a copy, on an accelerator as one copy that trials share."""

import warnings
from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tune_jobs.trainers.data.raw import Array
from tune_jobs.trainers.data.rows import Rows
from tune_jobs.trainers.errors import DeviceError

_CACHED_ARRAYS = 8
"""Largest number of arrays whose copies on an accelerator are kept."""
_CACHED_BYTES = 2 * 1024**3
"""Bytes of all kept copies together at most; the last copy is always kept."""


class TensorRows(NamedTuple):
    """Rows as the trainer holds them. Nothing may write to them: they may be in read-only shared memory."""

    x: Tensor
    """float32 [n, *input_shape], or float64 for a model in double precision"""
    y: Tensor
    """int64 [n], or [n, k] of the type of x"""


def choose_device(name: str) -> torch.device:
    """Return the device of this name; `auto` takes cuda, else mps, else cpu.

    Raises:
        DeviceError: The device is missing.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    device = torch.device(name)
    exists = {"cpu": True, "cuda": cuda, "mps": mps}.get(device.type, False)
    if not exists:
        raise DeviceError(
            f"device {name!r} was asked for, and PyTorch finds no {device.type} device in this process; "
            "choose device: auto or cpu, or give the trial a GPU (resources.gpus_per_trial)"
        )
    if device.type == "cuda" and device.index is not None and device.index >= torch.cuda.device_count():
        raise DeviceError(
            f"device {name!r} was asked for, and this process sees {torch.cuda.device_count()} cuda "
            "device(s), numbered from 0; choose device: cuda"
        )
    return device


def to_tensors(rows: Rows, device: torch.device) -> TensorRows:
    """Return the rows on `device`. On a CPU they share the arrays' memory; on other devices they are a copy."""
    return TensorRows(_on_device(rows.x, device), _on_device(rows.y, device))


def in_precision_of(model: nn.Module, rows: TensorRows) -> TensorRows:
    """Return the rows in double precision if all numbers of the model are, else the same rows."""
    kinds = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    if kinds != {torch.float64}:
        return rows
    return TensorRows(rows.x.double(), rows.y.double() if rows.y.is_floating_point() else rows.y)


_copies: OrderedDict[tuple[object, ...], tuple[Array, Tensor]] = OrderedDict()


def _on_device(array: Array, device: torch.device) -> Tensor:
    if device.type == "cpu":
        return _from_numpy(array)
    if array.flags.writeable:
        return _from_numpy(array).to(device)
    # Trials that follow each other in a process share one copy. The array is kept too, so that no other array can
    # get its address.
    key = (array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str, str(device))
    if key not in _copies:
        _copies[key] = array, _from_numpy(array).to(device)
    _copies.move_to_end(key)
    while len(_copies) > _CACHED_ARRAYS or (
        len(_copies) > 1 and sum(kept.nbytes for kept, _ in _copies.values()) > _CACHED_BYTES
    ):
        _copies.popitem(last=False)
    return next(reversed(_copies.values()))[1]


def _from_numpy(array: Array) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(array)
