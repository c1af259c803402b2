"""Checkpoints of a run: few on disk, the latest sound one found again, with a real trainer on small data."""

import dataclasses
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tune_jobs.in_process_training import MakeTrainer, checkpoints_in, train, without_seconds
from tests.tune_jobs.later import checkpoint_of_later_version
from tune_jobs.checkpoints.file import open_checkpoint
from tune_jobs.checkpoints.local import LocalFiles, checkpoint_paths
from tune_jobs.checkpoints.trial_checkpoints import (
    DAMAGED_SUFFIX,
    KEEP_PER_TRIAL,
    Checkpoints,
    CheckpointStorageFailed,
    Owner,
    Restored,
)
from tune_jobs.errors import LaterVersion
from tune_jobs.trainers.errors import CheckpointError


def test_without_a_checkpoint_a_trainer_stays_at_its_start(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    assert checkpoints_in(tmp_path).restore(trainer) == Restored()
    assert trainer.epoch == 0
    assert not list(tmp_path.iterdir())


def test_a_file_is_named_by_trial_and_epoch_relative_to_the_root(
    tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    files = train(make_trainer(), checkpoints_in(tmp_path, "0007"), 3)
    assert files == [f"0007/epoch-00000{epoch}.pt" for epoch in (1, 2, 3)]
    with open_checkpoint(tmp_path / files[-1]) as checkpoint:
        assert (checkpoint.origin["kind"], checkpoint.origin["configuration"]) == ("pytorch", {})
        assert [row["epoch"] for row in checkpoint.epochs] == [1, 2, 3]


def test_only_the_last_few_of_a_trial_stay(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    store = checkpoints_in(tmp_path)
    files = train(make_trainer(), store, 4)
    assert checkpoint_paths(tmp_path, "0000") == [
        tmp_path / file for file in reversed(files[-KEEP_PER_TRIAL:])
    ]
    assert sorted((tmp_path / "0000").iterdir()) == sorted(checkpoint_paths(tmp_path, "0000"))


def test_a_trainer_continues_from_the_last_checkpoint_with_all_results_before_it(
    tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    straight = make_trainer(lr=0.05)
    expected = without_seconds([result.to_mapping() for result in straight.epochs()])
    train(make_trainer(lr=0.05), checkpoints_in(tmp_path), 3)
    resumed = make_trainer(lr=0.05)
    before = checkpoints_in(tmp_path).restore(resumed)
    assert before.damaged == ()
    assert without_seconds(before.results) == expected[:3]
    assert without_seconds([result.to_mapping() for result in resumed.epochs()]) == expected[3:]
    assert resumed.best == straight.best


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, make_trainer: MakeTrainer) -> list[bytes]:
    """The checkpoints after epochs 2 and 3."""
    root = tmp_path_factory.mktemp("saved")
    files = train(make_trainer(), checkpoints_in(root), 3)
    return [(root / file).read_bytes() for file in files[1:]]


@pytest.fixture(scope="module")
def straight(make_trainer: MakeTrainer) -> list[dict[str, Any]]:
    return without_seconds([result.to_mapping() for result in make_trainer().epochs()])


def put(root: Path, contents: Mapping[int, bytes]) -> Checkpoints:
    """Make a trial whose only checkpoints are these files, by epoch."""
    folder = root / "0000"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for epoch, content in contents.items():
        (folder / f"epoch-{epoch:06d}.pt").write_bytes(content)
    return checkpoints_in(root)


OTHER_ZIP = b"PK\x05\x06" + bytes(18)


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", OTHER_ZIP, None])
def test_a_damaged_checkpoint_is_skipped_and_reported(
    tmp_path: Path, make_trainer: MakeTrainer, saved: list[bytes], damage: bytes | None
) -> None:
    second, third = saved
    store = put(tmp_path, {2: second, 3: third[: len(third) // 2] if damage is None else damage})
    resumed = make_trainer()
    restored = store.restore(resumed)
    assert len(restored.results) == resumed.epoch == 2
    ((file, reason),) = restored.damaged
    assert file == "0000/epoch-000003.pt"
    assert reason
    assert str(tmp_path) not in reason, "the file is named beside it"
    assert store.restore(make_trainer()).damaged == (), "it is reported once"


def test_a_file_that_the_training_itself_misses_is_not_a_pruned_checkpoint(
    tmp_path: Path, make_trainer: MakeTrainer, saved: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, resumed = put(tmp_path, {2: saved[0], 3: saved[1]}), make_trainer()

    def load(*_: object) -> None:
        raise FileNotFoundError(2, "No such file", "vocabulary.txt")

    monkeypatch.setattr(resumed, "load", load)
    with pytest.raises(FileNotFoundError, match=r"vocabulary\.txt"):
        store.restore(resumed)


def test_a_damaged_checkpoint_does_not_count_among_those_that_are_kept(
    tmp_path: Path, make_trainer: MakeTrainer, saved: list[bytes]
) -> None:
    store = put(tmp_path, {2: saved[0], 3: b"damaged"})
    resumed = make_trainer()
    store.restore(resumed)
    assert [path.name for path in checkpoint_paths(tmp_path, "0000")] == ["epoch-000002.pt"]
    aside = tmp_path / "0000" / f"epoch-000003.pt{DAMAGED_SUFFIX}"
    assert aside.read_bytes() == b"damaged"
    train(resumed, store, 1)
    assert [path.name for path in checkpoint_paths(tmp_path, "0000")] == [
        "epoch-000003.pt",
        "epoch-000002.pt",
    ]
    assert store.restore(make_trainer()).damaged == ()


def test_a_checkpoint_of_a_later_version_is_refused_and_stays_as_it_is(
    tmp_path: Path, make_trainer: MakeTrainer, saved: list[bytes]
) -> None:
    store = put(tmp_path, {2: saved[0], 3: checkpoint_of_later_version(saved[1])})
    resumed = make_trainer()
    with pytest.raises(
        LaterVersion, match=r"checkpoint 0000/epoch-000003\.pt was written by a later version"
    ):
        store.restore(resumed)
    assert resumed.epoch == 0, "it does not continue from the one before it"
    assert {path.name: path.read_bytes() for path in (tmp_path / "0000").iterdir()} == {
        "epoch-000002.pt": saved[0],
        "epoch-000003.pt": checkpoint_of_later_version(saved[1]),
    }


def test_with_all_checkpoints_damaged_a_trial_starts_from_scratch_and_says_so(
    tmp_path: Path, make_trainer: MakeTrainer, straight: list[dict[str, Any]]
) -> None:
    store = put(tmp_path, {2: b"gone", 3: b"gone"})
    resumed = make_trainer()
    restored = store.restore(resumed)
    assert (restored.results, resumed.epoch) == ((), 0)
    assert [file for file, _ in restored.damaged] == ["0000/epoch-000003.pt", "0000/epoch-000002.pt"]
    assert without_seconds(result.to_mapping() for result in resumed.epochs()) == straight


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(which=st.sets(st.sampled_from([0, 1]), min_size=1), data=st.data())
def test_whatever_happens_to_the_files_the_curve_is_the_same(
    tmp_path: Path, make_trainer: MakeTrainer, saved: list[bytes], straight: list[dict[str, Any]],
    which: set[int], data: st.DataObject,
) -> None:  # fmt: skip
    contents = list(saved)
    for number in which:
        contents[number] = data.draw(damaged(contents[number]))
    store = put(tmp_path, dict(zip((2, 3), contents, strict=True)))
    resumed = make_trainer()
    restored = store.restore(resumed)
    told = {file for file, _ in restored.damaged}
    assert told <= {f"0000/epoch-{number + 2:06d}.pt" for number in which}
    assert resumed.epoch in {0, 2, 3} - {int(file[-5:-3]) for file in told}
    after = [result.to_mapping() for result in resumed.epochs()]
    assert without_seconds([*restored.results, *after]) == straight


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """Generate `content` that is cut, has flipped bits, or is partly overwritten."""

    def flipped(bits: list[int]) -> bytes:
        changed = bytearray(content)
        for bit in bits:
            changed[bit // 8] ^= 1 << bit % 8
        return bytes(changed)

    places = st.integers(0, len(content) - 1)
    return st.one_of(
        places.map(lambda length: content[:length]),
        st.lists(st.integers(0, 8 * len(content) - 1), min_size=1, max_size=3, unique=True).map(flipped),
        places.map(lambda start: content[:start] + bytes(len(content) - start)),
    )


def test_a_checkpoint_that_vanished_since_it_was_listed_is_no_damage(
    tmp_path: Path, make_trainer: MakeTrainer, saved: list[bytes]
) -> None:
    store = put(tmp_path, {2: saved[0]})
    (tmp_path / "0000" / "epoch-000003.pt").symlink_to(tmp_path / "gone")  # listed but missing
    resumed = make_trainer()
    assert store.restore(resumed).damaged == ()
    assert resumed.epoch == 2


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"trial_id": "0001"}, "it belongs to another trial: 0000, and not 0001"),
        ({"run": "r2"}, "it belongs to another run: r1, and not r2"),
        ({"kind": "walk"}, "it belongs to another kind of training: pytorch, and not walk"),
        (
            {"configuration": {"lr": 0.02}},
            r"it belongs to another configuration: {'lr': 0.01}, and not {'lr': 0.02}",
        ),
    ],
)
def test_a_checkpoint_of_another_training_is_damage_and_the_older_own_one_is_taken(
    tmp_path: Path, make_trainer: MakeTrainer, other: Mapping[str, Any], reason: str
) -> None:
    def checkpoints(root: Path, owner: Owner) -> Checkpoints:
        return Checkpoints(LocalFiles(root, owner.trial_id), owner)

    owner = Owner(trial_id="0000", configuration={"lr": 0.01}, kind="pytorch", run="r1")
    mine = dataclasses.replace(owner, **other)
    lr = mine.configuration["lr"]
    for root, each, epochs in ((tmp_path / "a", owner, 3), (tmp_path / "b", mine, 2)):
        root.mkdir()
        train(make_trainer(lr=each.configuration["lr"]), checkpoints(root, each), epochs)
    folder = tmp_path / "b" / mine.trial_id
    (tmp_path / "a" / "0000" / "epoch-000003.pt").rename(folder / "epoch-000003.pt")
    resumed = make_trainer(lr=lr)
    restored = checkpoints(tmp_path / "b", mine).restore(resumed)
    assert restored.damaged == ((f"{mine.trial_id}/epoch-000003.pt", reason),)
    assert resumed.epoch == 2
    assert (folder / f"epoch-000003.pt{DAMAGED_SUFFIX}").is_file()
    for path in checkpoint_paths(tmp_path / "b", mine.trial_id):
        path.unlink()
    (folder / f"epoch-000003.pt{DAMAGED_SUFFIX}").rename(folder / "epoch-000003.pt")
    resumed = make_trainer(lr=lr)
    assert checkpoints(tmp_path / "b", mine).restore(resumed).file is None
    assert resumed.epoch == 0


def test_a_state_of_another_plan_is_an_error(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    train(make_trainer(lr=0.01), checkpoints_in(tmp_path, lr=0.01), 2)
    with pytest.raises(CheckpointError, match="of another plan"):
        checkpoints_in(tmp_path, lr=0.01).restore(make_trainer(lr=0.02))


def test_leftovers_of_a_killed_worker_are_no_checkpoint(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    store = checkpoints_in(tmp_path)
    train(make_trainer(), store, 1)
    (tmp_path / "0000" / ".epoch-000002.pt.123.tmp").write_bytes(b"half")
    assert [path.name for path in checkpoint_paths(tmp_path, "0000")] == ["epoch-000001.pt"]
    resumed = make_trainer()
    store.restore(resumed)
    assert resumed.epoch == 1
    assert sorted((tmp_path / "0000").iterdir()) == checkpoint_paths(tmp_path, "0000"), "it is removed"


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9])
def test_a_full_disk_is_distinguished_from_a_training_that_fails(
    tmp_path: Path, make_trainer: MakeTrainer, saved: list[bytes], part: float
) -> None:
    store = put(tmp_path, {2: saved[0]})
    trainer = make_trainer()
    store.restore(trainer)
    store.add(next(trainer.epochs()))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(part * len(saved[1])), hard))
    try:
        with pytest.raises(CheckpointStorageFailed) as caught:
            store.save(trainer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (caught.value.file, caught.value.reason) == ("0000/epoch-000003.pt", "File too large")
    assert [path.name for path in (tmp_path / "0000").iterdir()] == ["epoch-000002.pt"]
    assert store.save(trainer) == "0000/epoch-000003.pt"


def test_a_missing_root_is_not_created_again(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    with pytest.raises(CheckpointStorageFailed, match="No such file or directory"):
        checkpoints_in(tmp_path / "unmounted").save(make_trainer())
    assert not list(tmp_path.iterdir())
