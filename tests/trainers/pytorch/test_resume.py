"""Saved and loaded after any epoch, a training continues bit for bit, with all optimizers and schedules."""

import random
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from tune_jobs.trainers.errors import CheckpointError
from tune_jobs.trainers.interface import StopReason
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
    """Train some epochs, save, do something else, load and train to the end. Return all results and the trainer."""
    first = Trainer(plan, data, threads=1)
    results = first.epochs()
    before = [next(results) for _ in range(epochs)]
    with path.open("wb") as file:
        assert first.save(file)
    for _ in results:  # training after the save must not change the checkpoint
        pass
    torch.rand(3), np.random.random(3), random.random()
    second = Trainer(plan, data, threads=1)
    with path.open("rb") as file:
        second.load(file)
    assert second.epoch == epochs
    return [*before, *second.epochs()], second


def assert_resumes(plan, data, path, at):
    straight = Trainer(plan, data, threads=1)
    expected = curve(straight.epochs())
    results, resumed = train_in_two(plan, data, at, path)
    assert curve(results) == expected
    assert weights(resumed) == weights(straight)
    assert resumed.best == straight.best
    assert {k: v.tolist() for k, v in resumed.best_weights.items()} == {
        k: v.tolist() for k, v in straight.best_weights.items()
    }
    assert resumed.stop_reason == straight.stop_reason


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
    _, resumed = train_in_two(plan, make_data(), 2, tmp_path / "c.pt")
    assert (resumed.epoch, resumed.stop_reason) == (4, StopReason.PATIENCE)


@pytest.mark.parametrize(
    ("optimizer", "arguments", "schedule"),
    [
        ("torch.optim:RAdam", {"betas": [0.8, 0.9]}, {"name": "constant"}),
        (
            "torch.optim:NAdam",
            {},
            {"name": "torch.optim.lr_scheduler:MultiStepLR", "arguments": {"milestones": [1, 3]}},
        ),
        ("user_code:layerwise", {}, {"name": "user_code:warm_up", "every": "batch"}),
        ("torch.optim:Adadelta", {}, {"name": "one_cycle"}),
    ],
)
def test_optimizers_and_schedules_by_reference_resume(
    make_data, make_plan, user_code, tmp_path, optimizer, arguments, schedule
):
    plan = make_plan(
        optimizer=optimizer,
        lr=0.02,
        training={"schedule": schedule},
        changes={"optimizer_arguments": arguments},
    )
    for at in (1, 2, 3):
        assert_resumes(plan, make_data(), tmp_path / "c.pt", at)


def test_the_caller_may_draw_random_numbers_between_epochs(make_data, make_plan, user_code):
    plan, data = make_plan(model=f"{user_code}:Noisy"), make_data()
    quiet = curve(Trainer(plan, data, threads=1).epochs())
    loud = []
    for result in Trainer(plan, data, threads=1).epochs():
        torch.manual_seed(5), np.random.seed(5), random.seed(5)
        loud.append(result)
    assert curve(loud) == quiet


LAVISH = """
import random
import numpy as np
import torch
from torch import nn

OFFSET = torch.randn(4) + random.random() + float(np.random.normal())
torch.set_num_threads(2)

class Shifted(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.linear = nn.Linear(4, outputs)
    def forward(self, x):
        return self.linear(x + OFFSET)
"""


