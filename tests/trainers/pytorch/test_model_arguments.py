import pytest

from tune_jobs.trainers.errors import ModelError
from tune_jobs.trainers.pytorch.model_arguments import (
    CnnArguments,
    MlpArguments,
    check_model_arguments,
    parse_model_arguments,
)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("linear", {}),
        ("linear", {"bias": False}),
        ("mlp", {"hidden": [], "activation": "gelu", "dropout": 0, "batch_norm": True}),
        ("mlp", {"hidden": (64, 32)}),
        ("cnn", {"channels": [8], "kernel_size": 1, "pool": 1, "hidden": 5, "dropout": 0.5}),
        ("my.models:net", {"anything": "goes"}),
    ],
)
def test_valid_arguments(name, arguments):
    assert check_model_arguments(name, arguments) == []


@pytest.mark.parametrize(
    ("name", "arguments", "problem"),
    [
        ("linear", {"hidden": [3]}, "model linear has no argument 'hidden'; it takes bias"),
        ("mlp", {"hiden": [3]}, "model mlp has no argument 'hiden'; did you mean 'hidden'?"),
        (
            "mlp",
            {"hidden": [3, 0]},
            "model mlp: argument hidden.1 is 0: Input should be greater than or equal to 1",
        ),
        ("mlp", {"hidden": 3}, "model mlp: argument hidden is 3: Input should be a valid tuple"),
        ("mlp", {"hidden": [3.5]}, "model mlp: argument hidden.0 is 3.5: Input should be a valid integer"),
        ("mlp", {"dropout": 1.0}, "model mlp: argument dropout is 1.0: Input should be less than 1"),
        (
            "mlp",
            {"activation": "rellu"},
            "model mlp: argument activation is 'rellu': Input should be 'relu', 'tanh', 'gelu' or 'sigmoid'",
        ),
        (
            "cnn",
            {"kernel_size": 4},
            "model cnn: argument kernel_size is 4: kernel_size is 4; choose an odd size",
        ),
        ("cnn", {"channels": []}, "model cnn: argument channels is []: Tuple should have at least 1 item"),
    ],
)
def test_a_problem_says_what_was_given_and_what_is_valid(name, arguments, problem):
    (found,) = check_model_arguments(name, arguments)
    assert found.startswith(problem)


def test_all_problems_are_listed_at_once():
    with pytest.raises(ModelError, match=r"argument hidden\.0 is 0.*; model mlp has no argument 'widht'"):
        parse_model_arguments("mlp", {"hidden": [0], "widht": 3})


def test_parsed_arguments_have_defaults():
    assert parse_model_arguments("mlp", {"hidden": [3]}) == MlpArguments(
        hidden=(3,), activation="relu", dropout=0.0
    )
    assert parse_model_arguments("cnn", {}) == CnnArguments(
        channels=(16, 32), kernel_size=3, pool=2, hidden=64
    )
