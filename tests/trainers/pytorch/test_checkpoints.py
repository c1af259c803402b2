import os
import resource

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tune_jobs.trainers.errors import CheckpointError, CheckpointMissing
from tune_jobs.trainers.pytorch.checkpoints import load_checkpoint, remove_leftovers, save_checkpoint
from tune_jobs.trainers.pytorch.trainer import Trainer

STATE = {"w": torch.arange(300.0), "epoch": 3, "names": ["a", "b"], "best": None, "pair": (1.5, float("inf"))}


def same(a, b):
    return repr(a) == repr(b) and torch.equal(a["w"], b["w"])


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    save_checkpoint(STATE, tmp_path / "c.pt")
    assert same(load_checkpoint(tmp_path / "c.pt"), STATE)
    assert os.listdir(tmp_path) == ["c.pt"]


def test_saving_replaces_the_file_and_cares_for_no_leftover(tmp_path):
    path = tmp_path / "c.pt"
    (tmp_path / ".c.pt.0123.tmp").write_bytes(b"left by a process that died")
    save_checkpoint({"w": 1}, path)
    save_checkpoint(STATE, path)
    assert same(load_checkpoint(path), STATE)


def test_a_save_that_fails_leaves_the_old_checkpoint_and_nothing_else(tmp_path):
    path = tmp_path / "c.pt"
    save_checkpoint(STATE, path)
    with pytest.raises(AttributeError, match="pickle"):
        save_checkpoint({"w": torch.ones(10), "bad": lambda: None}, path)
    assert same(load_checkpoint(path), STATE)
    assert os.listdir(tmp_path) == ["c.pt"]


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointMissing, match=r"there is no checkpoint .*c\.pt"):
        load_checkpoint(tmp_path / "c.pt")
    with pytest.raises(CheckpointMissing):
        load_checkpoint(tmp_path / "no" / "such" / "folder" / "c.pt")


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    save_checkpoint(STATE, tmp_path / "c.pt")
    (tmp_path / ".c.pt.0123.tmp").write_bytes(b"left by a process that died")
    (tmp_path / ".other").touch()
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".other", "c.pt"]
    remove_leftovers(tmp_path / "never_made")


def test_torch_reads_the_file_too(tmp_path):
    save_checkpoint(STATE, tmp_path / "c.pt")
    assert same(torch.load(tmp_path / "c.pt"), STATE)


def test_a_file_that_torch_wrote_is_checked_by_the_sums_of_its_archive(tmp_path):
    path = tmp_path / "c.pt"
    torch.save(STATE, path)
    assert same(load_checkpoint(path), STATE)
    weight = torch.tensor([137.0]).numpy().tobytes()
    path.write_bytes(path.read_bytes().replace(weight, torch.tensor([136.0]).numpy().tobytes()))
    with pytest.raises(CheckpointError, match=r"does not match its checksum|Bad CRC"):
        load_checkpoint(path)


@pytest.fixture
def limited_files():
    """Sets how long a file may become, which cuts a write anywhere, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(length=None):
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft if length is None else length, hard))

    yield limit
    limit()


@given(part=st.floats(0, 1, exclude_max=True))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_disk_that_takes_no_more_is_named_and_the_old_checkpoint_stays(tmp_path, limited_files, part):
    path = tmp_path / "c.pt"
    save_checkpoint(STATE, path)
    length = path.stat().st_size
    limited_files(int(part * length))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_checkpoint({**STATE, "epoch": 4}, path)
    finally:
        limited_files()
    assert same(load_checkpoint(path), STATE)
    assert os.listdir(tmp_path) == ["c.pt"]


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04" + bytes(100)])
def test_other_files_are_no_checkpoints(tmp_path, content):
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"c\.pt is damaged or no checkpoint \(.+\); delete it and go on"
    ):
        load_checkpoint(tmp_path / "c.pt")


def test_only_a_mapping_is_a_checkpoint(tmp_path):
    torch.save([1, 2], tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="holds a list"):
        load_checkpoint(tmp_path / "c.pt")


def test_code_in_a_file_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"bomb": Bomb()}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "c.pt")
    assert not (tmp_path / "ran").exists()


@given(cut=st.floats(0, 1, exclude_max=True))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_shortened_file_is_an_error_unless_only_its_checksum_is_cut(tmp_path, cut):
    path = tmp_path / "c.pt"
    save_checkpoint(STATE, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(cut * len(content))])
    if cut * len(content) < content.rindex(b"\nchecksum"):
        with pytest.raises(CheckpointError):
            load_checkpoint(path)
    else:
        assert same(load_checkpoint(path), STATE)


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_is_an_error_or_does_not_matter(tmp_path, place, bit):
    path = tmp_path / "c.pt"
    save_checkpoint(STATE, path)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)
    try:
        found = load_checkpoint(path)
    except CheckpointError:
        return
    assert same(found, STATE)


def test_a_flipped_bit_in_a_weight_is_an_error(tmp_path):
    path = tmp_path / "c.pt"
    save_checkpoint(STATE, path)
    content = path.read_bytes()
    weight = torch.tensor([137.0]).numpy().tobytes()
    assert content.count(weight) == 1
    path.write_bytes(content.replace(weight, torch.tensor([136.0]).numpy().tobytes()))
    with pytest.raises(CheckpointError, match="does not match its checksum"):
        load_checkpoint(path)


def test_a_checkpoint_of_a_small_training_is_small(make_plan, make_data, tmp_path):
    plan = make_plan(optimizer="adam", batch_size="full", training={"max_epochs": 200})
    trainer = Trainer(plan, make_data(), threads=1)
    list(trainer.epochs())
    save_checkpoint(trainer.state_dict(), tmp_path / "c.pt")
    assert (tmp_path / "c.pt").stat().st_size < 64_000
