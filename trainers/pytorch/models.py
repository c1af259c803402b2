"""Models: the built-in ones, and those that the user's functions return."""

import torch
from torch import Tensor, nn

from tune_jobs.trainers.data.rows import DataInfo
from tune_jobs.trainers.errors import ModelError
from tune_jobs.trainers.pytorch import random_state
from tune_jobs.trainers.pytorch.model_arguments import (
    Activation,
    CnnArguments,
    LinearArguments,
    MlpArguments,
    parse_model_arguments,
)
from tune_jobs.trainers.pytorch.own_code import build, select_accepted
from tune_jobs.trainers.pytorch.settings import ModelSettings
from tune_jobs.trainers.references import load_reference

_ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
}


def build_model(settings: ModelSettings, info: DataInfo) -> nn.Module:
    """Return a new model with random weights, from [n, *input_shape] to [n, outputs]; built-in ones are on the CPU.

    - `linear`, `mlp`, `cnn`: see `tune_jobs.trainers.pytorch.model_arguments`.
    - `package.module:function`: called with the arguments and, if its signature names them and the arguments
      do not, `input_shape` (a tuple) and `outputs` (an int).

    Args:
        settings: The model's name and arguments.
        info: The facts about the data that the model is for.

    Raises:
        ModelError: The arguments are wrong, or the function fails or returns no `torch.nn.Module`.
        ReferenceNotFound: The function cannot be loaded.
    """
    outputs = info.outputs
    match settings.name:
        case "linear" | "mlp" | "cnn":
            arguments = parse_model_arguments(settings.name, settings.arguments)
            try:
                model = _built_in(arguments, info.input_shape, outputs)
            except (RuntimeError, TypeError, MemoryError) as error:  # PyTorch's words for layers too large
                raise ModelError(
                    f"model {settings.name} of {settings.arguments} for rows of shape {list(info.input_shape)} "
                    "does not fit into memory; choose smaller layers"
                ) from error
        case _:
            model = _from_function(settings, info.input_shape, outputs)
    return model


def linear_weights(model: nn.Module) -> Tensor | None:
    """Return the weights [outputs, features] of a model that is one linear map, else None."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if len(layers) != 1 or {id(p) for p in model.parameters()} != {id(p) for p in layers[0].parameters()}:
        return None
    others = [module for module in model.modules() if not list(module.children()) and module is not layers[0]]
    return (
        layers[0].weight if all(isinstance(module, nn.Flatten | nn.Identity) for module in others) else None
    )


def _built_in(
    arguments: LinearArguments | MlpArguments | CnnArguments, input_shape: tuple[int, ...], outputs: int
) -> nn.Module:
    if isinstance(arguments, CnnArguments):
        return _cnn(arguments, input_shape, outputs)
    width = 1
    for size in input_shape:
        width *= size
    layers: list[nn.Module] = [] if len(input_shape) == 1 else [nn.Flatten()]
    if isinstance(arguments, LinearArguments):
        return nn.Sequential(*layers, nn.Linear(width, outputs, bias=arguments.bias))
    for hidden in arguments.hidden:
        layers.append(nn.Linear(width, hidden))
        if arguments.batch_norm:
            layers.append(nn.BatchNorm1d(hidden))
        layers.append(_ACTIVATIONS[arguments.activation]())
        if arguments.dropout:
            layers.append(nn.Dropout(arguments.dropout))
        width = hidden
    return nn.Sequential(*layers, nn.Linear(width, outputs))


def _cnn(arguments: CnnArguments, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    if len(input_shape) != 3:
        raise ModelError(
            f"model cnn needs images [channels, height, width], and a row of the data has shape "
            f"{list(input_shape)}; choose linear or mlp, or data of images"
        )
    channels, height, width = input_shape
    layers: list[nn.Module] = []
    for wider in arguments.channels:
        layers += [
            nn.Conv2d(channels, wider, arguments.kernel_size, padding=arguments.kernel_size // 2),
            nn.ReLU(),
        ]
        if arguments.pool > 1:
            layers.append(nn.MaxPool2d(arguments.pool))
        channels, height, width = wider, height // arguments.pool, width // arguments.pool
    if min(height, width) < 1:
        raise ModelError(
            f"model cnn: an image of {input_shape[1]} x {input_shape[2]} is too small to be pooled by "
            f"{arguments.pool} after each of {len(arguments.channels)} convolutions; choose fewer channels, "
            "or pool: 1"
        )
    layers += [nn.Flatten(), nn.Linear(channels * height * width, arguments.hidden), nn.ReLU()]
    if arguments.dropout:
        layers.append(nn.Dropout(arguments.dropout))
    return nn.Sequential(*layers, nn.Linear(arguments.hidden, outputs))


def _from_function(settings: ModelSettings, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    function = load_reference(settings.name)
    given = {"input_shape": tuple(input_shape), "outputs": outputs}
    arguments = {**select_accepted(function, given), **settings.arguments}
    model = build("model", settings.name, function, arguments)
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"model {settings.name} returned a {type(model).__name__}; it must return a torch.nn.Module"
        )
    return model


def try_model(model: nn.Module, name: str, rows: Tensor, info: DataInfo) -> None:
    """Check the outputs of a model on two rows. The model and the random generators are left as they were.

    Args:
        model: The model, on any device.
        name: The model's name in the job.
        rows: The training rows, of which the first two are tried; one row is tried twice.
        info: The facts about the data.

    Raises:
        ModelError: The model fails, or returns another shape than [2, outputs].
    """
    first = next(model.parameters(), None)
    device = torch.device("cpu") if first is None else first.device
    training, state = model.training, random_state.capture(device, user_code=True)
    x = rows[[0, min(1, len(rows) - 1)]].to(device)
    shape = list(x.shape)
    try:
        with torch.no_grad():
            got = model.eval()(x)
    except (Exception, SystemExit) as error:  # the user's code may do anything
        raise ModelError(
            f"model {name} fails on the first two training rows, an input of shape {shape}: "
            f"{type(error).__name__}: {error}{_hint(error, info)}"
        ) from error
    finally:
        model.train(training)
        random_state.restore(state, device)
    if not isinstance(got, Tensor):
        raise ModelError(
            f"model {name} returned a {type(got).__name__}; it must return a tensor [n, {info.outputs}]"
        )
    if got.shape != (2, info.outputs):
        raise ModelError(
            f"model {name} turned an input of shape {shape} into an output of shape "
            f"{list(got.shape)}; the data and the loss need {[2, info.outputs]}: a row of {info.outputs} number(s) "
            "for each row"
        )


def _hint(error: BaseException, info: DataInfo) -> str:
    """Return what to do if the model looks up the rows as indices, and they are not those of the data."""
    if not isinstance(error, IndexError) or not info.encoding.standardize:
        return ""
    return "; the rows are standardised: if they are indices, such as tokens, set data.standardize: false"
