"""Loss and metrics of a model on rows that it is not trained on."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import fsum, nan

import torch
from torch import Tensor, nn

from tune_jobs.trainers.pytorch.batching import block_rows
from tune_jobs.trainers.pytorch.data_parallel import SINGLE_PROCESS, DataParallel, window_of
from tune_jobs.trainers.pytorch.losses import Loss
from tune_jobs.trainers.pytorch.metrics import Metric, measure
from tune_jobs.trainers.pytorch.tensors import TensorRows


@dataclass(frozen=True, slots=True)
class Measured:
    """The loss and the metrics of a model on some rows."""

    loss: float
    """The mean over the rows."""
    metrics: dict[str, float]
    """The metrics by their names, each over all rows at once."""


def evaluate(
    model: nn.Module,
    rows: TensorRows,
    loss: Loss,
    metrics: Mapping[str, Metric],
    data_parallel: DataParallel = SINGLE_PROCESS,
) -> Measured:
    """Evaluate the model on the rows in chunks, without gradients and in evaluation mode, and restore its mode.

    The model and the loss receive copies of the rows. Each of several workers computes the outputs of some rows. The
    first worker measures all of them and sends the results to the others.

    Args:
        model: The model, on the device of the rows.
        rows: The rows to evaluate, x [n, *input_shape] and y; n is at least 1.
        loss: Takes outputs and targets; returns their mean loss.
        metrics: The metrics by their names.
        data_parallel: This worker's part in the training.
    """
    training = model.training
    size = block_rows(rows.x)
    start, count = window_of(len(rows.x), data_parallel.rank, data_parallel.workers)
    data_parallel.broadcast_buffers(model)
    model.eval()
    try:
        with torch.no_grad():
            outputs = [model(x.clone()) for x in torch.split(rows.x[start : start + count], size)]
            own = torch.cat(outputs) if len(outputs) > 1 else outputs[0]
            joined = data_parallel.gather_outputs(own, len(rows.x))
            numbers = [nan] * (1 + len(metrics))
            if joined is not None:
                numbers = [_mean_loss(loss, joined, rows.y, size), *measure(metrics, joined, rows.y).values()]
            mean, *values = data_parallel.broadcast_numbers(numbers)
    finally:
        model.train(training)
    return Measured(loss=mean, metrics=dict(zip(metrics, values, strict=True)))


def _mean_loss(loss: Loss, outputs: Tensor, targets: Tensor, size: int) -> float:
    chunks = zip(torch.split(outputs, size), torch.split(targets, size), strict=True)
    losses = [loss(out, y.clone()) * len(out) for out, y in chunks]
    return fsum(torch.stack(losses).tolist()) / len(outputs)
