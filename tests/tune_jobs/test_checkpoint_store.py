"""Checkpoints of a run: few on disk, the latest sound one found again, with a real trainer on small data."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from trainers.checkpoints import load_checkpoint
from trainers.data import TrainingData
from trainers.errors import CheckpointError
from trainers.plan import TrainingPlan, plan_training
from trainers.trainer import Trainer
from tune_jobs.checkpoint_store import KEEP_BEST_TRIALS, KEEP_PER_TRIAL, CheckpointStore, prune_checkpoints
from tune_jobs.events import Status
from tune_jobs.folder import RunFolder
from tune_jobs.job import Job
from tune_jobs.preparation import prepare
from tune_jobs.records import RunRecord

MakeTrainer = Callable[..., Trainer]


@pytest.fixture(scope="module")
def job(make_sections: Callable[..., dict[str, Any]]) -> Job:
    return Job.from_mapping(make_sections({"training/max_epochs": 5}))


@pytest.fixture(scope="module")
def data(job: Job) -> TrainingData:
    return prepare(job).for_trials()


@pytest.fixture(scope="module")
def make_trainer(job: Job, data: TrainingData) -> MakeTrainer:
    def make(**configuration: Any) -> Trainer:
        plan: TrainingPlan = plan_training(job.model, job.training, job.selection, configuration, job.seed)
        return Trainer(plan, data, threads=1)

    return make


def train(trainer: Trainer, store: CheckpointStore, epochs: int) -> list[str]:
    """Trains some epochs with a checkpoint after each; returns the files as they were named."""
    results = trainer.epochs()
    files = []
    for _ in range(epochs):
        next(results)
        files.append(store.save(trainer))
    return files


def curve(mappings: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in mappings]


def test_without_a_checkpoint_a_trainer_stays_at_its_start(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    assert CheckpointStore(tmp_path, "0000").restore(trainer) == []
    assert trainer.epoch == 0
    assert not list(tmp_path.iterdir())


def test_a_file_is_named_by_trial_and_epoch_relative_to_the_root(
    tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    files = train(make_trainer(), CheckpointStore(tmp_path, "0007"), 3)
    assert files == [f"0007/epoch-00000{epoch}.pt" for epoch in (1, 2, 3)]
    assert load_checkpoint(tmp_path / files[-1])["best"]["epoch"] in {1, 2, 3}


def test_only_the_last_few_of_a_trial_stay(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    store = CheckpointStore(tmp_path, "0000")
    files = train(make_trainer(), store, 4)
    assert store.files() == [tmp_path / file for file in reversed(files[-KEEP_PER_TRIAL:])]
    assert sorted((tmp_path / "0000").iterdir()) == sorted(store.files())


def test_a_trainer_goes_on_from_the_last_checkpoint_with_all_results_before_it(
    tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    straight = make_trainer(lr=0.05)
    expected = curve([result.to_mapping() for result in straight.epochs()])
    train(make_trainer(lr=0.05), CheckpointStore(tmp_path, "0000"), 3)
    resumed = make_trainer(lr=0.05)
    before = CheckpointStore(tmp_path, "0000").restore(resumed)
    assert curve(before) == expected[:3]
    assert curve([result.to_mapping() for result in resumed.epochs()]) == expected[3:]
    assert resumed.best == straight.best


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_checkpoint_is_passed_over(
    tmp_path: Path, make_trainer: MakeTrainer, damage: bytes | None
) -> None:
    store = CheckpointStore(tmp_path, "0000")
    files = train(make_trainer(), store, 3)
    last = tmp_path / files[-1]
    content = last.read_bytes()
    last.write_bytes(content[: len(content) // 2] if damage is None else damage)
    resumed = make_trainer()
    assert len(store.restore(resumed)) == 2
    assert resumed.epoch == 2


def test_with_all_checkpoints_damaged_a_trial_starts_anew(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    store = CheckpointStore(tmp_path, "0000")
    train(make_trainer(), store, 3)
    for path in store.files():
        path.write_bytes(b"gone")
    resumed = make_trainer()
    assert store.restore(resumed) == []
    assert resumed.epoch == 0


def test_a_checkpoint_of_another_configuration_is_an_error_and_not_a_silent_new_start(
    tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    store = CheckpointStore(tmp_path, "0000")
    train(make_trainer(lr=0.01), store, 2)
    with pytest.raises(CheckpointError, match="of another plan"):
        store.restore(make_trainer(lr=0.02))


def test_what_a_killed_worker_left_is_no_checkpoint(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    store = CheckpointStore(tmp_path, "0000")
    train(make_trainer(), store, 1)
    (tmp_path / "0000" / ".epoch-000002.pt.123.tmp").write_bytes(b"half")
    assert [path.name for path in store.files()] == ["epoch-000001.pt"]
    resumed = make_trainer()
    store.restore(resumed)
    assert resumed.epoch == 1


# Over the whole run


def test_ended_trials_keep_their_checkpoints_only_among_the_best(
    folder: RunFolder, make_record: Callable[..., RunRecord]
) -> None:
    best = [{"losses": [float(loss)]} for loss in range(KEEP_BEST_TRIALS + 2)]
    others = [
        {"losses": [-1.0], "status": Status.FAILED},
        {"losses": [float("nan")]},
        {"losses": [99.0], "status": Status.RUNNING},
        {"losses": [99.0], "status": Status.PENDING},
        {"losses": [99.0], "status": Status.INTERRUPTED},
    ]
    record = make_record([*best, *others])
    for trial_id in record.trials:
        (folder.checkpoints / trial_id).mkdir()
        (folder.checkpoints / trial_id / "epoch-000001.pt").touch()
    prune_checkpoints(folder, record)
    kept = sorted(int(path.name) for path in folder.checkpoints.iterdir())
    running, pending, interrupted = len(best) + 2, len(best) + 3, len(best) + 4
    assert kept == [*range(KEEP_BEST_TRIALS), running, pending, interrupted]
    prune_checkpoints(folder, record)
    assert sorted(int(path.name) for path in folder.checkpoints.iterdir()) == kept
