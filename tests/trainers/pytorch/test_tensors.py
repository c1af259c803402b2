import numpy as np
import pytest
import torch

from tune_jobs.trainers.data import Rows
from tune_jobs.trainers.errors import DeviceError
from tune_jobs.trainers.pytorch import tensors
from tune_jobs.trainers.pytorch.tensors import choose_device, to_tensors

META = torch.device("meta")  # a stand-in for an accelerator: data must be moved to it


@pytest.fixture
def rows():
    return Rows(np.zeros((4, 2), np.float32), np.zeros(4, np.int64))


def read_only(array):
    array.flags.writeable = False
    return array


def test_on_a_cpu_the_arrays_are_not_copied_even_if_they_are_read_only(rows):
    for array in (rows.x, rows.y):
        read_only(array)
    found = to_tensors(rows, torch.device("cpu"))
    assert (found.x.data_ptr(), found.y.data_ptr()) == (rows.x.ctypes.data, rows.y.ctypes.data)
    assert (found.x.dtype, found.y.dtype) == (torch.float32, torch.int64)


def test_read_only_arrays_are_moved_once_and_each_to_its_own_copy(monkeypatch):
    monkeypatch.setattr(tensors, "_copies", type(tensors._copies)())
    arrays = [read_only(np.full((3, 2), i, np.float32)) for i in range(tensors._CACHED_ARRAYS)]
    first = [tensors._on_device(array, META) for array in arrays]
    # Another trial gets new array objects for the same memory.
    again = [tensors._on_device(array[:], META) for array in arrays]
    assert all(a is b for a, b in zip(first, again, strict=True))
    assert len({id(tensor) for tensor in first}) == len(arrays)
    tensors._on_device(read_only(np.zeros((3, 2), np.float32)), META)
    assert tensors._on_device(arrays[0], META) is not first[0]
    assert len(tensors._copies) == tensors._CACHED_ARRAYS


def test_few_bytes_are_kept_but_always_the_last_array(monkeypatch):
    monkeypatch.setattr(tensors, "_copies", type(tensors._copies)())
    monkeypatch.setattr(tensors, "_CACHED_BYTES", 10)
    array = read_only(np.zeros((3, 2), np.float32))
    tensors._on_device(read_only(np.ones((3, 2), np.float32)), META)
    assert tensors._on_device(array, META) is tensors._on_device(array, META)
    assert len(tensors._copies) == 1


def test_arrays_that_may_change_are_moved_each_time(rows):
    assert to_tensors(rows, META).x is not to_tensors(rows, META).x


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    with pytest.raises(DeviceError, match="device 'cuda:1' was asked for, and PyTorch finds no cuda device"):
        choose_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("auto") == torch.device("cuda")
    with pytest.raises(
        DeviceError, match=r"'cuda:1' was asked for, and this process sees 1 cuda device\(s\)"
    ):
        choose_device("cuda:1")
