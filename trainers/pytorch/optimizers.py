"""Optimizers, built from the hyperparameters: those of torch.optim, and L-BFGS with a line search."""

import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from tune_jobs.trainers.errors import ModelError
from tune_jobs.trainers.pytorch.lbfgs import LBFGS
from tune_jobs.trainers.pytorch.own_code import build
from tune_jobs.trainers.pytorch.settings import Hyperparameters
from tune_jobs.trainers.references import load_reference
from tune_jobs.trainers.settings import is_reference

_FUSED_DEVICES = {"cpu", "cuda", "mps"}


def build_optimizer(
    model: nn.Module,
    hyperparameters: Hyperparameters,
    device: torch.device,
    arguments: Mapping[str, Any] = MappingProxyType({}),
) -> Optimizer:
    """Return the optimizer of the model's trainable parameters, which are already on `device`.

    Hyperparameters that the optimizer does not have are ignored. `lbfgs` has no weight decay: the caller adds the
    decay to the gradients. An optimizer by reference is called with the parameters, or with the model if its first
    argument is called `model`, and with `arguments`; `lr` and `weight_decay` are added if they are set.

    Raises:
        ModelError: The model has nothing to train, or the optimizer does not take the arguments or cannot be built.
        ReferenceNotFound: The optimizer cannot be loaded.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ModelError(
            "the model has no parameter that can be trained; give it at least one that requires a gradient"
        )
    h = hyperparameters
    if is_reference(h.optimizer):
        return _from_reference(model, parameters, h, arguments)
    if arguments:
        raise ModelError(
            f"{', '.join(f'optimizer.{name}' for name in arguments)}: only an optimizer by reference takes such "
            f"arguments, and the optimizer is {h.optimizer}; add `when: {{optimizer: [...]}}` to them"
        )
    # One fused call for all parameters, which `FusedUpdate` can make by itself. rmsprop and lbfgs have no fused
    # form.
    fused = device.type in _FUSED_DEVICES and all(parameter.is_floating_point() for parameter in parameters)
    match h.optimizer:
        case "sgd":
            return torch.optim.SGD(
                parameters,
                lr=h.lr,
                momentum=h.momentum,
                nesterov=h.nesterov and h.momentum > 0,
                weight_decay=h.weight_decay,
                fused=fused,
            )
        case "adam" | "adamw":
            kind = torch.optim.Adam if h.optimizer == "adam" else torch.optim.AdamW
            return kind(
                parameters,
                lr=h.lr,
                betas=(h.beta1, h.beta2),
                eps=h.eps,
                weight_decay=h.weight_decay,
                fused=fused,
            )
        case "rmsprop":
            return torch.optim.RMSprop(
                parameters,
                lr=h.lr,
                alpha=h.alpha,
                eps=h.eps,
                weight_decay=h.weight_decay,
                momentum=h.momentum,
            )
        case "adagrad":
            # Adagrad is fused on CPUs only.
            return torch.optim.Adagrad(
                parameters,
                lr=h.lr,
                eps=h.eps,
                weight_decay=h.weight_decay,
                fused=fused and device.type == "cpu",
            )
        case "lbfgs":
            return LBFGS(parameters, lr=h.lr, max_iter=h.max_iter, history_size=h.history_size)
    raise AssertionError(h.optimizer)


def _from_reference(
    model: nn.Module, parameters: list[nn.Parameter], h: Hyperparameters, arguments: Mapping[str, Any]
) -> Optimizer:
    function = load_reference(h.optimizer)
    if isinstance(function, type) and issubclass(function, torch.optim.LBFGS):
        raise ModelError(
            f"optimizer {h.optimizer} evaluates a step several times; use lbfgs, which is built in"
        )
    first = next(iter(inspect.signature(function).parameters), "")
    given: dict[str, Any] = {
        name: getattr(h, name) for name in ("lr", "weight_decay") if name in h.model_fields_set
    }
    optimizer = build(
        "optimizer", h.optimizer, function, {**given, **arguments}, model if first == "model" else parameters
    )
    if not isinstance(optimizer, Optimizer):
        raise ModelError(
            f"optimizer {h.optimizer} returned a {type(optimizer).__name__}; it must return a torch.optim.Optimizer"
        )
    return optimizer


def inherited_state(
    optimizer: Optimizer, hyperparameters: Hyperparameters, state: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the state of `optimizer` with the memory of another configuration's, if both are of the same form.

    Args:
        optimizer: A new optimizer, which keeps its hyperparameters.
        hyperparameters: The hyperparameters that it was built from.
        state: The state of another training, with its `optimizer` and `optimizer_name`.
    """
    own = optimizer.state_dict()
    name, other = state["optimizer_name"], state["optimizer"]
    with_momentum = [bool(groups["param_groups"][0].get("momentum")) for groups in (own, other)]
    # L-BFGS remembers as many steps as its own history holds.
    # An optimizer by reference may remember other things with other arguments.
    comparable = hyperparameters.optimizer != "lbfgs" and not is_reference(hyperparameters.optimizer)
    same_form = comparable and name == hyperparameters.optimizer and with_momentum[0] == with_momentum[1]
    return {**own, "state": other["state"] if same_form else {}}
