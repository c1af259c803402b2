import copy
import gc
import weakref

import pytest
import torch
from torch import nn

from tune_jobs.trainers.pytorch.fused_updates import FusedUpdate
from tune_jobs.trainers.pytorch.optimizers import build_optimizer
from tune_jobs.trainers.pytorch.settings import Hyperparameters

CPU = torch.device("cpu")
STEPS = 20

FUSED = [
    {"optimizer": "sgd"},
    {"optimizer": "sgd", "weight_decay": 0.1},
    {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.1},
    {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    {"optimizer": "adam"},
    {"optimizer": "adam", "beta1": 0.8, "beta2": 0.95, "eps": 1e-4, "weight_decay": 0.1},
    {"optimizer": "adamw", "weight_decay": 0.1},
    {"optimizer": "adagrad", "weight_decay": 0.1},
]
OTHERS = [{"optimizer": "rmsprop", "momentum": 0.5, "weight_decay": 0.1}]


class Side:
    """A network, its optimizer and its update, with a count of ordinary steps of the optimizer."""

    def __init__(self, hyperparameters, *, fused, net=None):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3)) if net is None else copy.deepcopy(net)
        self.optimizer = build_optimizer(self.model, Hyperparameters(lr=0.1, **hyperparameters), CPU)
        self.update = FusedUpdate(self.optimizer) if fused else self.optimizer.step
        self.ordinary = 0
        self.optimizer.register_step_pre_hook(self.count)

    def count(self, *_):
        self.ordinary += 1

    def step(self, number, missing=()):
        generator = torch.Generator().manual_seed(number)
        for place, parameter in enumerate(self.model.parameters()):
            drawn = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.grad = None if place in missing else drawn
        self.optimizer.param_groups[0]["lr"] = 0.1 / (1 + number % 5)
        with torch.no_grad():
            self.update()


def assert_same(one, other):
    for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a, b)
    states = one.optimizer.state_dict()["state"], other.optimizer.state_dict()["state"]
    assert states[0].keys() == states[1].keys()
    for place, values in states[0].items():
        assert values.keys() == states[1][place].keys()
        assert all(torch.equal(value, states[1][place][name]) for name, value in values.items())


@pytest.mark.parametrize("hyperparameters", FUSED + OTHERS, ids=str)
def test_every_step_is_that_of_the_optimizer_bit_for_bit(hyperparameters):
    fused, ordinary = Side(hyperparameters, fused=True), Side(hyperparameters, fused=False)
    for number in range(STEPS):
        fused.step(number)
        ordinary.step(number)
        assert_same(fused, ordinary)


@pytest.mark.parametrize(
    ("hyperparameters", "steps"),
    [(h, 1) for h in FUSED] + [(h, STEPS) for h in OTHERS],
    ids=str,
)
def test_after_the_first_step_the_kernel_is_called_if_there_is_one(hyperparameters, steps):
    side = Side(hyperparameters, fused=True)
    for number in range(STEPS):
        side.step(number)
    assert side.ordinary == steps


@pytest.mark.parametrize("hyperparameters", FUSED + OTHERS, ids=str)
@pytest.mark.parametrize("anew", [False, True])
def test_a_loaded_state_is_continued(hyperparameters, anew):
    fused, ordinary = Side(hyperparameters, fused=True), Side(hyperparameters, fused=False)
    for number in range(3):
        fused.step(number)
        ordinary.step(number)
    weights = copy.deepcopy(fused.model.state_dict())
    saved = copy.deepcopy(fused.optimizer.state_dict())
    for number in range(10, 15):
        fused.step(number)
    if anew:
        fused = Side(hyperparameters, fused=True)
    fused.model.load_state_dict(weights)
    fused.optimizer.load_state_dict(saved)
    for number in range(3, STEPS):
        fused.step(number)
        ordinary.step(number)
        assert_same(fused, ordinary)


@pytest.mark.parametrize("hyperparameters", [h for h in FUSED if not h.get("momentum")], ids=str)
def test_parameters_without_a_gradient_are_left_alone_as_by_the_optimizer(hyperparameters):
    fused, ordinary = Side(hyperparameters, fused=True), Side(hyperparameters, fused=False)
    for number in range(STEPS):
        missing = {0: (1,), 1: (1, 2), 7: (0,), 8: (0, 1, 2, 3)}.get(number, ())
        fused.step(number, missing)
        ordinary.step(number, missing)
        assert_same(fused, ordinary)


def test_parameters_of_several_types_stay_with_the_optimizer():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1).double())
    fused, ordinary = (Side({"optimizer": "adam"}, fused=f, net=net) for f in (True, False))
    for number in range(STEPS):
        fused.step(number)
        ordinary.step(number)
    assert_same(fused, ordinary)
    assert fused.ordinary == STEPS


def test_it_does_not_keep_the_optimizer_alive():
    optimizer = build_optimizer(nn.Linear(2, 1), Hyperparameters(), CPU)
    kept, update = weakref.ref(optimizer), FusedUpdate(optimizer)
    gc.disable()
    try:
        del optimizer, update
        assert kept() is None
    finally:
        gc.enable()
