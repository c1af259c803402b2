"""Losses, which are means over the samples of a batch. The shapes are checked first.

PyTorch broadcasts outputs [n, 1] against targets [n] into [n, n] and trains on nonsense. Here that is an error.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # PyTorch's own customary name
from torch import Tensor

from tune_jobs.trainers.errors import ModelError
from tune_jobs.trainers.pytorch.own_code import build, check_arguments
from tune_jobs.trainers.references import load_reference

Loss = Callable[[Tensor, Tensor], Tensor]
"""Takes outputs [n, k] and targets; returns a scalar, the mean over the n samples."""

_ELEMENTWISE: dict[str, Loss] = {
    "mse": F.mse_loss,
    "mae": F.l1_loss,
    "huber": F.huber_loss,
    "binary_cross_entropy": F.binary_cross_entropy_with_logits,
}


def build_loss(name: str, arguments: Mapping[str, Any] = MappingProxyType({})) -> Loss:
    """Return the loss of this name, or the user's function, with keyword arguments.

    - `mse`, `mae`, `huber` (Huber, 1964; delta 1): outputs and targets are [n, k] floats.
    - `binary_cross_entropy`: outputs are logits, outputs and targets are [n, k] floats.
    - `cross_entropy`: outputs are logits [n, classes], targets are class numbers [n].
    - `package.module:function`: called with outputs, targets and the arguments; it returns a scalar, the mean over
      the samples.
    - `package.module:Class`: created with the arguments, then called with outputs and targets.

    The returned function raises ModelError if the shapes do not agree or the result is no scalar.

    Raises:
        ReferenceNotFound: The function cannot be loaded.
        ModelError: It does not take the arguments.
    """
    if name == "cross_entropy":
        return partial(_cross_entropy, **arguments) if arguments else _cross_entropy
    if name in _ELEMENTWISE:
        function = _ELEMENTWISE[name]
        return partial(_elementwise, name, partial(function, **arguments) if arguments else function)
    return partial(_scalar, name, _own_loss(name, arguments))


def _own_loss(name: str, arguments: Mapping[str, Any]) -> Loss:
    function = load_reference(name)
    if isinstance(function, type):
        made = build("loss", name, function, arguments)
        if not callable(made):
            raise ModelError(
                f"loss {name} made a {type(made).__name__}, which cannot be called; define __call__"
            )
        return made  # type: ignore[no-any-return]
    try:
        check_arguments(f"loss {name}", function, arguments, None, None)
    except ModelError as error:
        raise ModelError(f"{error}; validation has those of training.loss_arguments alone") from error
    return partial(function, **arguments) if arguments else function


def check_targets(name: str, targets: Tensor, outputs: int) -> None:
    """Refuse targets, in the form that the loss takes, which a built-in loss cannot learn.

    Raises:
        ModelError: The loss cannot learn the targets.
    """
    floating = targets.is_floating_point()
    if name == "cross_entropy":
        if floating or targets.ndim != 1:
            raise ModelError(
                f"loss cross_entropy learns classes, and the targets are numbers of shape {_shape(targets)}; "
                "choose mse, mae or huber, or a target of classes"
            )
        if int(targets.min()) < 0 or int(targets.max()) >= outputs:
            raise ModelError(
                f"the targets are class numbers from {int(targets.min())} to {int(targets.max())}, and the "
                f"model has {outputs} outputs, one a class; class numbers go from 0 to {outputs - 1}"
            )
    elif name == "binary_cross_entropy":
        if not floating or float(targets.min()) < 0 or float(targets.max()) > 1:
            raise ModelError(
                f"loss binary_cross_entropy learns two classes, or numbers from 0 to 1, and the targets go "
                f"from {targets.min().item():g} to {targets.max().item():g}; choose cross_entropy for more "
                "classes"
            )
    elif name in _ELEMENTWISE and not floating:
        raise ModelError(
            f"loss {name} learns numbers, and the targets are classes; choose cross_entropy, or a target of "
            "numbers"
        )


def _cross_entropy(outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    if outputs.ndim != 2 or targets.shape != outputs.shape[:1]:
        raise _disagreement("cross_entropy", "outputs [n, classes] and targets [n]", outputs, targets)
    return F.cross_entropy(outputs, targets, label_smoothing=label_smoothing)


def _elementwise(name: str, function: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
    if outputs.shape != targets.shape:
        raise _disagreement(name, "outputs and targets of one shape", outputs, targets)
    return function(outputs, targets)


def _scalar(name: str, function: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
    loss = function(outputs, targets)
    if not isinstance(loss, torch.Tensor):
        got = f"a {type(loss).__name__}"
    elif loss.ndim != 0:
        got = f"a tensor of shape {_shape(loss)}"
    elif not loss.is_floating_point():
        got = f"a tensor of {str(loss.dtype).removeprefix('torch.')}"
    elif torch.is_grad_enabled() and outputs.requires_grad and not loss.requires_grad:
        got = "a tensor without a gradient"
    else:
        return loss
    raise ModelError(
        f"loss {name} returned {got}; it must return a scalar tensor of a floating type, the mean over the samples, "
        "computed from the outputs"
    )


def _disagreement(name: str, wanted: str, outputs: Tensor, targets: Tensor) -> ModelError:
    return ModelError(
        f"loss {name} needs {wanted}, and got outputs {_shape(outputs)} and targets {_shape(targets)}; "
        "change what the model returns"
    )


def _shape(tensor: Tensor) -> str:
    return str(list(tensor.shape))
