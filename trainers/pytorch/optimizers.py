"""Optimizers, built from the hyperparameters: those of torch.optim, and L-BFGS with a line search."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from tune_jobs.trainers.errors import ModelError
from tune_jobs.trainers.pytorch.lbfgs import LBFGS
from tune_jobs.trainers.pytorch.settings import Hyperparameters

_FUSED_DEVICES = {"cpu", "cuda", "mps"}


def build_optimizer(model: nn.Module, hyperparameters: Hyperparameters, device: torch.device) -> Optimizer:
    """Return the optimizer of the model's trainable parameters, which are already on `device`.

    Hyperparameters that the optimizer does not have are ignored. `lbfgs` has no weight decay: the caller adds the
    decay to the gradients.

    Raises:
        ModelError: The model has nothing to train.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ModelError(
            "the model has no parameter that can be trained; give it at least one that requires a gradient"
        )
    h = hyperparameters
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
    same_form = name == hyperparameters.optimizer != "lbfgs" and with_momentum[0] == with_momentum[1]
    return {**own, "state": other["state"] if same_form else {}}
