"""L-BFGS lowers the loss on every processor, at every scale of the data, and leaves the traces of one evaluation."""

import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from tune_jobs.trainers.data import Rows
from tune_jobs.trainers.pytorch.evaluation import evaluate
from tune_jobs.trainers.pytorch.lbfgs import LBFGS
from tune_jobs.trainers.pytorch.trainer import Trainer

KERNELS = ["default", "avx2", "avx512"]
"""Values of ATEN_CPU_CAPABILITY. Each includes those before it."""

SCALES = [(1, 1), (1e4, 1e4), (1e-2, 1e-2), (1, 1e-4), (1e6, 1)]
"""Factors of inputs and targets."""


def scaled(data, of_inputs, of_targets):
    def change(rows):
        return Rows((rows.x * of_inputs).astype(np.float32), (rows.y * of_targets).astype(np.float32))

    return replace(data, train=change(data.train), validation=change(data.validation))


def loss_of(trainer):
    return evaluate(trainer.model, trainer._train_rows, trainer._loss, {}).loss


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("lr", [0.05, 1.0, 10.0])
@pytest.mark.parametrize("batch_size", ["full", 8])
@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_the_loss_is_lower_afterwards(make_data, make_plan, scale, batch_size, lr, seed):
    """torch.optim.LBFGS raises the loss in half of these cases, a different half on each processor."""
    plan = make_plan(
        optimizer="lbfgs",
        lr=lr,
        batch_size=batch_size,
        arguments={"hidden": [8]},
        seed=seed,
        training={"max_epochs": 3},
    )
    trainer = Trainer(plan, scaled(make_data(rows=32, seed=seed), *scale), threads=1)
    before = loss_of(trainer)
    results = list(trainer.epochs())
    assert loss_of(trainer) < before
    if batch_size == "full":  # up to rounding: the order of the rows changes
        assert all(
            later.metrics["train_loss"] <= earlier.metrics["train_loss"] * (1 + 1e-6)
            for earlier, later in pairwise(results)
        )


@pytest.mark.slow
@pytest.mark.parametrize("kernels", KERNELS)
def test_on_all_kernels_of_the_processor(kernels):
    """Kernels round differently, so an optimizer may lower a loss on one processor and raise it on another."""
    native = torch.backends.cpu.get_cpu_capability().lower()
    if native not in KERNELS or KERNELS.index(kernels) > KERNELS.index(native):
        pytest.skip(f"the processor has no {kernels}; it has {native}")
    if kernels == native:
        pytest.skip("the tests of this process run on these kernels")
    files = [__file__, __file__.replace("test_lbfgs", "test_optimizers")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", *files]
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": kernels}
    environment.pop("PYTEST_ADDOPTS", None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def minimise(function, start, *, calls=1, lr=1.0, max_iter=50):
    """Return the point that L-BFGS reaches from `start`, and all the points that it tried."""
    weights = nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = LBFGS([weights], lr=lr, max_iter=max_iter, history_size=10)
    tried = []

    def closure():
        tried.append(weights.detach().tolist())
        weights.grad = None
        loss = function(weights)
        loss.backward()
        return float(loss.detach())

    for _ in range(calls):
        optimizer.step(closure)
    return weights.detach().tolist(), tried


def test_a_curved_valley_is_followed_to_its_end():
    found, _ = minimise(lambda w: (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2, [-1.2, 1.0], calls=3)
    assert found == pytest.approx([1.0, 1.0], abs=1e-6)


@pytest.mark.parametrize("outside", [float("nan"), float("inf"), -float("inf")])
def test_a_step_to_a_loss_that_is_no_number_is_shortened(outside):
    def function(w):
        return (w - w.log()).sum() if (w > 0).all() else w.sum() * 0 + outside

    found, tried = minimise(function, [20.0], lr=100.0, calls=2)
    assert found == pytest.approx([1.0], abs=1e-6)
    assert any(w[0] <= 0 for w in tried)
    assert found[0] > 0


def test_the_rate_is_the_longest_step():
    _, tried = minimise(lambda w: w.square().sum(), [3.0], lr=0.125, max_iter=2)
    # The first step is the gradient, cut to 1. Then the curvature is known, and the whole step leads to 0.
    assert tried == [[3.0], [2.875], [pytest.approx(2.875 - 0.125 * 2.875)]]


def test_at_the_lowest_point_the_weights_stay():
    assert minimise(lambda w: w.square().sum(), [0.0, 0.0])[0] == [0.0, 0.0]


def test_a_step_leaves_the_traces_of_one_evaluation(make_data, make_plan):
    """All 20 evaluations on a batch draw the same random numbers, and only one changes the running means."""
    arguments = {"hidden": [8], "batch_norm": True, "dropout": 0.5}
    one_epoch = {"max_epochs": 1}
    plan = make_plan(optimizer="lbfgs", lr=1.0, batch_size="full", arguments=arguments, training=one_epoch)
    trainers = [
        Trainer(
            plan.model_copy(
                update={"hyperparameters": plan.hyperparameters.model_copy(update={"max_iter": most})}
            ),
            make_data(),
            threads=1,
        )
        for most in (1, 20)
    ]
    for trainer in trainers:
        list(trainer.epochs())
    few, many = (dict(trainer.model.named_buffers()) for trainer in trainers)
    assert few
    assert all(torch.equal(few[name], many[name]) for name in few)
    assert int(few["1.num_batches_tracked"]) == 1
    assert torch.equal(trainers[0]._random["torch"], trainers[1]._random["torch"])
    assert not torch.equal(*(next(trainer.model.parameters()) for trainer in trainers))


def test_weight_decay_is_part_of_what_is_lowered(make_data, make_plan):
    """Ridge regression: the gradient of loss and decay together is 0 at the end."""
    plan = make_plan(
        model="linear",
        arguments={"bias": False},
        optimizer="lbfgs",
        lr=1.0,
        batch_size="full",
        weight_decay=0.5,
        training={"max_epochs": 5},
    )
    data = make_data()
    trainer = Trainer(plan, data, threads=1)
    list(trainer.epochs())
    x, y = data.train.x.astype(float), data.train.y.astype(float)
    expected = np.linalg.solve(2 * x.T @ x / len(x) + 0.5 * np.eye(x.shape[1]), 2 * x.T @ y / len(x))
    assert trainer.model[0].weight.flatten().tolist() == pytest.approx(expected.flatten(), abs=1e-3)


def test_a_saved_training_continues_with_its_curvature(make_data, make_plan):
    plan, data = make_plan(optimizer="lbfgs", lr=0.3, training={"max_epochs": 6}), make_data()
    straight, first, second = (Trainer(plan, data, threads=1) for _ in range(3))
    epochs = first.epochs()
    next(epochs), next(epochs)
    second.load_state_dict(first.state_dict())
    losses = [
        [result.metrics["val_loss"] for result in trainer.epochs()][-4:] for trainer in (straight, second)
    ]
    assert losses[0] == losses[1]
