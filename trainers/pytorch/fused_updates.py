"""The update of the parameters by PyTorch's fused kernels, without the rest of `Optimizer.step()`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer

Kernel = Callable[[list[Tensor], float], None]
"""Takes the gradients, in the order of the parameters, and the learning rate; updates the parameters."""


class FusedUpdate:
    """Makes the same update as `optimizer.step()`, bit for bit and on the optimizer's own state, in less time.

    The Python side of `Optimizer.step` takes longer than the gradients of a small network. So the first step is an
    ordinary step, which creates the state. The next steps call the same kernel with the same tensors. The first step
    after `optimizer.load_state_dict` is an ordinary one again. All steps are ordinary if there is no fused kernel: if
    the optimizer is not fused, the device is neither cpu nor cuda, or the parameters have several types. A step in
    which a parameter has no gradient is ordinary too.

    Call it with autograd switched off.

    Args:
        optimizer: A built-in optimizer with one group of parameters. Only its `lr` may change between steps.
        ordinary: Whether all steps are ordinary, as for any other optimizer.
    """

    def __init__(self, optimizer: Optimizer, *, ordinary: bool = False) -> None:
        self._optimizer = optimizer
        fused = not ordinary and _has_kernel(optimizer.param_groups[0])
        self._bind = _KERNELS.get(type(optimizer)) if fused else None
        self._kernel: Kernel | None = None
        self._group: dict[str, Any] | None = None

    def __call__(self) -> None:
        group = self._optimizer.param_groups[0]
        gradients = [parameter.grad for parameter in group["params"]]
        complete = all(gradient is not None for gradient in gradients)
        # Loading a state creates a new group and new tensors.
        if self._kernel is not None and group is self._group and complete:
            self._kernel(gradients, group["lr"])
            return
        self._optimizer.step()
        if self._bind is not None and complete:
            self._kernel, self._group = self._bind(self._optimizer, group), group


def _has_kernel(group: dict[str, Any]) -> bool:
    kinds = {(parameter.device, parameter.dtype) for parameter in group["params"]}
    return bool(group.get("fused")) and len(kinds) == 1 and next(iter(kinds))[0].type in {"cpu", "cuda"}


# The kernels are private functions of PyTorch; they are called as its `_fused_sgd`, `_fused_adam` and
# `_fused_adagrad` in torch.optim call them, and a test compares them with `Optimizer.step`.


def _sgd(optimizer: Optimizer, group: dict[str, Any]) -> Kernel:
    parameters = group["params"]
    momenta = _state(optimizer, group, "momentum_buffer") if group["momentum"] else []
    settings = _settings(group, "weight_decay", "momentum", "dampening", "nesterov", "maximize")

    def update(gradients: list[Tensor], lr: float) -> None:
        torch._fused_sgd_(parameters, gradients, momenta, lr=lr, is_first_step=False, **settings)

    return update


def _adam(optimizer: Optimizer, group: dict[str, Any]) -> Kernel:
    parameters = group["params"]
    means = _state(optimizer, group, "exp_avg")
    squares = _state(optimizer, group, "exp_avg_sq")
    steps = _state(optimizer, group, "step")
    ones = [torch.ones_like(steps[0])] * len(steps)
    beta1, beta2 = group["betas"]
    settings = _settings(group, "weight_decay", "eps", "amsgrad", "maximize")
    kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_

    def update(gradients: list[Tensor], lr: float) -> None:
        torch._foreach_add_(steps, ones)
        kernel(parameters, gradients, means, squares, [], steps, lr=lr, beta1=beta1, beta2=beta2, **settings)

    return update


def _adagrad(optimizer: Optimizer, group: dict[str, Any]) -> Kernel:
    parameters = group["params"]
    sums, steps = _state(optimizer, group, "sum"), _state(optimizer, group, "step")
    ones = [torch.ones_like(steps[0])] * len(steps)
    settings = _settings(group, "weight_decay", "lr_decay", "eps", "maximize")

    def update(gradients: list[Tensor], lr: float) -> None:
        torch._foreach_add_(steps, ones)
        torch._fused_adagrad_(parameters, gradients, sums, steps, lr=lr, **settings)

    return update


def _state(optimizer: Optimizer, group: dict[str, Any], name: str) -> list[Tensor]:
    return [optimizer.state[parameter][name] for parameter in group["params"]]


def _settings(group: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: group[name] for name in names}


_KERNELS: dict[type[Optimizer], Callable[[Optimizer, dict[str, Any]], Kernel]] = {
    SGD: _sgd,
    Adam: _adam,
    AdamW: _adam,
    Adagrad: _adagrad,
}
