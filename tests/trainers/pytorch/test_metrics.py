import re
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tune_jobs.trainers.data import prepare_data
from tune_jobs.trainers.data.encoding import Number
from tune_jobs.trainers.data.settings import DataSettings
from tune_jobs.trainers.errors import ModelError
from tune_jobs.trainers.pytorch import metrics
from tune_jobs.trainers.pytorch.metric_rules import metric_names
from tune_jobs.trainers.pytorch.metrics import build_metrics, measure
from tune_jobs.trainers.pytorch.settings import TrainingSettings
from tune_jobs.trainers.pytorch.trainer import Trainer

seeds = st.integers(0, 2**32 - 1)


@given(seed=seeds, n=st.integers(1, 40), classes=st.integers(2, 5))
@settings(max_examples=60, deadline=None)
def test_accuracy_and_f1_agree_with_scikit_learn(seed, n, classes):
    generator = np.random.default_rng(seed)
    outputs, targets = generator.normal(size=(n, classes)), generator.integers(0, classes, n)
    predicted = outputs.argmax(1)
    given = torch.tensor(outputs), torch.tensor(targets)
    assert metrics.accuracy(*given) == pytest.approx(sklearn.metrics.accuracy_score(targets, predicted))
    expected = sklearn.metrics.f1_score(targets, predicted, average="macro", zero_division=0)
    assert metrics.f1(*given) == pytest.approx(expected)


@given(seed=seeds, n=st.integers(1, 40), labels=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_binary_targets_agree_with_scikit_learn(seed, n, labels):
    generator = np.random.default_rng(seed)
    outputs = generator.normal(size=(n, labels)).astype(np.float32)
    targets = generator.integers(0, 2, (n, labels))
    given = torch.tensor(outputs), torch.tensor(targets, dtype=torch.float32)
    predicted = (outputs > 0).astype(int)
    assert metrics.accuracy(*given) == pytest.approx((predicted == targets).mean())
    if labels == 1:
        targets, predicted = targets[:, 0], predicted[:, 0]
    expected = sklearn.metrics.f1_score(targets, predicted, average="macro", zero_division=0)
    assert metrics.f1(*given) == pytest.approx(expected)


@given(seed=seeds, n=st.integers(2, 40), k=st.integers(1, 3), constant=st.booleans())
@settings(max_examples=60, deadline=None)
def test_regression_metrics_agree_with_scikit_learn(seed, n, k, constant):
    generator = np.random.default_rng(seed)
    targets, outputs = generator.normal(size=(2, n, k)) + 100
    if constant:
        targets[:, 0] = 3.0
    given = torch.tensor(outputs), torch.tensor(targets)
    assert metrics.mse(*given) == pytest.approx(sklearn.metrics.mean_squared_error(targets, outputs))
    assert metrics.mae(*given) == pytest.approx(sklearn.metrics.mean_absolute_error(targets, outputs))
    assert metrics.r2(*given) == pytest.approx(sklearn.metrics.r2_score(targets, outputs))
    root = sklearn.metrics.mean_squared_error(targets, outputs) ** 0.5
    assert metrics.rmse(*given) == pytest.approx(root) or k > 1


def test_r2_of_constant_targets_and_of_outputs_that_are_no_numbers():
    constant = torch.ones(3, 1)
    assert metrics.r2(constant, constant) == 1.0
    assert metrics.r2(constant + 1, constant) == 0.0
    assert np.isnan(metrics.r2(constant * torch.nan, constant))


def training(*names, loss="mse"):
    return TrainingSettings(loss=loss, metrics=names)


def test_param_error_is_the_distance_in_original_units(make_info):
    # Features with deviations 2 and 0.5: a standardised coefficient is the original one times the deviation.
    info = make_info("regression", (2,), truth=(3.0 * 2, -1.0 * 0.5))
    parts = (Number("a", 5.0, 2.0), Number("b", -1.0, 0.5))
    encoding = info.encoding.__class__(**{**vars(info.encoding), "parts": parts})
    info = make_info("regression", (2,), truth=info.truth, encoding=encoding)
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0 * 2 + 3 * 2, -1.0 * 0.5 + 4 * 0.5]]))
        model.bias.fill_(100.0)
    metric = build_metrics(training("param_error"), info, model)["param_error"]
    assert metric(torch.zeros(0), torch.zeros(0)) == pytest.approx(5.0)  # off by 3 and 4
    with torch.no_grad():
        model.weight.sub_(torch.tensor([[6.0, 2.0]]))
    assert metric(torch.zeros(0), torch.zeros(0)) == pytest.approx(0.0)


