"""Saved and loaded after any epoch, a training goes on bit for bit; the same for all optimizers and schedules."""

import random
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from tune_jobs.trainers.errors import CheckpointError
from tune_jobs.trainers.pytorch.checkpoints import load_checkpoint, save_checkpoint
from tune_jobs.trainers.pytorch.settings import Optimizer, ScheduleName
from tune_jobs.trainers.pytorch.trainer import Trainer

MAX_EPOCHS = 4


def curve(results):
    return [
        {name: repr(value) for name, value in r.to_mapping().items() if name != "seconds"} for r in results
    ]


def weights(trainer):
    return {name: value.tolist() for name, value in trainer.model.state_dict().items()}


def train_in_two(plan, data, epochs, path):
    """Train some epochs, save, do something else in the process, load and train on."""
    first = Trainer(plan, data, threads=1)
    results = first.epochs()
    for _ in range(epochs):
        next(results)
    save_checkpoint(first.state_dict(), path)
    for _ in results:  # what is trained after the save must not reach the checkpoint
        pass
    torch.rand(3), np.random.random(3), random.random()
    second = Trainer(plan, data, threads=1)
    second.load_state_dict(load_checkpoint(path))
    assert second.epoch == epochs
    list(second.epochs())
    return second


def assert_resumes(plan, data, path, at):
    straight = Trainer(plan, data, threads=1)
    list(straight.epochs())
    resumed = train_in_two(plan, data, at, path)
    assert curve(resumed.history) == curve(straight.history)
    assert weights(resumed) == weights(straight)
    assert resumed.best == straight.best
    assert {k: v.tolist() for k, v in resumed.best_weights.items()} == {
        k: v.tolist() for k, v in straight.best_weights.items()
    }
    assert resumed.finished == straight.finished


@pytest.mark.parametrize("schedule", get_args(ScheduleName))
@pytest.mark.parametrize("optimizer", get_args(Optimizer))
def test_every_optimizer_with_every_schedule(make_data, make_plan, tmp_path, optimizer, schedule):
    plan = make_plan(
        "cross_entropy",
        metrics=["accuracy", "f1"],
        optimizer=optimizer,
        lr=0.05,
        momentum=0.5,
        nesterov=True,
        weight_decay=0.01,
        training={
            "schedule": {"name": schedule, "step_size": 1, "gamma": 0.5, "patience": 0},
            "early_stopping": {"patience": 3},
        },
    )
    assert_resumes(plan, make_data("classification"), tmp_path / "c.pt", at=2)


@pytest.mark.parametrize("at", range(MAX_EPOCHS + 1))
@pytest.mark.parametrize("batching", ["shuffle", "replacement", "sequential"])
def test_after_any_epoch_and_with_any_batching(make_data, make_plan, tmp_path, at, batching):
    plan = make_plan(
        "binary_cross_entropy",
        metrics=["accuracy"],
        arguments={"hidden": [4], "batch_norm": True, "dropout": 0.3},
        momentum=0.9,
        training={"batching": batching, "clip_grad_norm": 0.5, "schedule": {"name": "cosine"}},
    )
    assert_resumes(plan, make_data("binary"), tmp_path / "c.pt", at)


@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_model_that_draws_from_all_global_generators(make_data, make_plan, tmp_path, user_code, at):
    assert_resumes(make_plan(model=f"{user_code}:Noisy", lr=0.01), make_data(), tmp_path / "c.pt", at)


def test_early_stopping_counts_on_over_a_resume(make_data, make_plan, tmp_path):
    plan = make_plan(
        lr=1e-12, training={"max_epochs": 9, "early_stopping": {"patience": 3, "min_delta": 1.0}}
    )
    resumed = train_in_two(plan, make_data(), 2, tmp_path / "c.pt")
    assert (resumed.epoch, resumed.finished.name) == (4, "PATIENCE")


def test_the_caller_may_draw_random_numbers_between_epochs(make_data, make_plan, user_code):
    plan, data = make_plan(model=f"{user_code}:Noisy"), make_data()
    quiet = curve(Trainer(plan, data, threads=1).epochs())
    loud = []
    for result in Trainer(plan, data, threads=1).epochs():
        torch.manual_seed(5), np.random.seed(5), random.seed(5)
        loud.append(result)
    assert curve(loud) == quiet


def test_two_trainings_in_turns_are_as_each_alone(make_data, make_plan):
    data, plans = make_data(), [make_plan(seed=1), make_plan(seed=2)]
    alone = [curve(Trainer(plan, data, threads=1).epochs()) for plan in plans]
    pairs = list(zip(*(Trainer(plan, data, threads=1).epochs() for plan in plans), strict=True))
    assert [curve(results) for results in zip(*pairs, strict=True)] == alone
    assert alone[0] != alone[1]


SCRIPT = """
import sys, runpy
sys.path.insert(0, sys.argv[2])
c = runpy.run_path(sys.argv[1])
from tune_jobs.trainers.pytorch.trainer import Trainer
plan = c["_make_plan"]("cross_entropy", optimizer="adam", metrics=["f1"])
for result in Trainer(plan, c["_make_data"]("classification", rows=100), threads=1).epochs():
    print(*(repr(v) for k, v in result.to_mapping().items() if k != "seconds"))
"""


def test_a_used_process_gives_the_curve_of_a_fresh_one(make_data, make_plan):
    list(Trainer(make_plan(optimizer="lbfgs"), make_data(), threads=1).epochs())
    plan = make_plan("cross_entropy", optimizer="adam", metrics=["f1"])
    used = [
        list(row.values())
        for row in curve(Trainer(plan, make_data("classification", rows=100), threads=1).epochs())
    ]
    here = Path(__file__).parents
    command = [sys.executable, "-c", SCRIPT, here[1] / "conftest.py", here[3]]
    fresh = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert [line.split() for line in fresh.splitlines()] == used


def test_a_state_is_a_copy_that_training_does_not_change(make_data, make_plan):
    trainer = Trainer(make_plan(optimizer="adam"), make_data(), threads=1)
    results = trainer.epochs()
    next(results)
    state = trainer.state_dict()
    before = repr(state)
    list(results)
    assert repr(state) == before
    other = Trainer(make_plan(optimizer="adam"), make_data(), threads=1)
    other.load_state_dict(state)
    list(other.epochs())
    assert repr(state) == before


def test_a_checkpoint_of_another_plan_is_refused(make_data, make_plan):
    state = Trainer(make_plan(lr=0.1), make_data(), threads=1).state_dict()
    with pytest.raises(
        CheckpointError, match="of another plan: a setting, a hyperparameter or the seed differs"
    ):
        Trainer(make_plan(lr=0.2), make_data(), threads=1).load_state_dict(state)


def test_a_checkpoint_of_other_data_is_refused(make_data, make_plan):
    state = Trainer(make_plan(), make_data(rows=21), threads=1).state_dict()
    with pytest.raises(
        CheckpointError, match=r"made with other data: .*'training_rows': 21.*'training_rows': 20"
    ):
        Trainer(make_plan(), make_data(rows=20), threads=1).load_state_dict(state)


def test_a_checkpoint_that_is_not_whole_changes_nothing(make_data, make_plan):
    trainer = Trainer(make_plan(), make_data(), threads=1)
    state = trainer.state_dict()
    list(trainer.epochs())
    before = repr(trainer.state_dict())
    del state["random"]
    with pytest.raises(CheckpointError, match="the checkpoint lacks random"):
        trainer.load_state_dict(state)
    assert repr(trainer.state_dict()) == before
