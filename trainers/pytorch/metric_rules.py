"""The metrics that fit each loss, and the names of their columns; without torch."""

from collections import Counter

from tune_jobs.text import did_you_mean
from tune_jobs.trainers.data.settings import BuiltInLoss
from tune_jobs.trainers.interface import RESERVED_COLUMNS
from tune_jobs.trainers.pytorch.settings import BuiltInMetric, TrainingSettings
from tune_jobs.trainers.settings import ScoreSettings, is_reference

RESULT_COLUMNS = ("epoch", "train_loss", "val_loss", "lr", "seconds")
"""Columns of every epoch. No metric may have one of these names."""

_CLASSIFICATION: tuple[BuiltInMetric, ...] = ("accuracy", "f1")
_REGRESSION: tuple[BuiltInMetric, ...] = ("mse", "mae", "rmse", "r2", "param_error")

METRICS_OF_LOSS: dict[BuiltInLoss, tuple[BuiltInMetric, ...]] = {
    "cross_entropy": _CLASSIFICATION,
    "binary_cross_entropy": _CLASSIFICATION,
    "mse": _REGRESSION,
    "mae": _REGRESSION,
    "huber": _REGRESSION,
}
"""The built-in metrics that fit each built-in loss. The user's own loss fits all metrics."""


def metric_names(training: TrainingSettings) -> tuple[str, ...]:
    """Return the names of the metrics' columns, in the order of `training.metrics`, all different.

    A built-in metric keeps its name. A `package.module:function` has the name of the function. If that name is taken
    by another metric or by a column of every epoch, the whole reference is the name. So it is if the name begins with
    an underscore: W&B keeps such names, such as `_step`, for itself.
    """
    metrics = tuple(dict.fromkeys(training.metrics))
    short = {metric: metric.rpartition(":")[2] for metric in metrics}
    taken = Counter([*{*RESULT_COLUMNS, *RESERVED_COLUMNS}, *short.values()])
    return tuple(
        metric
        if is_reference(metric) and (taken[short[metric]] > 1 or short[metric].startswith("_"))
        else short[metric]
        for metric in metrics
    )


def check_metrics(training: TrainingSettings, score: ScoreSettings | None = None) -> list[str]:
    """Return the problems of the metrics with the loss and, if a score is given, of its metric; one sentence each."""
    problems = [
        f"metric {name} is listed twice; name it once"
        for name, n in Counter(training.metrics).items()
        if n > 1
    ]
    fitting = METRICS_OF_LOSS.get(training.loss)  # type: ignore[call-overload]  # a reference finds nothing
    if fitting is not None:
        problems += [
            f"metric {metric} does not fit loss {training.loss}; {training.loss} goes with "
            f"{', '.join(fitting)}"
            for metric in dict.fromkeys(training.metrics)
            if not is_reference(metric) and metric not in fitting
        ]
    valid = ("val_loss", *metric_names(training))
    if score is not None and score.metric not in valid:
        problems.append(
            f"the score's metric {score.metric!r} is not measured; it can be {', '.join(valid)}; "
            f"add other metrics to training.metrics{did_you_mean(score.metric, valid)}"
        )
    return problems
