"""Metrics, each over all validation rows at once: the mean of the F1 or RMSE of batches is not the F1 or RMSE."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from tune_jobs.trainers.data.encoding import Number
from tune_jobs.trainers.data.rows import DataInfo
from tune_jobs.trainers.errors import ModelError
from tune_jobs.trainers.pytorch.metric_rules import metric_names
from tune_jobs.trainers.pytorch.models import linear_weights
from tune_jobs.trainers.pytorch.settings import TrainingSettings
from tune_jobs.trainers.references import load_reference

Metric = Callable[[Tensor, Tensor], float]
"""Takes outputs [n, k] and targets of all rows, both on the CPU; returns a number."""


def accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Return the share of right predictions: of rows for class targets [n], of numbers for 0-or-1 targets [n, k]."""
    predicted, true = _labels(outputs, targets)
    return int((predicted == true).sum()) / true.numel()


def f1(outputs: Tensor, targets: Tensor) -> float:
    """Return the macro F1, which is the mean over classes of 2 TP / (2 TP + FP + FN).

    Classes that are neither predicted nor true are left out. Targets [n, 1] have the classes 0 and 1; in
    targets [n, k] each column is a label, and its F1 is that of class 1.
    """
    predicted, true = _labels(outputs, targets)
    if true.ndim == 2 and true.shape[1] > 1:
        hits, marked = (predicted & true).sum(0).double(), (predicted.sum(0) + true.sum(0)).double()
    else:
        predicted, true = predicted.flatten(), true.flatten()
        classes = int(torch.maximum(predicted.max(), true.max())) + 1
        hits = torch.bincount(true[predicted == true], minlength=classes).double()
        marked = (
            torch.bincount(predicted, minlength=classes) + torch.bincount(true, minlength=classes)
        ).double()
        hits, marked = hits[marked > 0], marked[marked > 0]
    return float((2 * hits / marked.clamp(min=1)).mean())


def mse(outputs: Tensor, targets: Tensor) -> float:
    """Return the mean squared error over rows and outputs."""
    return float((outputs.double() - targets.double()).square().mean())


def mae(outputs: Tensor, targets: Tensor) -> float:
    """Return the mean absolute error over rows and outputs."""
    return float((outputs.double() - targets.double()).abs().mean())


def rmse(outputs: Tensor, targets: Tensor) -> float:
    """Return the root of the mean squared error over rows and outputs."""
    return float(mse(outputs, targets) ** 0.5)


def r2(outputs: Tensor, targets: Tensor) -> float:
    """Return the coefficient of determination, 1 - residual / total sum of squares, averaged over outputs.

    If the targets are constant, it is 1 for predictions that equal them and 0 for others, as in scikit-learn.
    """
    outputs, targets = outputs.double(), targets.double()
    residual = (targets - outputs).square().sum(0)
    total = (targets - targets.mean(0)).square().sum(0)
    constant = (residual == 0).double()
    return float(
        torch.where(total > 0, 1 - residual / total, torch.where(residual.isnan(), residual, constant)).mean()
    )


_BUILT_IN: dict[str, Metric] = {
    "accuracy": accuracy,
    "f1": f1,
    "mse": mse,
    "mae": mae,
    "rmse": rmse,
    "r2": r2,
}


def build_metrics(training: TrainingSettings, info: DataInfo, model: nn.Module) -> dict[str, Metric]:
    """Return the metrics of a training by the names of their columns, in order.

    `package.module:function` is called with outputs and targets and returns a number. `param_error` is the
    distance ‖θ - θ̂‖₂ between the weights that made the data and the weights that `model` has when the metric is
    computed, in the original units of the features and without the bias.

    Raises:
        ModelError: The metrics include `param_error`, and the model is not linear or the data have no known weights.
        ReferenceNotFound: A function cannot be loaded.
    """
    metrics = {}
    for column, name in zip(metric_names(training), dict.fromkeys(training.metrics), strict=True):
        if name == "param_error":
            metrics[column] = _param_error(info, model)
        else:
            metrics[column] = _BUILT_IN.get(name) or _from_function(name)
    return metrics


def measure(metrics: Mapping[str, Metric], outputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Return every metric of the outputs [n, k] of all rows, on any device."""
    if not metrics:
        return {}
    outputs, targets = outputs.cpu(), targets.cpu()
    return {name: metric(outputs, targets) for name, metric in metrics.items()}


def _labels(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    if targets.is_floating_point():
        return (outputs > 0).long(), (targets > 0.5).long()
    return outputs.argmax(1), targets


def _param_error(info: DataInfo, model: nn.Module) -> Metric:
    if info.truth is None:
        raise ModelError(
            "metric param_error compares with the weights that made the data, and these data have none; "
            "remove the metric, or use the source linear_gaussian"
        )
    if linear_weights(model) is None:
        raise ModelError(
            "metric param_error needs a model of one linear layer; remove the metric, or use model linear"
        )
    truth = torch.tensor(info.truth, dtype=torch.float64)
    # A coefficient of a standardised feature is the original one times the feature's deviation.
    scale = torch.tensor(
        [
            part.deviation if info.encoding.standardize and isinstance(part, Number) else 1.0
            for part in info.encoding.parts
        ],
        dtype=torch.float64,
    )

    def param_error(outputs: Tensor, targets: Tensor) -> float:
        weights = linear_weights(model)
        assert weights is not None
        estimate = weights.detach().cpu().double().flatten()
        return float(torch.linalg.vector_norm((estimate - truth) / scale))

    return param_error


def _from_function(name: str) -> Metric:
    function = load_reference(name)

    def metric(outputs: Tensor, targets: Tensor) -> float:
        value = function(outputs.clone(), targets.clone())
        try:
            return float(value)
        except Exception as error:  # a tensor of two numbers raises another one than a list does
            raise ModelError(f"metric {name} returned {_show(value)}; it must return a number") from error

    return metric


def _show(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # more digits than Python writes, or a class of the user's
        text = f"a {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:100]}…"
