import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_jobs.trainers.data import Rows, TrainingData
from tune_jobs.trainers.errors import ModelError
from tune_jobs.trainers.pytorch.explicit_gradients import explicit_gradients
from tune_jobs.trainers.pytorch.losses import build_loss
from tune_jobs.trainers.pytorch.models import build_model
from tune_jobs.trainers.pytorch.settings import ModelSettings
from tune_jobs.trainers.pytorch.trainer import Trainer

LOSSES = ["mse", "mae", "huber", "cross_entropy", "binary_cross_entropy"]
ACTIVATIONS = ["relu", "tanh", "gelu", "sigmoid"]


def draw_batch(loss, rows, shape, outputs):
    x = torch.randn(rows, *shape, dtype=torch.float64)
    if loss == "cross_entropy":
        return x, torch.randint(outputs, (rows,))
    y = 2 * torch.randn(rows, outputs, dtype=torch.float64)
    return x, y.sigmoid() if loss == "binary_cross_entropy" else y


def by_autograd(model, loss, x, y):
    model = copy.deepcopy(model)
    value = build_loss(loss)(model(x), y)
    return value.detach(), torch.autograd.grad(value, list(model.parameters()))


def assert_as_autograd(settings, loss, info, sizes):
    model = build_model(settings, info).double()
    explicit = explicit_gradients(settings, loss, model)
    tensors = [parameter.grad for parameter in model.parameters()]
    for size in sizes:
        x, y = draw_batch(loss, size, info.input_shape, info.outputs)
        x_before, y_before, random = x.clone(), y.clone(), torch.get_rng_state()
        value, gradients = by_autograd(model, loss, x, y)
        after = torch.get_rng_state()
        torch.set_rng_state(random)
        with torch.no_grad():
            got = explicit(x, y)
        torch.testing.assert_close(got, value, rtol=1e-12, atol=1e-14)
        for parameter, expected, tensor in zip(model.parameters(), gradients, tensors, strict=True):
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-10, atol=1e-13)
            assert parameter.grad is tensor
        assert torch.equal(torch.get_rng_state(), after)
        assert torch.equal(x, x_before)
        assert torch.equal(y, y_before)


@settings(max_examples=60, deadline=None)
@given(
    hidden=st.lists(st.integers(1, 9), max_size=3),
    activation=st.sampled_from(ACTIVATIONS),
    dropout=st.sampled_from([0.0, 0.4]),
    loss=st.sampled_from(LOSSES),
    shape=st.sampled_from([(1,), (6,), (2, 3, 2)]),
    outputs=st.integers(1, 5),
    sizes=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    seed=st.integers(0, 2**32),
)
def test_losses_gradients_and_random_draws_are_those_of_autograd(
    hidden, activation, dropout, loss, shape, outputs, sizes, seed
):
    torch.manual_seed(seed)
    arguments = {"hidden": hidden, "activation": activation, "dropout": dropout}
    model = ModelSettings(name="mlp", arguments=arguments)
    # The first size again: the batches between must leave nothing behind.
    assert_as_autograd(model, loss, Info(shape, outputs), [*sizes, sizes[0]])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_of_a_linear_model_too(loss, bias):
    torch.manual_seed(0)
    model = ModelSettings(name="linear", arguments={"bias": bias})
    assert_as_autograd(model, loss, Info((4,), 3), [8, 3])


class Info:
    """Return the parts of a DataInfo that a model needs."""

    def __init__(self, input_shape, outputs):
        self.input_shape, self.outputs = input_shape, outputs


@pytest.mark.parametrize(
    ("name", "arguments", "shape", "loss"),
    [
        ("mlp", {"batch_norm": True}, (4,), "mse"),
        ("cnn", {}, (1, 4, 4), "mse"),
        ("{user_code}:net", {"width": 3}, (4,), "mse"),
        ("mlp", {}, (4,), "{user_code}:half_mse"),
    ],
)
def test_other_models_and_losses_stay_with_autograd(user_code, name, arguments, shape, loss):
    model = ModelSettings(name=name.format(user_code=user_code), arguments=arguments)
    built = build_model(model, Info(shape, 1))
    assert explicit_gradients(model, loss.format(user_code=user_code), built) is None


@pytest.mark.parametrize(
    ("loss", "kind"),
    [("mse", "regression"), ("cross_entropy", "classification"), ("binary_cross_entropy", "binary")],
)
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop", "lbfgs"])
@pytest.mark.parametrize("batch_size", [8, "full"])
def test_a_training_is_that_of_autograd(make_plan, make_data, monkeypatch, loss, kind, optimizer, batch_size):
    plan = make_plan(
        loss,
        arguments={"hidden": [5, 4], "dropout": 0.2},
        optimizer=optimizer,
        batch_size=batch_size,
        lr=0.01,
        weight_decay=0.1,
        training={"clip_grad_norm": 0.5},
    )
    data = make_data(kind)
    written = [
        (r.metrics["train_loss"], r.metrics["val_loss"]) for r in Trainer(plan, data, threads=1).epochs()
    ]
    monkeypatch.setattr("tune_jobs.trainers.pytorch.gradients.explicit_gradients", lambda *_: None)
    recorded = [
        (r.metrics["train_loss"], r.metrics["val_loss"]) for r in Trainer(plan, data, threads=1).epochs()
    ]
    assert np.array(written) == pytest.approx(np.array(recorded), rel=1e-4)


def test_targets_of_another_shape_are_not_broadcast(make_plan, make_data):
    data = make_data()
    rows = Rows(data.train.x, np.repeat(data.train.y, 2, axis=1))
    with pytest.raises(ModelError, match=r"got outputs \[8, 1\] and targets \[8, 2\]"):
        next(Trainer(make_plan(), TrainingData(rows, data.validation, data.info), threads=1).epochs())


@pytest.mark.parametrize("batch_size", [8, "full"])
def test_rows_in_read_only_memory_are_trained_on_and_left_alone(make_plan, make_data, batch_size):
    data = make_data()
    arrays = [data.train.x, data.train.y]
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    plan = make_plan(batch_size=batch_size)
    read_only = [r.metrics["train_loss"] for r in Trainer(plan, data, threads=1).epochs()]
    assert all(np.array_equal(array, copy) for array, copy in zip(arrays, before, strict=True))
    assert [r.metrics["train_loss"] for r in Trainer(plan, make_data(), threads=1).epochs()] == read_only
