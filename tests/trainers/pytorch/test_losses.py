import math
import re

import pytest
import torch

from tune_jobs.trainers.errors import ModelError, ReferenceNotFound
from tune_jobs.trainers.pytorch.losses import build_loss


@pytest.mark.parametrize(
    ("name", "outputs", "targets", "expected"),
    [
        ("mse", [[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]], (1 + 4 + 9 + 16) / 4),
        ("mae", [[1.0], [-3.0]], [[0.0], [0.0]], 2.0),
        ("huber", [[0.5], [3.0]], [[0.0], [0.0]], (0.5 * 0.25 + (3 - 0.5)) / 2),
        ("cross_entropy", [[0.0, 0.0], [math.log(3), 0.0]], [0, 1], (math.log(2) + math.log(4)) / 2),
        ("binary_cross_entropy", [[0.0], [math.log(3)]], [[1.0], [1.0]], (math.log(2) + math.log(4 / 3)) / 2),
    ],
)
def test_losses_are_means_over_samples(name, outputs, targets, expected):
    loss = build_loss(name)(torch.tensor(outputs), torch.tensor(targets))
    assert loss.ndim == 0
    assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["mse", "mae", "huber", "binary_cross_entropy"])
@pytest.mark.parametrize(
    ("outputs", "targets"), [((4, 1), (4,)), ((4,), (4, 1)), ((4, 2), (4, 1)), ((4, 1), (1, 1))]
)
def test_shapes_are_never_broadcast(name, outputs, targets):
    with pytest.raises(ModelError) as error:
        build_loss(name)(torch.zeros(outputs), torch.zeros(targets))
    assert str(error.value) == (
        f"loss {name} needs outputs and targets of one shape, and got outputs {list(outputs)} and targets "
        f"{list(targets)}; change what the model returns"
    )


@pytest.mark.parametrize(
    ("outputs", "targets"), [((4,), (4,)), ((4, 3), (4, 1)), ((4, 3), (5,)), ((4, 3, 2), (4, 2))]
)
def test_cross_entropy_takes_one_class_a_row(outputs, targets):
    with pytest.raises(ModelError, match=r"needs outputs \[n, classes\] and targets \[n\], and got outputs"):
        build_loss("cross_entropy")(torch.zeros(outputs), torch.zeros(targets, dtype=torch.int64))


def test_a_loss_function_of_the_user(user_code):
    loss = build_loss(f"{user_code}:half_mse")
    assert loss(torch.tensor([[2.0], [0.0]]), torch.zeros(2, 1)).item() == 1.0


@pytest.mark.parametrize(
    ("function", "got"),
    [("per_row", r"a tensor of shape \[2, 1\]"), ("destructive", "a int"), ("wordy", "a str")],
)
def test_a_function_must_return_a_scalar(user_code, function, got):
    with pytest.raises(
        ModelError, match=rf"loss user_code:{function} returned {got}; it must return a scalar tensor"
    ):
        build_loss(f"{user_code}:{function}")(torch.zeros(2, 1), torch.zeros(2, 1))


@pytest.mark.parametrize(
    ("body", "got"),
    [
        ("outputs.mean().long()", "a tensor of int64"),
        ("outputs.mean() > 0", "a tensor of bool"),
        ("torch.complex(outputs.mean(), outputs.mean())", "a tensor of complex64"),
        ("outputs.mean().detach()", "a tensor without a gradient"),
    ],
)
def test_a_function_must_return_a_number_with_a_gradient(tmp_path, monkeypatch, body, got):
    (tmp_path / "odd_losses.py").write_text(f"import torch\ndef loss(outputs, targets):\n    return {body}\n")
    monkeypatch.syspath_prepend(tmp_path)
    loss = build_loss("odd_losses:loss")
    with pytest.raises(
        ModelError, match=f"loss odd_losses:loss returned {got}; it must return a scalar tensor of"
    ):
        loss(torch.zeros(2, 1, requires_grad=True), torch.zeros(2, 1))


def test_a_loss_needs_no_gradient_in_validation(user_code):
    with torch.inference_mode():
        assert build_loss(f"{user_code}:half_mse")(torch.ones(2, 1), torch.zeros(2, 1)) == 0.5


def test_a_missing_function_is_an_error(user_code):
    with pytest.raises(ReferenceNotFound, match="half_mse"):
        build_loss(f"{user_code}:half_mes")


def test_losses_take_arguments(user_code):
    outputs, targets = torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [1.0]])
    assert build_loss(f"{user_code}:smoothed", {"smoothing": 0.5, "power": 1})(outputs, targets) == 0.75
    assert build_loss(f"{user_code}:Weighted", {"weight": 2.0})(outputs, targets) == 5.0
    assert build_loss(f"{user_code}:Weighted")(outputs, targets) == 2.5
    assert build_loss("torch.nn:SmoothL1Loss", {"beta": 2.0})(outputs, targets) == pytest.approx(0.625)
    assert build_loss("huber", {"delta": 0.5})(outputs, targets) == pytest.approx(0.625)
    logits, classes = torch.tensor([[2.0, 0.0]]), torch.tensor([1])
    smooth = build_loss("cross_entropy", {"label_smoothing": 0.5})(logits, classes)
    assert smooth == torch.nn.functional.cross_entropy(logits, classes, label_smoothing=0.5)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "smoothed",
            {},
            "loss user_code:smoothed cannot be called with arguments []: missing a required argument",
        ),
        ("smoothed", {"smooth": 1}, "cannot be called with arguments ['smooth']"),
        ("Weighted", {"weights": 1}, "loss user_code:Weighted cannot be called with arguments ['weights']"),
    ],
)
def test_arguments_that_a_loss_does_not_take_are_named(user_code, name, arguments, message):
    with pytest.raises(ModelError, match=re.escape(message)):
        build_loss(f"{user_code}:{name}", arguments)
