import random
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tune_jobs.trainers.errors import ModelError
from tune_jobs.trainers.pytorch.models import build_model, linear_weights, try_model
from tune_jobs.trainers.pytorch.settings import ModelSettings


def build(info, name, **arguments):
    model = build_model(ModelSettings(name=name, arguments=arguments), info)
    try_model(
        model, name, torch.randn(5, *info.input_shape, generator=torch.Generator().manual_seed(0)), info
    )
    return model


def layers(model):
    return [type(module).__name__ for module in model.modules() if not list(module.children())]


@pytest.mark.parametrize(
    ("name", "arguments", "shape", "expected"),
    [
        ("linear", {}, (4,), ["Linear"]),
        ("linear", {}, (1, 4, 4), ["Flatten", "Linear"]),
        ("mlp", {"hidden": []}, (4,), ["Linear"]),
        (
            "mlp",
            {"hidden": [3, 2], "activation": "tanh", "dropout": 0.1, "batch_norm": True},
            (2, 2),
            ["Flatten", *["Linear", "BatchNorm1d", "Tanh", "Dropout"] * 2, "Linear"],
        ),
        (
            "cnn",
            {"channels": [2, 3], "dropout": 0.1},
            (3, 5, 7),
            [*["Conv2d", "ReLU", "MaxPool2d"] * 2, "Flatten", "Linear", "ReLU", "Dropout", "Linear"],
        ),
        (
            "cnn",
            {"channels": [2], "pool": 1},
            (1, 1, 1),
            ["Conv2d", "ReLU", "Flatten", "Linear", "ReLU", "Linear"],
        ),
    ],
)
def test_built_in_models_have_their_layers_and_fit_the_data(make_info, name, arguments, shape, expected):
    model = build(make_info("classification", shape), name, **arguments)
    assert layers(model) == expected
    assert model.training
    assert model(torch.zeros(2, *shape)).shape == (2, 3)


def test_arguments_set_widths(make_info):
    model = build(make_info("regression", (4,)), "mlp", hidden=[7, 5])
    assert [tuple(m.weight.shape) for m in model if isinstance(m, nn.Linear)] == [(7, 4), (5, 7), (1, 5)]
    assert build(make_info("regression", (4,)), "linear", bias=False)[0].bias is None


@pytest.mark.parametrize(
    ("name", "arguments", "shape", "message"),
    [
        (
            "cnn",
            {},
            (64,),
            "model cnn needs images [channels, height, width], and a row of the data has shape [64]",
        ),
        (
            "cnn",
            {"channels": [4, 4, 4]},
            (1, 7, 9),
            "an image of 7 x 9 is too small to be pooled by 2 after each of 3 convolutions",
        ),
        ("mlp", {"widht": 3}, (4,), "model mlp has no argument 'widht'; it takes hidden"),
        *(
            (
                "mlp",
                {"hidden": [width]},
                (4,),
                f"model mlp of {{'hidden': [{width}]}} for rows of shape [4] does not fit into memory; choose smaller",
            )
            for width in (10**18, 10**400)
        ),
    ],
)
def test_models_that_do_not_fit_say_why(make_info, name, arguments, shape, message):
    with pytest.raises(ModelError, match=re.escape(message)):
        build(make_info("classification", shape), name, **arguments)


def test_a_function_gets_what_its_signature_names(make_info, user_code):
    model = build(make_info("classification", (4,)), f"{user_code}:net", width=6)
    assert [tuple(layer.weight.shape) for layer in model] == [(6, 4), (3, 6)]
    model = build(make_info("classification", (4,)), "torch.nn:Linear", in_features=4, out_features=3)
    assert isinstance(model, nn.Linear)


