"""A trial's checkpoints in a store keep the promises of those in a folder, and saving waits until an outage is over."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tune_jobs.in_process_training import MakeTrainer, train, without_seconds
from tests.tune_jobs.remote.object_stores import Proxy, environment
from tune_jobs.checkpoints.opening import fetch_checkpoints, open_checkpoints
from tune_jobs.checkpoints.retention import prune_checkpoints
from tune_jobs.checkpoints.trial_checkpoints import (
    DAMAGED_SUFFIX,
    KEEP_PER_TRIAL,
    Checkpoints,
    CheckpointStorageFailed,
    Owner,
    Restored,
    epoch_of,
)
from tune_jobs.location import Location
from tune_jobs.remote.store import Store

CONFIGURATION = {"lr": 0.1}


def remote(
    place: Location, trial_id: str = "0000", driver: str = "a", waiting: Callable[[], None] = lambda: None
) -> Checkpoints:
    return of_configuration(place, trial_id, CONFIGURATION, driver, waiting)


def of_configuration(
    place: Location,
    trial_id: str,
    configuration: Mapping[str, Any],
    driver: str = "a",
    waiting: Callable[[], None] = lambda: None,
) -> Checkpoints:
    owner = Owner(trial_id=trial_id, configuration=configuration, kind="pytorch", driver=driver)
    return open_checkpoints(place, owner, waiting)


def epochs(files: Iterable[str]) -> list[int]:
    return [epoch_of(file.rpartition("/")[2]) for file in files]


def names(place: Location) -> list[str]:
    return [stored.name for stored in Store(place).objects()]


def test_few_are_kept_and_the_latest_is_found_again_by_another_worker(
    place: Location, make_trainer: MakeTrainer
) -> None:
    straight = [result.to_mapping() for result in make_trainer().epochs()]
    assert remote(place, "0007").restore(make_trainer()) == Restored()
    files = train(make_trainer(), remote(place, "0007"), 3)
    assert all(re.fullmatch(r"0007/epoch-00000[123]-[0-9a-f]{8}-a\.pt", file) for file in files)
    assert epochs(files) == [1, 2, 3]
    assert names(place) == files[-KEEP_PER_TRIAL:]
    resumed = make_trainer()
    store = remote(place, "0007")
    restored = store.restore(resumed)
    assert (restored.file, restored.damaged) == (files[-1], ())
    after = []
    for result in resumed.epochs():
        after.append(result.to_mapping())
        store.add(result)
        store.save(resumed)
    assert without_seconds([*restored.results, *after]) == without_seconds(straight)
    assert len(names(place)) == KEEP_PER_TRIAL, "those of the first worker go too"


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_one_is_skipped_reported_and_set_aside(
    s3: Location, make_trainer: MakeTrainer, damage: bytes | None
) -> None:
    store = Store(s3)
    *_, third = train(make_trainer(), remote(s3), 3)
    content = store.get(third)
    store.put(third, content[: len(content) // 2] if damage is None else damage)
    resumed = make_trainer()
    restored = remote(s3).restore(resumed)
    assert len(restored.results) == resumed.epoch == 2
    ((file, reason),) = restored.damaged
    assert file == third
    assert reason
    assert third + DAMAGED_SUFFIX in names(s3)
    assert remote(s3).restore(make_trainer()).damaged == ()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["slow", "down"])
def test_saving_waits_until_an_outage_is_over(
    proxy: Proxy, s3: Location, make_trainer: MakeTrainer, mode: str
) -> None:
    waited = []

    def waiting() -> None:
        waited.append(True)
        if len(waited) == 2:
            proxy.mode = "up"

    trainer = make_trainer()
    store = remote(s3, waiting=waiting)
    train(trainer, store, 1)
    proxy.mode = mode
    train(trainer, store, 1)
    assert len(waited) >= 2
    proxy.mode, waited[:] = mode, []
    resumed = make_trainer()
    remote(s3, waiting=waiting).restore(resumed)
    assert resumed.epoch == 2
    assert len(waited) >= 2


@pytest.mark.slow
def test_a_long_outage_is_a_failure_of_the_store_and_not_of_the_training(
    proxy: Proxy, s3: Location, make_trainer: MakeTrainer
) -> None:
    trainer = make_trainer()
    store = remote(s3)
    train(trainer, store, 1)
    proxy.mode = "down"
    with environment({"TUNE_JOBS_OUTAGE_SECONDS": "0.1"}):
        with pytest.raises(CheckpointStorageFailed) as caught:
            train(trainer, store, 1)
        assert epochs([caught.value.file]) == [2]
        assert caught.value.reason == f"it cannot be reached at {proxy.address}"
        with pytest.raises(CheckpointStorageFailed, match="0000: it cannot be reached"):
            store.restore(make_trainer())
    proxy.mode = "up"
    assert store.save(trainer) == caught.value.file


def test_checkpoints_of_losers_go(place: Location) -> None:
    store = Store(place)
    for name in ("0000/a", "0001/a", "0001/b", "0010/a"):
        store.put(name, b"1")
    for _ in range(2):
        prune_checkpoints(place, {"0001", "0002"})
        assert names(place) == ["0000/a", "0010/a"]


def test_the_latest_checkpoints_are_copied(s3: Location, tmp_path: Path, make_trainer: MakeTrainer) -> None:
    files = train(make_trainer(), remote(s3), 3)
    copies = [tmp_path / file for file in files[: -KEEP_PER_TRIAL - 1 : -1]]
    for _ in range(2):
        assert fetch_checkpoints(s3, tmp_path, "0000", CONFIGURATION) == copies
        assert sorted((tmp_path / "0000").iterdir()) == sorted(copies)
    assert copies[0].read_bytes() == Store(s3).get(files[-1])


def test_workers_of_two_drivers_never_write_over_or_remove_each_others(
    s3: Location, make_trainer: MakeTrainer
) -> None:
    """One driver was cut off and does not know yet that another one has taken over."""
    cut_off = remote(s3, driver="a")
    *_, last = train(trainer := make_trainer(), cut_off, 2)
    resumed = make_trainer()
    theirs = remote(s3, driver="b")
    assert theirs.restore(resumed).file == last, "curves are the same in every worker"
    files = train(resumed, theirs, 1)
    content = Store(s3).get(files[0])
    train(trainer, cut_off, 3)
    assert Store(s3).get(files[0]) == content
    assert epochs(names(s3)) == [3, 4, 5]


def test_a_trial_continues_from_checkpoints_of_its_own_configuration_alone(
    s3: Location, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    """If the last events of a driver are lost, another one uses the ids of its last trials again."""
    train(make_trainer(lr=0.5), of_configuration(s3, "0007", {"lr": 0.5}), 2)
    other = remote(s3, "0007", "b")
    assert other.restore(make_trainer(lr=0.1)) == Restored()
    (file,) = train(make_trainer(lr=0.1), other, 1)
    assert fetch_checkpoints(s3, tmp_path, "0007", CONFIGURATION) == [tmp_path / file]
    read_back = {"model.hidden": [32], "lr": 0.1}
    for number in (0.1, np.float64(0.1)):
        again = of_configuration(s3, "0008", {"lr": number, "model.hidden": (32,)})
        train(make_trainer(), again, 1)
    assert of_configuration(s3, "0008", json.loads(json.dumps(read_back))).names() == again.names()
