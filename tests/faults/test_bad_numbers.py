"""Losses, gradients and metrics that are not numbers, and worse faults of user code, in real runs.

Each fault affects one trial: it fails with a reason in one line, or is scored on its finite epochs. A value that is
not finite never wins and never counts as a score in the search, and the other trials continue.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.faults.injection import CHAOS, Tally
from tests.tune_jobs.runs import change
from tune_jobs import Job, Run, run
from tune_jobs.record.events import Event
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import read_journal
from tune_jobs.search.history import SearchHistory

pytestmark = pytest.mark.slow

TALLY = Tally("bad numbers")

MAX_EPOCHS = 6

CODE = '''
"""A model whose argument says what it, its loss and its metric do wrong."""

import sys
import numpy as np
import torch
from torch import nn

now = None
"""What the trial does wrong: a worker trains one trial at a time."""
epochs = 0
"""Validations so far, of this trial."""


class Backward(torch.autograd.Function):
    @staticmethod
    def forward(context, x, factor):
        context.factor = factor
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        if context.factor is None:
            raise ValueError("no way back")
        return gradient * context.factor, None


class Net(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x):
        out = self.linear(x)
        nan = float("nan")
        match now, self.training:
            case "nan outputs", _:
                return out * nan
            case "infinite outputs", _:
                return out / 0
            case "nan outputs later", True if epochs >= 3:
                return out * nan
            case "nan outputs in validation", False:
                return out * nan
            case "nan outputs in one validation row", False:
                out[0] = nan
            case "nan outputs in validation later", False if epochs >= 3:
                return out * nan
            case "nan gradients", True:
                return Backward.apply(out, nan)
            case "infinite gradients", True:
                return Backward.apply(out, float("inf"))
            case "no way back", True:
                return Backward.apply(out, None)
            case "exploding weights", True:
                return out * 1e19
            case "no rows", True:
                return out[:0]
            case "half precision", True:
                return out.half() * 1e5
            case "recursion", True:
                return self(x)
            case "recursion in validation", False if epochs >= 1:
                return self(x)
            case "sys.exit", True:
                sys.exit("enough\\nof this")
            case "sys.exit in validation", False if epochs >= 2:
                sys.exit()
            case "raises", True:
                raise RuntimeError("of its own\\naccord")
            case "raises without a word", True:
                raise RuntimeError
            case "raises what cannot be shown", True:
                raise Unspeakable
            case "raises at length", True:
                raise RuntimeError("word " * 100_000)
            case "raises half a letter", True:
                raise RuntimeError("\\udcff")
            case "interrupts", True:
                raise KeyboardInterrupt
            case "raises below", True:
                raise Below("not an Exception")
            case "returns nothing", True:
                return None
            case "text outputs", True:
                return "outputs"
        return out


class Unspeakable(Exception):
    def __str__(self):
        raise ValueError("no words")


class Below(BaseException):
    pass


def net(how, input_shape, outputs):
    global now, epochs
    now, epochs = how, 0
    return Net(input_shape[0], outputs)


def batches(outputs, targets):
    """Counts the batches of validation, of which there is one an epoch."""
    global epochs
    if not torch.is_grad_enabled():
        epochs += 1
    return ((outputs - targets) ** 2).mean()


def loss(outputs, targets):
    value = batches(outputs, targets)
    training = torch.is_grad_enabled()
    match now, training:
        case "loss: rows", _:
            return (outputs - targets) ** 2
        case "loss: whole number", _:
            return 7
        case "loss: number", False:
            return value.item()
        case "loss: text", _:
            return "small"
        case "loss: none", _:
            return None
        case "loss: detached", True:
            return value.detach()
        case "loss: complex", _:
            return torch.complex(value, value)
        case "loss: complex in validation", False:
            return torch.complex(value, value)
        case "loss: whole tensor", True:
            return value.round().long()
        case "loss: true", False:
            return value > 0
        case "loss: numpy", _:
            return np.float64(value.item())
        case "loss: nan", _:
            return value * float("nan")
        case "loss: minus infinity", _:
            return -value / 0
        case "loss: nan now and then", True if torch.rand(()) < 0.5:
            return value * float("nan")
        case "loss: raises", True:
            raise KeyError("loss")
        case "loss: another graph", True:
            return torch.ones((), requires_grad=True).log() + 1
    return value


def measured(outputs, targets):
    nan = float("nan")
    value = float(((outputs - targets) ** 2).mean())
    match now:
        case "metric: text":
            return "good"
        case "metric: number as text":
            return str(value)
        case "metric: none":
            return None
        case "metric: two numbers":
            return torch.ones(2)
        case "metric: one number in a list":
            return [value]
        case "metric: complex":
            return 1j
        case "metric: mapping":
            return {"value": value}
        case "metric: too large":
            return 10**400
        case "metric: raises":
            raise RuntimeError("cannot measure")
        case "metric: exits":
            sys.exit(3)
        case "metric: nan":
            return nan
        case "metric: infinite":
            return float("inf")
        case "metric: minus infinity":
            return -float("inf")
        case "metric: nan now and then":
            return nan if epochs % 2 else value
        case "metric: nan at first":
            return nan if epochs < 4 else value
        case "metric: nan in the end":
            return nan if epochs > 1 else value
        case "metric: infinite now and then":
            return -float("inf") if epochs % 2 else value
        case "metric: numpy":
            return np.float32(value)
        case "metric: numpy array of one":
            return np.array(value)
        case "metric: tensor":
            return torch.tensor(value)
        case "metric: true":
            return True
        case "metric: whole number":
            return 10**30
        case "metric: nearly too large":
            return 1.7e308
        case "metric: writes":
            outputs.zero_()
            targets.zero_()
    return value
'''

FAILED = {
    "nan outputs": "the training loss is nan at epoch 1; lower lr",
    "infinite outputs": "the training loss is (inf|nan) at epoch 1; lower lr",
    "nan outputs later": "the training loss is nan at epoch 4; lower lr",
    "nan outputs in validation": "the validation loss is nan at epoch 1; lower lr",
    "nan outputs in one validation row": "the validation loss is nan at epoch 1; lower lr",
    "nan outputs in validation later": "the validation loss is nan at epoch 4; lower lr",
    "nan gradients": "the (training|validation) loss is nan at epoch 1; lower lr",
    "infinite gradients": "the (training|validation) loss is (nan|inf) at epoch 1; lower lr",
    "no way back": "ValueError: no way back",
    "exploding weights": "the (training|validation) loss is (nan|inf) at epoch 1; lower lr",
    "no rows": "",
    "half precision": "the (training|validation) loss is (nan|inf) at epoch 1; lower lr",
    "recursion": "RecursionError: maximum recursion depth exceeded",
    "recursion in validation": "RecursionError: maximum recursion depth exceeded",
    "sys.exit": r"RuntimeError: the user's code called sys\.exit\(enough of this\)",
    "sys.exit in validation": r"RuntimeError: the user's code called sys\.exit\(None\)",
    "raises": "RuntimeError: of its own accord",
    "raises without a word": "RuntimeError",
    "raises what cannot be shown": "Unspeakable",
    "raises at length": r"RuntimeError: word word .{,1000}$",
    "raises half a letter": "RuntimeError: ",
    "interrupts": "",
    "raises below": "Below: not an Exception",
    "returns nothing": "",
    "text outputs": "",
    "loss: rows": r"loss bad_code:loss returned a tensor of shape \[8, 1\]; it must return a scalar tensor of",
    "loss: whole number": "loss bad_code:loss returned a int; it must return a scalar tensor of",
    "loss: number": "loss bad_code:loss returned a float; it must return a scalar tensor of",
    "loss: text": "loss bad_code:loss returned a str; it must return a scalar tensor of",
    "loss: none": "loss bad_code:loss returned a NoneType; it must return a scalar tensor of",
    "loss: detached": "loss bad_code:loss returned a tensor without a gradient",
    "loss: complex": "loss bad_code:loss returned a tensor of complex64; it must",
    "loss: complex in validation": "loss bad_code:loss returned a tensor of complex64; it must",
    "loss: whole tensor": "loss bad_code:loss returned a tensor of int64; it must",
    "loss: true": "loss bad_code:loss returned a tensor of bool; it must",
    "loss: numpy": "loss bad_code:loss returned a float64; it must return a scalar tensor of",
    "loss: nan": "the training loss is nan at epoch 1; lower lr",
    "loss: minus infinity": "the training loss is (-inf|nan) at epoch 1; lower lr",
    "loss: nan now and then": "the training loss is nan at epoch 1; lower lr",
    "loss: raises": "KeyError: 'loss'",
    "metric: text": "metric bad_code:measured returned 'good'; it must return a number",
    "metric: none": "metric bad_code:measured returned None; it must return a number",
    "metric: two numbers": r"metric bad_code:measured returned tensor\(\[1\., 1\.\]\); it must return a number",
    "metric: one number in a list": r"metric bad_code:measured returned \[.*\]; it must return a number",
    "metric: complex": "metric bad_code:measured returned 1j; it must return a number",
    "metric: mapping": r"metric bad_code:measured returned \{'value': .*\}; it must return a number",
    "metric: too large": "metric bad_code:measured returned 10{20,}…; it must return a number",
    "metric: raises": "RuntimeError: cannot measure",
    "metric: exits": r"RuntimeError: the user's code called sys\.exit\(3\)",
}
"""Faults of a trial, and the reason of its failure with any metric of selection."""

FAILED_BY_METRIC = {
    "metric: nan": "no epoch had a finite score",
    "metric: infinite": "no epoch had a finite score",
    "metric: minus infinity": "no epoch had a finite score",
}
"""Faults of a trial, and the reason of its failure if the custom metric selects trials."""

SCORED = (
    "nothing",
    "loss: another graph",
    "metric: number as text",
    "metric: nan now and then",
    "metric: nan at first",
    "metric: nan in the end",
    "metric: infinite now and then",
    "metric: numpy",
    "metric: numpy array of one",
    "metric: tensor",
    "metric: true",
    "metric: whole number",
    "metric: nearly too large",
    "metric: writes",
)
"""Faults with which a trial still has a score."""


@pytest.fixture(scope="module", autouse=True)
def ray_running() -> Iterator[None]:
    """Start one Ray for all runs of this file, and write the line of the table at the end."""
    from tune_jobs.tuning.ray_session import ray_connection

    with ray_connection():
        yield
    TALLY.report()


def make_job(folder: Path, space: Mapping[str, Any], **changes: Any) -> Job:
    """Return a job on 60 training rows with the model, loss and metric of `CODE` and with changes by path (a/b)."""
    sections: dict[str, Any] = {
        "name": "bad-numbers",
        "data": {"source": "linear_gaussian", "arguments": {"n": 100, "sigma": 0.1}},
        "model": {"name": "bad_code:net"},
        "training": {"max_epochs": MAX_EPOCHS, "loss": "bad_code:loss", "metrics": ["bad_code:measured"]},
        "search": {
            "space": {"lr": 0.01, "batch_size": 8, **space},
            "method": "grid",
            "trials": 1000,
        },
        "scheduler": {"method": "none"},
        "limits": {"retries_per_trial": 0},
        "resources": {"max_concurrent": 1},
        "storage": str(folder / "runs"),
    }
    change(sections, changes)
    (folder / "bad_code.py").write_text(CODE)
    return Job.from_mapping(sections, folder)


def check(made: Run, failed: Mapping[str, str]) -> None:
    """Check the promises of every run, however bad its numbers are: see the head of this file."""
    trials = made.trials
    assert len(trials) == made.job.trials, "a trial is missing"
    assert not trials["status"].isin(["running", "pending", "waiting", "interrupted"]).any()
    assert trials["reason"].str.len().gt(0).all()
    assert not trials["reason"].str.contains("\n").any(), "a reason is one line"
    ended = trials["status"] != "failed"
    assert trials[ended]["score"].map(math.isfinite).all()
    assert made.winner_id in set(trials[ended]["trial_id"])
    sign = 1 if made.job.selection.mode == "min" else -1
    assert made.winner.score == sign * (sign * trials[ended]["score"]).min()
    assert (made.epochs["trial_id"].isin(trials["trial_id"])).all()
    json.loads((made.path / "selection.json").read_text(), parse_constant=_no_number)
    assert_never_a_value(made, read_journal(RunFolder(made.path).journal))
    reasons = {
        how: (status, reason)
        for how, status, reason in zip(
            trials["config.model.how"], trials["status"], trials["reason"], strict=True
        )
    }
    wrong = {
        how: (status, reason)
        for how, (status, reason) in reasons.items()
        if (status == "failed") != (how in failed) or not re.match(failed.get(how, ""), reason)
    }
    assert not wrong
    count(made)


def count(made: Run) -> None:
    """Count the trials of a run that ended as it should for the table."""
    failed = int((made.trials["status"] == "failed").sum())
    TALLY.injected += len(made.trials)
    TALLY.outcomes["failed, with a reason"] += failed
    TALLY.outcomes["scored on finite epochs"] += len(made.trials) - failed


def _no_number(name: str) -> None:
    raise AssertionError(f"{name} stands in selection.json")


def assert_never_a_value(made: Run, events: list[Event]) -> None:
    """Check that the search has finite scores of epochs with finite scores, and infinite or no scores for the rest."""
    job = made.job
    rungs = job.rungs
    history = SearchHistory.replay(events, job.search.space, rungs, job.max_epochs, job.selection)
    known = history.snapshot()
    assert not known.running
    sign = 1 if job.selection.mode == "min" else -1
    for epoch, scores in known.scores.items():
        for trial_id, score in scores.items():
            seen = [
                sign * result[job.selection.metric]
                for number, result in made.record.trials[trial_id].epochs.items()
                if number <= epoch and math.isfinite(result[job.selection.metric])
            ]
            assert score == math.inf or (seen and score == min(seen)), (trial_id, epoch, score)
    for trial in made.record.with_status(*{t.status for t in made.record.trials.values()}):
        if trial.status == "failed":
            last = known.scores[job.max_epochs].get(trial.trial_id, math.inf)
            assert last == math.inf, (trial.trial_id, "failed, and has a score at the last epoch")


def test_each_fault_ends_its_own_trial_alone(tmp_path: Path) -> None:
    faults = [*FAILED, *FAILED_BY_METRIC, *SCORED]
    made = run(make_job(tmp_path, {"model.how": {"values": faults}}))
    check(made, FAILED)
    by_fault = made.trials.set_index("config.model.how")
    assert by_fault["epochs"]["nan outputs later"] == 4, (
        "the epochs before the fault are recorded, and its own"
    )
    assert by_fault["epochs"]["recursion in validation"] == 1


def test_a_metric_that_is_no_number_is_scored_on_its_finite_epochs(tmp_path: Path) -> None:
    faults = [*(fault for fault in FAILED if fault.startswith("metric")), *FAILED_BY_METRIC, *SCORED]
    selection = {"selection": {"metric": "measured", "mode": "min"}}
    made = run(make_job(tmp_path, {"model.how": {"values": faults}}, **selection))
    check(made, {**FAILED, **FAILED_BY_METRIC})
    best = made.trials.set_index("config.model.how")["best_epoch"]
    assert best["metric: nan at first"] >= 4
    assert best["metric: nan in the end"] == 1
    assert best["metric: nan now and then"] % 2 == 0


ALL_RUNGS = [
    (scheduler, mode) for mode in ("min", "max") for scheduler in ("asha", "asha_stopping", "median")
]


@pytest.mark.parametrize(("scheduler", "mode"), ALL_RUNGS if CHAOS else [("asha", "min"), ("median", "max")])
def test_bad_numbers_at_rungs(tmp_path: Path, scheduler: str, mode: str) -> None:
    """Trials are compared with others that have no finite score at the rung. The search follows all of them."""
    always = {
        "nan outputs in validation",
        "loss: nan",
        "raises",
        "metric: nan",
        "metric: infinite",
        "metric: text",
    }
    # A scheduler may stop these before they fail, or before they have a finite score.
    perhaps = {
        "nan outputs later",
        "metric: nan at first",
        "metric: nan now and then",
        "metric: infinite now and then",
    }
    sound = {"nothing", "metric: nan in the end"}
    changes = {
        "scheduler": {"method": scheduler, "grace_epochs": 1, "reduction_factor": 2},
        "selection": {"metric": "measured", "mode": mode},
    }
    faults = sorted({*always, *perhaps, *sound})
    made = run(
        make_job(tmp_path, {"model.how": {"values": faults}, "lr": {"values": [0.01, 0.02]}}, **changes)
    )
    failed = made.trials["status"] == "failed"
    assert always <= set(made.trials["config.model.how"][failed]) <= always | perhaps
    assert not always & set(made.trials["config.model.how"][~failed])
    assert_never_a_value(made, read_journal(RunFolder(made.path).journal))
    assert math.isfinite(made.winner.score)
    count(made)


@pytest.mark.parametrize("method", ["gp", "tpe", "random"] if CHAOS else ["gp"])
def test_a_search_continues_among_bad_numbers(tmp_path: Path, method: str) -> None:
    """A model of the search that saw NaN, or numbers whose squares overflow, would fail or propose nonsense."""
    faults = [
        "nothing",
        "loss: nan",
        "metric: nan",
        "metric: nearly too large",
        "metric: minus infinity",
        "raises",
    ]
    space = {"model.how": {"values": faults}, "lr": {"low": 1e-4, "high": 1e30, "log": True}}
    changes = {
        "search/method": method,
        "search/trials": 40,
        "training/max_epochs": 2,
        "scheduler": {"method": "asha", "grace_epochs": 1, "reduction_factor": 2},
        "selection": {"metric": "measured", "mode": "min"},
        "training/schedule": {"name": "plateau", "patience": 0},
        "training/early_stopping": {"patience": 1, "threshold": 0.001},
    }
    made = run(make_job(tmp_path, space, **changes))
    assert len(made.trials) == 40
    assert_never_a_value(made, read_journal(RunFolder(made.path).journal))
    assert math.isfinite(made.winner.score)
    failed = made.trials["status"] == "failed"
    assert failed.any()
    assert not made.trials["config.model.how"][~failed].isin(["loss: nan", "metric: nan", "raises"]).any()
    count(made)


def test_gradients_that_are_not_numbers_are_not_clipped_into_numbers(tmp_path: Path) -> None:
    faults = ["nan gradients", "infinite gradients", "exploding weights", "nothing"]
    space = {"model.how": {"values": faults}, "optimizer": {"values": ["sgd", "adam", "rmsprop", "lbfgs"]}}
    made = run(make_job(tmp_path, space, **{"training/clip_grad_norm": 1.0}))
    trials = made.trials.set_index(["config.model.how", "config.optimizer"])["status"]
    for optimizer in ("sgd", "adam", "rmsprop", "lbfgs"):
        assert trials["nan gradients", optimizer] == "failed"
        assert trials["infinite gradients", optimizer] == "failed"
        # L-BFGS uses differences of gradients, which clipping makes meaningless.
        assert trials["nothing", optimizer] == "completed" or optimizer == "lbfgs"
    assert_never_a_value(made, read_journal(RunFolder(made.path).journal))
    count(made)


def test_a_batch_of_one_row_cannot_be_normalised(tmp_path: Path) -> None:
    space = {"batch_size": {"values": [1, 59, 8, "full"]}, "model.batch_norm": {"values": [True, False]}}
    changes = {
        "model": {"name": "mlp", "arguments": {"hidden": [4]}},
        "training/loss": "mse",
        "training/metrics": [],
    }
    made = run(make_job(tmp_path, space, **changes))
    assert len(made.trials) == 8
    for trial in made.trials.itertuples():
        configuration = made.record.trials[trial.trial_id].configuration
        of_one = configuration["batch_size"] in (1, 59) and configuration["model.batch_norm"]
        assert (trial.status == "failed") == of_one, (configuration, trial.reason)
        if of_one:
            assert trial.reason.startswith("batch normalisation needs two rows or more in every batch")
    assert_never_a_value(made, read_journal(RunFolder(made.path).journal))
    count(made)