def test_a_module_that_draws_when_it_is_imported_changes_nothing_in_a_process_that_has_imported_it(
    make_data, make_plan, tmp_path, monkeypatch
):
    """Its constants are those of every process, and so is the first epoch after it."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "lavish_module.py").write_text(LAVISH)
    plan, data = make_plan(model="lavish_module:Shifted"), make_data()
    first = Trainer(plan, data, threads=1)
    assert torch.get_num_threads() == 1
    curves = [curve(first.epochs()), curve(Trainer(plan, data, threads=1).epochs())]
    torch.manual_seed(5), np.random.seed(5), random.seed(5)  # another process, which has drawn before
    sys.modules.pop("lavish_module")
    resumed, _ = train_in_two(plan, data, 2, tmp_path / "c.pt")
    sys.modules.pop("lavish_module")
    assert [*curves, curve(resumed)] == [curves[0]] * 3


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


@pytest.mark.slow
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


# Another configuration's state


def trained(plan, data, epochs):
    trainer = Trainer(plan, data, threads=1)
    results = trainer.epochs()
    for _ in range(epochs):
        next(results)
    return trainer


@pytest.mark.parametrize("optimizer", get_args(Optimizer))
def test_an_inherited_state_of_the_same_plan_is_continued_like_a_loaded_one(make_data, make_plan, optimizer):
    plan, data = make_plan(optimizer=optimizer, lr=0.01), make_data()
    state = trained(plan, data, 2).state_dict()
    loaded, inherited = Trainer(plan, data, threads=1), Trainer(plan, data, threads=1)
    loaded.load_state_dict(state)
    inherited.load_state_dict(state, inherit=True)
    assert inherited.epoch == 2
    assert weights(inherited) == weights(loaded)
    if optimizer != "lbfgs":  # its memory is cut to the length of its own history
        assert curve(inherited.epochs()) == curve(loaded.epochs())


def test_an_heir_has_the_weights_and_the_memory_of_another_configuration_and_its_own_rate(
    make_data, make_plan, tmp_path
):
    def heir(lr, momentum):
        plan = make_plan(lr=lr, momentum=momentum, arguments={"hidden": [5]})
        trainer = Trainer(plan, make_data(), threads=1)
        with (tmp_path / "c.pt").open("rb") as file:
            trainer.load(file, inherit=True)
        return trainer

    donor = trained(make_plan(lr=0.1, momentum=0.9, arguments={"hidden": [5]}), make_data(), 2)
    with (tmp_path / "c.pt").open("wb") as file:
        donor.save(file)
    children = [heir(0.001, 0.9), heir(0.1, 0.9), heir(0.001, 0.0)]
    assert all(weights(child) == weights(donor) for child in children)
    slow, same, forgetful = [list(child.epochs()) for child in children]
    assert [result.metrics["lr"] for result in slow] == [0.001] * 2
    assert [result.epoch for result in slow] == [3, 4]
    assert curve(same) == curve(donor.epochs())
    assert curve(forgetful) != curve(slow), "the memory of the donor moves the weights on"
    assert children[0].stop_reason is StopReason.MAX_EPOCHS


@pytest.mark.parametrize("schedule", ["step", "exponential", "cosine", "one_cycle"])
def test_the_schedule_of_an_heir_is_as_far_as_that_of_its_own_training(make_data, make_plan, schedule):
    def plan(lr):
        return make_plan(lr=lr, training={"schedule": {"name": schedule, "step_size": 1}})

    own = [result.metrics["lr"] for result in Trainer(plan(0.02), make_data(), threads=1).epochs()]
    heir = Trainer(plan(0.02), make_data(), threads=1)
    heir.load_state_dict(trained(plan(0.1), make_data(), 2).state_dict(), inherit=True)
    assert [result.metrics["lr"] for result in heir.epochs()] == own[2:]


@pytest.mark.parametrize("optimizer", get_args(Optimizer))
def test_an_heir_may_have_another_optimizer(make_data, make_plan, optimizer):
    donor = trained(make_plan(optimizer="rmsprop", momentum=0.9, lr=0.001), make_data(), 1)
    heir = Trainer(make_plan(optimizer=optimizer, lr=0.001), make_data(), threads=1)
    heir.load_state_dict(donor.state_dict(), inherit=True)
    assert [result.epoch for result in heir.epochs()] == [2, 3, 4]


def test_an_heir_of_another_form_is_refused(make_data, make_plan):
    state = trained(make_plan(arguments={"hidden": [5]}), make_data(), 1).state_dict()
    with pytest.raises(CheckpointError, match=r"cannot be loaded \(.*size mismatch"):
        Trainer(make_plan(arguments={"hidden": [6]}), make_data(), threads=1).load_state_dict(
            state, inherit=True
        )
