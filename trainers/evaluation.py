"""Loss and metrics of a model on rows that it is not trained on."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import fsum

import torch
from torch import Tensor, nn

from trainers.batching import block_rows
from trainers.losses import Loss
from trainers.metrics import Metric, measure
from trainers.tensors import TensorRows


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How good a model is on some rows."""

    loss: float
    """Mean over the rows."""
    metrics: dict[str, float]
    """Each over all rows at once."""


def evaluate(model: nn.Module, rows: TensorRows, loss: Loss, metrics: Mapping[str, Metric]) -> Evaluation:
    """Evaluate in chunks, without gradients and in evaluation mode; the model's mode is put back.

    The model and the loss get copies of the rows.

    Args:
        model: On the device of the rows.
        rows: x [n, *input_shape] and y, n at least 1.
        loss: From outputs and targets to their mean loss.
        metrics: By name.
    """
    training = model.training
    outputs: list[Tensor] = []
    losses: list[Tensor] = []
    size = block_rows(rows.x)
    model.eval()
    try:
        with torch.inference_mode():
            for x, y in zip(torch.split(rows.x, size), torch.split(rows.y, size), strict=True):
                out = model(x.clone())
                losses.append(loss(out, y.clone()) * len(x))
                outputs.append(out)
            joined = torch.cat(outputs) if len(outputs) > 1 else outputs[0]
            measured = measure(metrics, joined, rows.y)
            total = fsum(torch.stack(losses).tolist())
    finally:
        model.train(training)
    return Evaluation(loss=total / len(rows.x), metrics=measured)
