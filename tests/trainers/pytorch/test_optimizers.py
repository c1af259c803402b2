import re
from typing import get_args

import pytest
import torch
from torch import nn

from tune_jobs.trainers.errors import ModelError
from tune_jobs.trainers.pytorch.optimizers import build_optimizer
from tune_jobs.trainers.pytorch.settings import Hyperparameters, Optimizer
from tune_jobs.trainers.pytorch.trainer import Trainer

CPU = torch.device("cpu")


def group(**hyperparameters):
    optimizer = build_optimizer(nn.Linear(2, 1), Hyperparameters(**hyperparameters), CPU)
    return type(optimizer).__name__, optimizer.param_groups[0]


@pytest.mark.parametrize(
    ("hyperparameters", "name", "expected"),
    [
        (
            {"optimizer": "sgd", "momentum": 0.5, "nesterov": True, "weight_decay": 0.1},
            "SGD",
            {"momentum": 0.5, "nesterov": True, "weight_decay": 0.1, "dampening": 0, "fused": True},
        ),
        ({"optimizer": "sgd", "nesterov": True}, "SGD", {"momentum": 0.0, "nesterov": False}),
        (
            {"optimizer": "adam", "beta1": 0.8, "beta2": 0.9, "eps": 1e-5, "weight_decay": 0.1},
            "Adam",
            {"betas": (0.8, 0.9), "eps": 1e-5, "weight_decay": 0.1, "fused": True},
        ),
        ({"optimizer": "adamw", "weight_decay": 0.2}, "AdamW", {"weight_decay": 0.2, "betas": (0.9, 0.999)}),
        (
            {"optimizer": "rmsprop", "alpha": 0.5, "momentum": 0.1, "eps": 1e-4, "weight_decay": 0.1},
            "RMSprop",
            {"alpha": 0.5, "momentum": 0.1, "eps": 1e-4, "weight_decay": 0.1},
        ),
        (
            {"optimizer": "adagrad", "eps": 1e-4, "weight_decay": 0.1},
            "Adagrad",
            {"eps": 1e-4, "weight_decay": 0.1, "fused": True},
        ),
        (
            {"optimizer": "lbfgs", "max_iter": 3, "history_size": 4},
            "LBFGS",
            {"max_iter": 3, "history_size": 4},
        ),
    ],
)
def test_hyperparameters_reach_their_optimizer(hyperparameters, name, expected):
    found, settings = group(lr=0.3, **hyperparameters)
    assert found == name
    assert {key: settings[key] for key in ("lr", *expected)} == {"lr": 0.3, **expected}


def test_parameters_that_are_frozen_stay_so():
    model = nn.Sequential(nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 1))
    optimizer = build_optimizer(model, Hyperparameters(), CPU)
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(p) for p in model[1].parameters()]


def test_a_model_without_anything_to_train_is_an_error(make_plan, make_data, user_code):
    with pytest.raises(ModelError, match="the model has no parameter that can be trained"):
        Trainer(make_plan(model=f"{user_code}:frozen"), make_data(), threads=1)


@pytest.mark.parametrize("name", get_args(Optimizer))
def test_every_optimizer_lowers_the_loss(make_plan, make_data, name):
    plan = make_plan(optimizer=name, lr=0.05, arguments={"hidden": [8]}, training={"max_epochs": 10})
    results = list(Trainer(plan, make_data(rows=60), threads=1).epochs())
    assert results[-1].metrics["train_loss"] < 0.5 * results[0].metrics["train_loss"]


def own(name, arguments, **hyperparameters):
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    return build_optimizer(model, Hyperparameters(optimizer=name, **hyperparameters), CPU, arguments)


def test_an_optimizer_by_reference_gets_its_arguments_and_the_rate_and_decay_that_are_set(user_code):
    optimizer = own("torch.optim:NAdam", {"momentum_decay": 0.1, "betas": [0.8, 0.9]}, lr=0.3)
    (group,) = optimizer.param_groups
    assert isinstance(optimizer, torch.optim.NAdam)
    assert (group["lr"], group["momentum_decay"], group["betas"]) == (0.3, 0.1, [0.8, 0.9])
    assert own("torch.optim:Adadelta", {}).param_groups[0]["lr"] == 1.0, "its own default"
    assert own("torch.optim:AdamW", {}).param_groups[0]["weight_decay"] == 0.01, "its own default"
    assert own("torch.optim:AdamW", {}, weight_decay=0.0).param_groups[0]["weight_decay"] == 0.0
    groups = own(f"{user_code}:layerwise", {"factor": 0.25}, lr=0.4).param_groups
    assert [(group["lr"], len(group["params"])) for group in groups] == [(0.1, 1), (0.4, 3)]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "torch.optim:RAdam",
            {"beta": 0.5},
            "optimizer torch.optim:RAdam cannot be called with arguments ['beta']",
        ),
        (
            "torch.optim:RAdam",
            {"lr": -1.0},
            "could not be built with {'lr': -1.0}: ValueError: Invalid learning rate",
        ),
        ("torch.optim:LBFGS", {}, "use lbfgs, which is built in"),
        ("user_code:no_optimizer", {"lr": 1.0}, "returned a str; it must return a torch.optim.Optimizer"),
        (
            "adam",
            {"betas": [0.8, 0.9]},
            "optimizer.betas: only an optimizer by reference takes such arguments",
        ),
    ],
)
def test_optimizers_that_do_not_fit_say_why(user_code, name, arguments, message):
    with pytest.raises(ModelError, match=re.escape(message)):
        own(name, arguments)
