"""The file of a checkpoint: whole or refused, with any state in it."""

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tune_jobs.checkpoints.file import DamagedCheckpoint, epoch_line, open_checkpoint, write_checkpoint
from tune_jobs.errors import LaterVersion
from tune_jobs.trainers.errors import CheckpointMissing

EPOCHS = [
    {"epoch": 1, "val_loss": 0.1 + 0.2, "seconds": 1.0},
    {"epoch": 2, "val_loss": math.nan, "f1": -math.inf, "seconds": 5e-324},
]
STATE = bytes(range(256)) * 40
FILE_FUZZ = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def origin(kind: str, configuration: dict[str, Any]) -> dict[str, Any]:
    return {"run": "r", "trial": "0000", "kind": kind, "configuration": configuration}


def write(path: Path, state: bytes = STATE, epochs: Sequence[dict[str, Any]] = EPOCHS) -> None:
    def save(file: BinaryIO) -> bool:
        file.write(state)
        return True

    with path.open("wb") as file:
        assert write_checkpoint(file, origin("walk", {"lr": 0.1}), [epoch_line(row) for row in epochs], save)


def read(path: Path) -> tuple[Any, ...]:
    with open_checkpoint(path) as found:
        return found.origin["kind"], found.origin["configuration"], list(found.epochs), found.state.read()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "c.pt"


@pytest.mark.parametrize("state", [b"", b"\n", b"\nchecksum 00000000\n", STATE])
@pytest.mark.parametrize("epochs", [[], EPOCHS])
def test_a_checkpoint_comes_back_as_it_was(path: Path, state: bytes, epochs: list[dict[str, Any]]) -> None:
    write(path, state, epochs)
    assert repr(read(path)) == repr(("walk", {"lr": 0.1}, epochs, state))


def test_the_header_is_text_that_people_can_read(path: Path) -> None:
    write(path, b"state", EPOCHS[:1])
    first, header, epoch, state, checksum, _ = path.read_text().split("\n")
    assert first == "tune-jobs checkpoint 1"
    assert header == '{"run":"r","trial":"0000","kind":"walk","configuration":{"lr":0.1},"epochs":1}'
    assert epoch == '{"epoch":1,"val_loss":0.30000000000000004,"seconds":1.0}'
    assert (state, checksum[:9]) == ("state", "checksum ")


def test_the_state_is_a_separate_file_that_can_seek(path: Path) -> None:
    write(path)
    with open_checkpoint(path) as found:
        file = found.state
        assert file.seek(0, os.SEEK_END) == len(STATE)
        assert file.read() == b""
        assert file.seek(-3, os.SEEK_END) == len(STATE) - 3
        assert file.read(99) == STATE[-3:]
        assert file.seek(10) == file.tell() == 10
        assert (file.read(4), file.tell()) == (STATE[10:14], 14)
        assert file.seek(2, os.SEEK_CUR) == 16
        assert file.read(1) == STATE[16:17]


def test_a_state_of_torch_is_written_and_read_in_place(path: Path) -> None:
    tensors = {"w": torch.arange(300.0), "n": 3}

    def save(file: BinaryIO) -> bool:
        torch.save(tensors, file)
        return True

    with path.open("wb") as file:
        write_checkpoint(file, origin("pytorch", {}), [], save)
    with open_checkpoint(path) as found:
        loaded = torch.load(found.state, weights_only=True)
    assert torch.equal(loaded["w"], tensors["w"])


def test_numbers_of_numpy_in_a_configuration_are_plain_in_the_file(path: Path) -> None:
    import numpy as np

    with path.open("wb") as file:
        write_checkpoint(file, origin("walk", {"lr": np.float64(0.1), "n": np.int64(3)}), [], lambda _: True)
    assert read(path)[1] == {"lr": 0.1, "n": 3}


def test_a_training_without_a_state_says_so() -> None:
    assert not write_checkpoint(io.BytesIO(), origin("walk", {}), [], lambda _: False)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "c.pt", tmp_path / "no" / "such" / "folder" / "c.pt"):
        with pytest.raises(CheckpointMissing, match=r"there is no checkpoint .*c\.pt"), open_checkpoint(path):
            pass


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04" + bytes(100), b"\n" * 200])
def test_other_files_are_no_checkpoints(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(
        DamagedCheckpoint,
        match=r"c\.pt is damaged or no checkpoint \(it does not begin like one\); delete it and continue",
    ) as caught:
        read(path)
    assert caught.value.reason == "it does not begin like one"


def test_a_file_of_a_later_version_is_distinguished_from_a_damaged_one(path: Path) -> None:
    import zlib

    content = b"tune-jobs checkpoint 27\nwho knows"
    path.write_bytes(content + b"\nchecksum %08x\n" % zlib.crc32(content))
    with pytest.raises(
        LaterVersion, match="in 'tune-jobs checkpoint 27', which this version does not"
    ) as caught:
        read(path)
    assert "damaged" not in str(caught.value)
    path.write_bytes(content + b"\nchecksum 00000000\n")
    with pytest.raises(DamagedCheckpoint, match="checksum"):
        read(path)


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(DamagedCheckpoint, match="Is a directory"):
        read(tmp_path)


@given(cut=st.floats(0, 1, exclude_max=True))
@FILE_FUZZ
def test_a_shortened_file_is_an_error(path: Path, cut: float) -> None:
    write(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(cut * len(content))])
    with pytest.raises(DamagedCheckpoint):
        read(path)


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@FILE_FUZZ
def test_a_flipped_bit_is_an_error_wherever_it_is(path: Path, place: float, bit: int) -> None:
    write(path)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(DamagedCheckpoint):
        read(path)


def test_an_error_of_the_disk_is_shown_before_the_error_that_a_framework_makes_of_it() -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            if self.tell() > 1000:
                raise OSError(28, "No space left on device")
            return super().write(data)

    def save(file: BinaryIO) -> bool:
        torch.save({"w": torch.zeros(10_000)}, file)
        return True

    with pytest.raises(OSError, match="No space left on device"):
        write_checkpoint(Full(), origin("pytorch", {}), [], save)


def test_a_header_of_a_thousand_epochs_is_small(path: Path) -> None:
    rows = [
        {"epoch": n, "train_loss": 1 / n, "val_loss": 2 / n, "lr": 0.1, "seconds": 1 / n}
        for n in range(1, 1001)
    ]
    write(path, b"", rows)
    assert path.stat().st_size < 120_000
