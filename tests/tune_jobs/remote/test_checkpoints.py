"""A trial's checkpoints in a store: what is promised of those in a folder holds, and an outage is waited out."""

from pathlib import Path

import pytest

from tests.tune_jobs.remote.object_stores import Proxy, environment
from tests.tune_jobs.trainings import MakeTrainer, curve, train
from tune_jobs.checkpoint_store import (
    DAMAGED_SUFFIX,
    KEEP_PER_TRIAL,
    CheckpointNotWritten,
    Restored,
    open_checkpoints,
    prune_checkpoints,
)
from tune_jobs.remote.checkpoints import RemoteCheckpoints
from tune_jobs.remote.location import Location
from tune_jobs.remote.store import Store, StoreError


def names(place: Location) -> list[str]:
    return [stored.name for stored in Store(place).objects()]


def test_few_are_kept_and_the_latest_is_found_again_by_another_worker(
    place: Location, make_trainer: MakeTrainer
) -> None:
    straight = [result.to_mapping() for result in make_trainer().epochs()]
    assert RemoteCheckpoints(place, "0007").restore(make_trainer()) == Restored()
    files = train(make_trainer(), RemoteCheckpoints(place, "0007"), 3)
    assert files == [f"0007/epoch-{epoch:06d}.pt" for epoch in (1, 2, 3)]
    assert names(place) == files[-KEEP_PER_TRIAL:]
    resumed = make_trainer()
    store = open_checkpoints(place, "0007")
    restored = store.restore(resumed)
    assert (restored.file, restored.damaged) == (files[-1], ())
    after = []
    for result in resumed.epochs():
        after.append(result.to_mapping())
        store.save(resumed)
    assert curve([*restored.results, *after]) == curve(straight)
    assert len(names(place)) == KEEP_PER_TRIAL, "those of the first worker go too"


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_one_is_passed_over_told_of_and_set_aside(
    s3: Location, make_trainer: MakeTrainer, damage: bytes | None
) -> None:
    store = Store(s3)
    *_, third = train(make_trainer(), RemoteCheckpoints(s3, "0000"), 3)
    content = store.get(third)
    store.put(third, content[: len(content) // 2] if damage is None else damage)
    resumed = make_trainer()
    restored = RemoteCheckpoints(s3, "0000").restore(resumed)
    assert len(restored.results) == resumed.epoch == 2
    ((file, reason),) = restored.damaged
    assert file == third
    assert reason
    assert third + DAMAGED_SUFFIX in names(s3)
    assert RemoteCheckpoints(s3, "0000").restore(make_trainer()).damaged == ()


@pytest.mark.parametrize("mode", ["slow", "down"])
def test_an_outage_is_waited_out(proxy: Proxy, s3: Location, make_trainer: MakeTrainer, mode: str) -> None:
    waited = []

    def waiting() -> None:
        waited.append(True)
        if len(waited) == 2:
            proxy.mode = "up"

    trainer = make_trainer()
    store = RemoteCheckpoints(s3, "0000", waiting)
    train(trainer, store, 1)
    proxy.mode = mode
    train(trainer, store, 1)
    assert len(waited) >= 2
    proxy.mode, waited[:] = mode, []
    resumed = make_trainer()
    RemoteCheckpoints(s3, "0000", waiting).restore(resumed)
    assert resumed.epoch == 2
    assert len(waited) >= 2


def test_a_long_outage_is_the_stores_fault_and_not_that_of_the_training(
    proxy: Proxy, s3: Location, make_trainer: MakeTrainer
) -> None:
    trainer = make_trainer()
    store = RemoteCheckpoints(s3, "0000")
    train(trainer, store, 1)
    proxy.mode = "down"
    with environment({"TUNE_JOBS_OUTAGE_SECONDS": "0.1"}):
        with pytest.raises(CheckpointNotWritten) as caught:
            train(trainer, store, 1)
        assert caught.value.file == "0000/epoch-000002.pt"
        assert caught.value.reason == f"it cannot be reached at {proxy.address}"
        with pytest.raises(StoreError):
            store.restore(make_trainer())
    proxy.mode = "up"
    assert store.save(trainer) == "0000/epoch-000002.pt"


def test_checkpoints_of_losers_go(place: Location) -> None:
    store = Store(place)
    for name in ("0000/a", "0001/a", "0001/b", "0010/a"):
        store.put(name, b"1")
    for _ in range(2):
        prune_checkpoints(place, {"0001", "0002"})
        assert names(place) == ["0000/a", "0010/a"]


def test_copies_for_who_wants_the_model(s3: Location, tmp_path: Path, make_trainer: MakeTrainer) -> None:
    files = train(make_trainer(), RemoteCheckpoints(s3, "0000"), 3)
    for _ in range(2):
        RemoteCheckpoints(s3, "0000").fetch(tmp_path / "0000")
        assert sorted(path.name for path in (tmp_path / "0000").iterdir()) == [
            file.partition("/")[2] for file in files[-KEEP_PER_TRIAL:]
        ]
    assert (tmp_path / files[-1]).read_bytes() == Store(s3).get(files[-1])
