"""Gradients of the fully connected built-in models, written out instead of recorded by autograd.

A step of a small network is mostly autograd's overhead. This is backpropagation (Rumelhart, Hinton and
Williams, 1986) with the kernels that autograd calls, into memory that is kept from batch to batch.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812  # PyTorch's own customary name
from torch import Tensor, nn

from tune_jobs.trainers.pytorch.losses import Loss, build_loss
from tune_jobs.trainers.pytorch.settings import ModelSettings

aten = torch.ops.aten

_MEAN = 1  # what reduction="mean" is to a kernel
_NO_CLASS = -100  # the kernels' usual ignore_index, which stands for no class


def explicit_gradients(settings: ModelSettings, loss: str, model: nn.Module) -> "ExplicitGradients | None":
    """Return the gradients of this model and loss if they are written out here, else None.

    They exist for `linear`, and for `mlp` without batch normalisation, with any built-in loss.

    Args:
        settings: The settings that the model was built from.
        loss: The name of the loss.
        model: The model, already on its device.
    """
    if settings.name not in {"linear", "mlp"} or loss not in _LOSSES:
        return None
    if any(isinstance(module, nn.BatchNorm1d) for module in model.modules()):
        return None
    return ExplicitGradients(model, loss)


class ExplicitGradients:
    """Computes the mean loss of a batch and puts its gradients into the parameters' `grad`.

    Every batch's gradients replace those of the batch before, in the same tensors.

    Args:
        model: A `linear` or `mlp` that `explicit_gradients` supports.
        loss: The name of a built-in loss.
    """

    def __init__(self, model: nn.Module, loss: str) -> None:
        self._modules = [module for module in model.children() if not isinstance(module, nn.Flatten)]
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self._loss = partial(_LOSSES[loss], next(model.parameters()).new_ones(()))
        # By the number of rows in a batch, of which a training has two at most.
        self._passes: dict[int, tuple[list[_Step], Tensor]] = {}

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss, a scalar, of rows x [n, *input_shape] and their targets; neither is written to.

        Raises:
            ModelError: Outputs and targets do not agree in shape.
        """
        rows = x.shape[0]
        if rows not in self._passes:
            self._passes[rows] = _steps(self._modules, rows)
        steps, gradient = self._passes[rows]
        values = x if x.ndim == 2 else x.flatten(1)
        for step in steps:
            values = step.forward(values)
        loss = self._loss(values, y, gradient)
        for step in reversed(steps):
            step.backward()
        return loss


class _Step(Protocol):
    """One module for batches of one size."""

    def forward(self, values: Tensor) -> Tensor:
        """Compute the module's outputs from its inputs."""

    def backward(self) -> None:
        """Compute the gradient of the inputs from the gradient of the outputs, both in the step's own tensors."""


def _steps(modules: list[nn.Module], rows: int) -> tuple[list[_Step], Tensor]:
    """Return the steps through all modules, and the tensor for the gradient of the last module's outputs."""
    first, *others = modules
    assert isinstance(first, nn.Linear)
    affine = _Affine(first, rows, None)
    steps: list[_Step] = [affine]
    for module in others:
        if isinstance(module, nn.Linear):
            affine = _Affine(module, rows, affine.gradient)
            steps.append(affine)
        elif isinstance(module, nn.Dropout):
            steps.append(_Dropout(module.p, affine.gradient))
        else:
            steps.append(_Activation(type(module), affine.gradient))
    return steps, affine.gradient


class _Affine:
    """Computes values @ weight.T + bias, and the gradient of its inputs if there is a tensor for it."""

    def __init__(self, linear: nn.Linear, rows: int, inputs_gradient: Tensor | None) -> None:
        self._weight, self._weight_gradient = linear.weight.detach(), linear.weight.grad
        self._weight_columns = self._weight.t()
        self._bias = self._bias_gradient = None
        if linear.bias is not None:
            self._bias, self._bias_gradient = linear.bias.detach(), linear.bias.grad
        self._outputs = self._weight.new_empty(rows, linear.out_features)
        self.gradient = torch.empty_like(self._outputs)
        self._gradient_columns = self.gradient.t()
        self._inputs_gradient = inputs_gradient

    def forward(self, values: Tensor) -> Tensor:
        self._inputs = values
        if self._bias is None:
            return torch.mm(values, self._weight_columns, out=self._outputs)
        return torch.addmm(self._bias, values, self._weight_columns, out=self._outputs)

    def backward(self) -> None:
        torch.mm(self._gradient_columns, self._inputs, out=self._weight_gradient)
        if self._bias is not None:
            torch.sum(self.gradient, 0, out=self._bias_gradient)
        if self._inputs_gradient is not None:
            torch.mm(self.gradient, self._weight, out=self._inputs_gradient)


