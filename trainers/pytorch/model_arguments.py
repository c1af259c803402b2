"""Arguments of the built-in models, checked without torch.

A function model (`package.module:function`) checks its own arguments.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from tune_jobs.text import did_you_mean
from tune_jobs.trainers.errors import ModelError
from tune_jobs.trainers.pytorch.settings import BuiltInModel
from tune_jobs.trainers.settings import Count, Settings

Activation = Literal["relu", "tanh", "gelu", "sigmoid"]
Dropout = Annotated[float, Field(ge=0, lt=1)]


class LinearArguments(Settings):
    """`linear`: one affine map of all features to the outputs."""

    bias: bool = True


class MlpArguments(Settings):
    """`mlp`: fully connected layers; an input of more than one dimension is flattened."""

    hidden: Annotated[tuple[Count, ...], Field(strict=False)] = (64,)
    """Widths of the hidden layers, first to last."""
    activation: Activation = "relu"
    dropout: Dropout = 0.0
    """Share of hidden units that are dropped while training."""
    batch_norm: bool = False
    """Normalise each hidden layer before its activation."""


class CnnArguments(Settings):
    """`cnn`: convolutions with pooling for small images [channels, height, width], then one hidden layer."""

    channels: Annotated[tuple[Count, ...], Field(strict=False, min_length=1)] = (16, 32)
    """Channels of the convolutions, first to last."""
    kernel_size: Count = 3
    """Height and width of a convolution; an odd number keeps the size of the image."""
    pool: Count = 2
    """Factor by which max pooling shrinks the image after each convolution; 1 does not pool."""
    hidden: Count = 64
    """Width of the fully connected layer."""
    dropout: Dropout = 0.0
    """Share of the fully connected layer's units that are dropped while training."""

    @field_validator("kernel_size")
    @classmethod
    def _odd(cls, size: int) -> int:
        if size % 2 == 0:
            raise ValueError(f"kernel_size is {size}; choose an odd size, such as {size + 1}")
        return size


ModelArguments = LinearArguments | MlpArguments | CnnArguments

_SCHEMAS: dict[BuiltInModel, type[LinearArguments] | type[MlpArguments] | type[CnnArguments]] = {
    "linear": LinearArguments,
    "mlp": MlpArguments,
    "cnn": CnnArguments,
}


def check_model_arguments(name: str, arguments: Mapping[str, Any]) -> list[str]:
    """Return every problem of a built-in model's arguments, one sentence each; none for a function model."""
    schema = _SCHEMAS.get(name)  # type: ignore[call-overload]  # a function's name finds nothing
    if schema is None:
        return []
    try:
        schema.model_validate(dict(arguments))
    except ValidationError as error:
        return [_sentence(name, problem, list(schema.model_fields)) for problem in error.errors()]
    return []


def parse_model_arguments(name: BuiltInModel, arguments: Mapping[str, Any]) -> ModelArguments:
    """Return the arguments of a built-in model, defaults included.

    Raises:
        ModelError: An argument is unknown or out of range; the message lists every problem.
    """
    if problems := check_model_arguments(name, arguments):
        raise ModelError("; ".join(problems))
    return _SCHEMAS[name].model_validate(dict(arguments))


def _sentence(model: str, problem: Mapping[str, Any], known: list[str]) -> str:
    where = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        hint = did_you_mean(where, known)
        return f"model {model} has no argument {where!r}{hint or '; it takes ' + ', '.join(known)}"
    reason = problem["msg"].removeprefix("Value error, ")
    return f"model {model}: argument {where} is {problem['input']!r}: {reason}"


def check_model_input(name: str, input_shape: Sequence[int]) -> list[str]:
    """Return why a built-in model cannot take rows of this shape, as far as that is known without torch."""
    if name != "cnn" or len(input_shape) == 3:
        return []
    return [
        f"model cnn takes images [channels, height, width], and a row is {list(input_shape)}; choose linear or mlp"
    ]


def model_argument_names(name: str) -> tuple[str, ...]:
    """Return the names of a built-in model's arguments; none for a function model, whose arguments are unknown."""
    schema = _SCHEMAS.get(name)  # type: ignore[call-overload]  # a function's name finds nothing
    return () if schema is None else tuple(schema.model_fields)
