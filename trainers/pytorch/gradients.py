"""The gradients of a batch: in one process, or of a worker's share of the batch."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tune_jobs.trainers.pytorch.data_parallel import DataParallel
from tune_jobs.trainers.pytorch.explicit_gradients import explicit_gradients
from tune_jobs.trainers.pytorch.losses import Loss
from tune_jobs.trainers.pytorch.plan import TrainingPlan
from tune_jobs.trainers.settings import is_reference

Gradients = Callable[[Tensor, Tensor, float], Tensor]
"""Takes inputs, targets and their share of the batch. Returns their mean loss, and sets the whole batch's gradients."""


def build_gradients(
    plan: TrainingPlan,
    model: nn.Module,
    loss: Loss,
    parameters: list[nn.Parameter],
    data_parallel: DataParallel,
) -> Gradients:
    """Return the fastest way to compute the gradients of a plan's model.

    Args:
        plan: The plan of the training. It tells whether model and loss are built in.
        model: The model, already on its device.
        loss: Takes outputs and targets; returns their mean loss.
        parameters: The parameters of the model that are trained.
        data_parallel: This worker's part in the training.
    """
    if data_parallel.workers > 1:
        # A batch may leave out parameters of a user's own model.
        shared = data_parallel.replicate(model, unused_parameters=is_reference(plan.model.name))
        return _SharedGradients(shared, loss, parameters, data_parallel.workers)
    plain = not (plan.training.loss_arguments or plan.loss_arguments)
    explicit = explicit_gradients(plan.model, plan.training.loss, model) if plain else None
    gradients = explicit or _AutogradGradients(model, loss, parameters)
    return lambda x, y, share: gradients(x, y)


class _AutogradGradients:
    """Computes gradients by autograd, for every model without `ExplicitGradients`."""

    def __init__(self, model: nn.Module, loss: Loss, parameters: list[nn.Parameter]) -> None:
        self._model, self._loss, self._parameters = model, loss, parameters

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        for parameter in self._parameters:
            parameter.grad = None
        with torch.enable_grad():
            loss = self._loss(self._model(x), y)
            torch.autograd.backward(loss)
        return loss.detach()


class _SharedGradients:
    """Computes the gradients of whole batches, of which each of several workers has a share.

    Args:
        model: The model, whose gradients become the mean over all workers.
    """

    def __init__(self, model: nn.Module, loss: Loss, parameters: list[nn.Parameter], workers: int) -> None:
        self._model, self._loss, self._parameters, self._workers = model, loss, parameters, workers

    def __call__(self, x: Tensor, y: Tensor, share: float) -> Tensor:
        """Return the mean loss of this worker's rows, which are this share of the batch."""
        for parameter in self._parameters:
            parameter.grad = None
        with torch.enable_grad():
            loss = self._loss(self._model(x), y)
            # The mean over workers of these is the gradient of the mean over the batch.
            torch.autograd.backward(loss, torch.full_like(loss, share * self._workers))
        return loss.detach()