class _Activation:
    """An elementwise function; `gradient`, of its outputs, becomes that of its inputs."""

    def __init__(self, kind: type[nn.Module], gradient: Tensor) -> None:
        self._function, self._derivative = _ACTIVATIONS[kind]
        self._gradient = gradient

    def forward(self, values: Tensor) -> Tensor:
        self._values = values
        return self._function(values)

    def backward(self) -> None:
        self._derivative(self._gradient, self._values, grad_input=self._gradient)


# The functions that work in place leave their outputs, the others their inputs, for the derivative.
_ACTIVATIONS: dict[type[nn.Module], tuple[Callable[[Tensor], Tensor], Callable[..., Tensor]]] = {
    nn.ReLU: (torch.relu_, partial(aten.threshold_backward.grad_input, threshold=0)),
    nn.Tanh: (torch.tanh_, aten.tanh_backward.grad_input),
    nn.Sigmoid: (torch.sigmoid_, aten.sigmoid_backward.grad_input),
    nn.GELU: (F.gelu, aten.gelu_backward.grad_input),
}


class _Dropout:
    """Dropout by factors of 0 and 1 / (1 - p); `gradient`, of its outputs, becomes that of its inputs."""

    def __init__(self, p: float, gradient: Tensor) -> None:
        self._p = p
        self._ones = torch.ones_like(gradient)
        self._outputs = torch.empty_like(gradient)
        self._gradient = gradient

    def forward(self, values: Tensor) -> Tensor:
        # What PyTorch's dropout makes of ones are the factors, drawn as it would draw them for the values.
        self._factors = F.dropout(self._ones, self._p)
        return torch.mul(values, self._factors, out=self._outputs)

    def backward(self) -> None:
        self._gradient.mul_(self._factors)


def _cross_entropy(one: Tensor, outputs: Tensor, targets: Tensor, gradient: Tensor) -> Tensor:
    logs = torch.log_softmax(outputs, 1)
    loss, weight = aten.nll_loss_forward.default(logs, targets, None, _MEAN, _NO_CLASS)
    of_logs = aten.nll_loss_backward.default(one, logs, targets, None, _MEAN, _NO_CLASS, weight)
    aten._log_softmax_backward_data.out(of_logs, logs, 1, outputs.dtype, out=gradient)
    return loss  # type: ignore[no-any-return]  # aten is untyped


def _mse_gradient(one: Tensor, outputs: Tensor, targets: Tensor, gradient: Tensor) -> None:
    aten.mse_loss_backward.grad_input(one, outputs, targets, _MEAN, grad_input=gradient)


def _mae_gradient(_one: Tensor, outputs: Tensor, targets: Tensor, gradient: Tensor) -> None:
    torch.sub(outputs, targets, out=gradient).sgn_().div_(gradient.numel())


def _huber_gradient(one: Tensor, outputs: Tensor, targets: Tensor, gradient: Tensor) -> None:
    aten.huber_loss_backward.out(one, outputs, targets, _MEAN, 1.0, grad_input=gradient)


def _binary_cross_entropy_gradient(_one: Tensor, outputs: Tensor, targets: Tensor, gradient: Tensor) -> None:
    torch.sigmoid(outputs, out=gradient).sub_(targets).div_(gradient.numel())


def _elementwise(
    loss: Loss, fill: Callable[..., None], one: Tensor, outputs: Tensor, targets: Tensor, gradient: Tensor
) -> Tensor:
    value = loss(outputs, targets)
    fill(one, outputs, targets, gradient)
    return value


# From a scalar 1, outputs, targets and a tensor for the gradient of the outputs to the mean loss.
_LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "cross_entropy": _cross_entropy,
    "mse": partial(_elementwise, build_loss("mse"), _mse_gradient),
    "mae": partial(_elementwise, build_loss("mae"), _mae_gradient),
    "huber": partial(_elementwise, build_loss("huber"), _huber_gradient),
    "binary_cross_entropy": partial(
        _elementwise, build_loss("binary_cross_entropy"), _binary_cross_entropy_gradient
    ),
}