@pytest.mark.parametrize("standardize", [True, False])
def test_param_error_of_prepared_data_falls_to_the_noise(make_plan, standardize):
    plan = make_plan(
        model="linear",
        metrics=["param_error"],
        optimizer="lbfgs",
        lr=1.0,
        batch_size="full",
        training={"max_epochs": 3},
    )
    data = prepare_data(
        DataSettings(source="linear_gaussian", arguments={"sigma": 0.0}, standardize=standardize),
        plan.training.loss,
        Path(),
    ).for_trials()
    first = build_metrics(plan.training, data.info, Trainer(plan, data, threads=1).model)["param_error"]
    before = first(torch.zeros(0), torch.zeros(0))
    result = list(Trainer(plan, data, threads=1).epochs())[-1]
    assert result.metrics["param_error"] < 1e-3 * before


@pytest.mark.parametrize(
    "model",
    [nn.Sequential(nn.Linear(2, 1), nn.ReLU()), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), nn.PReLU(1)],
)
def test_param_error_needs_a_linear_model(make_info, model):
    with pytest.raises(ModelError, match="param_error needs a model of one linear layer"):
        build_metrics(training("param_error"), make_info("regression", (2,), truth=(1.0, 2.0)), model)


def test_param_error_needs_known_coefficients(make_info):
    with pytest.raises(
        ModelError, match="param_error compares with the weights that made the data, and these data"
    ):
        build_metrics(training("param_error"), make_info("regression", (2,)), nn.Linear(2, 1))


def test_functions_of_the_user_get_copies_and_their_own_names(make_info, user_code):
    names = (f"{user_code}:destructive", f"{user_code}:bias", f"{user_code}:mse", "mse")
    built = build_metrics(training(*names), make_info("regression", (2,)), nn.Linear(2, 1))
    outputs, targets = torch.tensor([[3.0], [1.0]]), torch.tensor([[1.0], [1.0]])
    found = measure(built, outputs, targets)
    assert found == {"destructive": 0.0, "bias": 1.0, "user_code:mse": 7.0, "mse": 2.0}
    assert list(found) == ["destructive", "bias", "user_code:mse", "mse"]


def test_a_function_must_return_a_number(make_info, user_code):
    built = build_metrics(training(f"{user_code}:wordy"), make_info("regression", (2,)), nn.Linear(2, 1))
    with pytest.raises(ModelError, match="metric user_code:wordy returned 'good'; it must return a number"):
        measure(built, torch.zeros(2, 1), torch.zeros(2, 1))


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ("torch.ones(2)", "tensor([1., 1.])"),
        ("torch.ones(300)", "tensor(["),
        ("10**400", "1000000"),
        ("16**9999", "a int"),
        ("{'value': 1}", "{'value': 1}"),
        ("1j", "1j"),
    ],
)
def test_wrong_metric_values_are_shown_in_short(tmp_path, monkeypatch, make_info, body, shown):
    (tmp_path / "odd_metrics.py").write_text(f"import torch\ndef odd(outputs, targets):\n    return {body}\n")
    monkeypatch.syspath_prepend(tmp_path)
    built = build_metrics(training("odd_metrics:odd"), make_info("regression", (2,)), nn.Linear(2, 1))
    with pytest.raises(ModelError, match=re.escape(f"metric odd_metrics:odd returned {shown}")) as raised:
        measure(built, torch.zeros(2, 1), torch.zeros(2, 1))
    assert str(raised.value).endswith("; it must return a number")
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    "name",
    ["trial_id", "epoch", "seconds", "diverged", "lr", "val_loss", "train_loss", "_step", "_timestamp"],
)
def test_a_metric_whose_name_is_taken_is_known_by_its_whole_reference(name: str) -> None:
    training = TrainingSettings(max_epochs=1, loss="mse", metrics=(f"my_code:{name}", "my_code:mine"))
    assert metric_names(training) == (f"my_code:{name}", "mine")
