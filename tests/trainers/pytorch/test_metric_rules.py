from typing import get_args

from tune_jobs.trainers.data.settings import BuiltInLoss
from tune_jobs.trainers.pytorch.metric_rules import (
    METRICS_OF_LOSS,
    RESULT_COLUMNS,
    check_metrics,
    metric_names,
)
from tune_jobs.trainers.pytorch.settings import BuiltInMetric, TrainingSettings
from tune_jobs.trainers.pytorch.trainer import Trainer
from tune_jobs.trainers.settings import ScoreSettings


def training(*metrics, loss="mse"):
    return TrainingSettings(loss=loss, metrics=metrics)


def test_every_loss_has_its_metrics_and_every_metric_a_loss():
    assert set(METRICS_OF_LOSS) == set(get_args(BuiltInLoss))
    assert {metric for metrics in METRICS_OF_LOSS.values() for metric in metrics} == set(
        get_args(BuiltInMetric)
    )


def test_names_are_short_if_they_are_unique_and_never_those_of_other_columns():
    assert metric_names(training("mse", "a.b:bias", "c:mse", "c:lr", "c:same", "d:same")) == (
        "mse",
        "bias",
        "c:mse",
        "c:lr",
        "c:same",
        "d:same",
    )


def test_the_columns_of_every_epoch_are_reserved(make_plan, make_data):
    result = next(Trainer(make_plan(), make_data(), threads=1).epochs())
    assert tuple(result.to_mapping()) == RESULT_COLUMNS
    assert metric_names(training("c:diverged")) == ("c:diverged",), "a row may say that the training diverged"


def test_fitting_metrics_have_no_problem():
    assert check_metrics(training("mse", "r2", "my:metric")) == []
    assert (
        check_metrics(training("accuracy", "r2", loss="my:loss"), ScoreSettings(metric="r2", mode="max"))
        == []
    )
    assert check_metrics(training("a.b:bias"), ScoreSettings(metric="bias")) == []


def test_all_problems_are_listed():
    assert check_metrics(training("accuracy", "mse", "mse"), ScoreSettings(metric="val_los")) == [
        "metric mse is listed twice; name it once",
        "metric accuracy does not fit loss mse; mse goes with mse, mae, rmse, r2, param_error",
        "the score's metric 'val_los' is not measured; it can be val_loss, accuracy, mse; add other metrics to "
        "training.metrics; did you mean 'val_loss'?",
    ]
