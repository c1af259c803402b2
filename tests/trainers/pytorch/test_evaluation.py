import pytest
import torch
from torch import nn

from tune_jobs.trainers.pytorch import batching
from tune_jobs.trainers.pytorch.evaluation import evaluate
from tune_jobs.trainers.pytorch.losses import build_loss
from tune_jobs.trainers.pytorch.metrics import mse, rmse
from tune_jobs.trainers.pytorch.tensors import TensorRows

N = 25


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    return TensorRows(torch.randn(N, 3, generator=generator), torch.randn(N, 1, generator=generator))


@pytest.mark.parametrize("chunk", [1, 4, 24, 25, 1000])
def test_means_are_over_rows_and_metrics_over_all_rows_at_once(rows, monkeypatch, chunk):
    monkeypatch.setattr(batching, "_CPU_BLOCK", chunk * 3 * 4)
    model = nn.Linear(3, 1)
    found = evaluate(model, rows, build_loss("mse"), {"mse": mse, "rmse": rmse})
    expected = ((model(rows.x) - rows.y) ** 2).mean().item()
    assert found.loss == pytest.approx(expected)
    assert found.metrics == pytest.approx({"mse": expected, "rmse": expected**0.5})


def test_the_model_is_evaluated_in_evaluation_mode_without_gradients_and_its_mode_put_back(rows):
    class Probe(nn.Linear):
        modes = ()

        def forward(self, x):
            self.modes = (*self.modes, (self.training, torch.is_grad_enabled()))
            return super().forward(x)

    model = Probe(3, 1)
    for training in (True, False):
        model.train(training)
        evaluate(model, rows, build_loss("mse"), {})
        assert model.training is training
    assert set(model.modes) == {(False, False)}


def test_the_mode_is_put_back_after_an_error(rows):
    model = nn.Linear(4, 1)
    with pytest.raises(RuntimeError):
        evaluate(model, rows, build_loss("mse"), {})
    assert model.training


def test_rows_are_left_alone(rows):
    class InPlace(nn.Linear):
        def forward(self, x):
            return super().forward(x.zero_())

    def loss(outputs, targets):
        return (outputs - targets.zero_()).mean()

    before = rows.x.clone(), rows.y.clone()
    found = evaluate(InPlace(3, 1), rows, loss, {"mse": lambda outputs, targets: float(targets.abs().sum())})
    assert torch.equal(rows.x, before[0])
    assert torch.equal(rows.y, before[1])
    assert found.metrics["mse"] == pytest.approx(before[1].abs().sum().item())