def test_arguments_go_before_what_is_known_of_the_data(make_info, user_code):
    with pytest.raises(ModelError, match=r"into an output of shape \[2, 9\]"):
        build(make_info("classification", (4,)), f"{user_code}:net", width=6, outputs=9)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("no_module", {}, "model user_code:no_module returned a str; it must return a torch.nn.Module"),
        (
            "raises",
            {},
            "model user_code:raises could not be built with {'outputs': 3}: RuntimeError: out of ideas",
        ),
        (
            "net",
            {"widht": 6},
            "model user_code:net cannot be called with arguments ['input_shape', 'outputs', 'widht']: missing a "
            "required argument: 'width'; its signature is (width, input_shape, outputs)",
        ),
        (
            "failing",
            {},
            "model user_code:failing fails on the first two training rows, an input of shape [2, 4]: RuntimeError: ",
        ),
        (
            "flat",
            {},
            "model user_code:flat turned an input of shape [2, 4] into an output of shape [2]; the data and the loss "
            "need [2, 3]",
        ),
    ],
)
def test_functions_that_do_not_fit_say_why(make_info, user_code, function, arguments, message):
    with pytest.raises(ModelError, match=re.escape(message)):
        build(make_info("classification", (4,)), f"{user_code}:{function}", **arguments)


def test_trying_a_model_out_draws_no_random_numbers_and_leaves_it_as_it_is(make_info, user_code):
    def draw():
        return torch.rand(1).item(), np.random.random(), random.random()

    def seed():
        torch.manual_seed(0), np.random.seed(0), random.seed(0)

    seed()
    nn.Linear(4, 3)
    expected = draw()
    seed()
    model = build(make_info("classification", (4,)), f"{user_code}:Restless")
    assert draw() == expected
    assert not model.training
    model = build(make_info("classification", (4,)), "mlp", batch_norm=True)
    assert int(model[1].num_batches_tracked) == 0


SEQUENCES = """
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

class Packing(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.recurrent, self.linear = nn.GRU(1, 3, batch_first=True), nn.Linear(3, outputs)
    def forward(self, x):
        lengths = (x != 0).sum(1).cpu()
        packed = pack_padded_sequence(x.unsqueeze(-1), lengths, batch_first=True, enforce_sorted=False)
        return self.linear(self.recurrent(packed)[1][-1])

class Words(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.embedding, self.linear = nn.Embedding(4, 2), nn.Linear(2, outputs)
    def forward(self, x):
        return self.linear(self.embedding(x.long()).mean(1))
"""


@pytest.fixture
def sequences(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "sequence_models.py").write_text(SEQUENCES)
    yield "sequence_models"
    sys.modules.pop("sequence_models", None)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_model_is_tried_on_the_first_training_rows(make_info, sequences, rows):
    """On a row of zeros, a model that packs sequences would fail."""
    info = make_info("regression", (4,))
    model = build_model(ModelSettings(name=f"{sequences}:Packing"), info)
    padded = torch.tensor([[1.0, 2, 0, 0], [3, 0, 0, 0], [0, 0, 0, 0]])[:rows]
    before = padded.clone()
    try_model(model, "m", padded, info)
    assert torch.equal(padded, before)


def test_tokens_that_were_standardised_are_pointed_at(make_info, sequences):
    info, rows = make_info("regression", (4,)), torch.tensor([[-1.5, 0, 1, 2]])
    model = build_model(ModelSettings(name=f"{sequences}:Words"), info)
    try_model(model, "m", rows.abs(), info)
    info = replace(info, encoding=replace(info.encoding, standardize=False))
    with pytest.raises(ModelError, match=r"IndexError: index out of range in self$"):
        try_model(model, "m", rows, info)
    info = replace(info, encoding=replace(info.encoding, standardize=True))
    with pytest.raises(ModelError, match=r"such as tokens, set data\.standardize: false$"):
        try_model(model, "m", rows, info)


def test_linear_weights_are_those_of_linear_models_alone(make_info):
    model = build(make_info("regression", (2, 2)), "linear")
    assert linear_weights(model) is model[1].weight
    assert linear_weights(nn.Sequential(nn.Linear(2, 1), nn.Sigmoid())) is None
    assert linear_weights(build(make_info("regression", (4,)), "mlp", hidden=[3])) is None
