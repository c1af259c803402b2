"""What is said of models, losses, metrics and devices that do not fit, and of tests of the winner."""

import shutil
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from tests.messages import runs
from tests.messages.conftest import Say
from tests.messages.jobs import JOB, write_job
from tests.messages.product import LEDGER, RunFolder
from tests.messages.snapshots import check
from tests.messages.trained import checkpoints, trained_run

OWN = """
    import os
    import sys
    import torch
    from torch import nn

    def plain(input_shape, outputs): return nn.Linear(input_shape[0], outputs)
    def needs(input_shape, outputs, width): return nn.Linear(input_shape[0], outputs)
    def fails(input_shape, outputs): raise RuntimeError("cannot be built")
    def words(input_shape, outputs): return "words"
    def fixed(input_shape, outputs):
        model = nn.Linear(input_shape[0], outputs)
        model.requires_grad_(False)
        return model
    def narrow(input_shape, outputs): return nn.Linear(1, outputs)
    def wide(input_shape, outputs): return nn.Linear(input_shape[0], outputs + 2)
    def listed(input_shape, outputs): return Made(lambda x: [x])
    def leaves(input_shape, outputs): return Made(lambda x: sys.exit(3))
    def stops(input_shape, outputs): return Made(stop)

    def stop(x):
        if len(x) > 2:
            raise RuntimeError("amid an epoch")
        return x[:, :1]

    class Made(nn.Module):
        def __init__(self, call):
            super().__init__()
            self.weight, self.call = nn.Parameter(torch.ones(1)), call
        def forward(self, x): return self.call(x * self.weight)

    def ends(input_shape, outputs):
        print("amid the layers")
        os.kill(os.getpid(), 9)
    def tokens(input_shape, outputs): return Made(lambda x: nn.Embedding(1, outputs)(x.long() - 9).mean(1))
    def doubles(input_shape, outputs): torch.set_default_dtype(torch.float64)

    def text_loss(outputs, targets): return "words"
    def vector_loss(outputs, targets): return (outputs - targets) ** 2
    def whole_loss(outputs, targets): return torch.tensor(1)
    def cut_loss(outputs, targets): return ((outputs - targets) ** 2).mean().detach()
    def smooth_loss(outputs, targets, smoothing): return ((outputs - targets) ** 2).mean() * smoothing
    class LossOfNothing: pass
    def words_of(parameters): return "words"
    def listed_schedule(optimizer): return [optimizer]
    def sums(x): return x.sum(1)
    def centred(x): return x - x.mean(0)
    def text_metric(outputs, targets): return "words"
    def vector_metric(outputs, targets): return torch.ones(3)
"""

CASES = {
    "a training": "--training.max_epochs 1",
    "a divergence": "--lr 1e30 --training.max_epochs 2",
    "needs an argument": "--model.name messages_models:needs --model.arguments {}",
    "cannot be built": "--model.name messages_models:fails --model.arguments {}",
    "no module": "--model.name messages_models:words --model.arguments {}",
    "nothing to train": "--model.name messages_models:fixed --model.arguments {}",
    "fails on rows": "--model.name messages_models:narrow --model.arguments {}",
    "another shape": "--model.name messages_models:wide --model.arguments {}",
    "no tensor": "--model.name messages_models:listed --model.arguments {}",
    "leaves": "--model.name messages_models:leaves --model.arguments {}",
    "raises in an epoch": "--model.name messages_models:stops --model.arguments {}",
    "standardised tokens": "--model.name messages_models:tokens --model.arguments {}",
    "the type of the process": "--model.name messages_models:doubles --model.arguments {}",
    "a model for images": "--model.name cnn --model.arguments {}",
    "a model that is too large": "--model.arguments.hidden [1000000000000000]",
    "a loss of text": "--training.loss messages_models:text_loss",
    "a loss of many numbers": "--training.loss messages_models:vector_loss",
    "a loss of a whole number": "--training.loss messages_models:whole_loss",
    "a loss without a gradient": "--training.loss messages_models:cut_loss",
    "a loss without its argument": "--training.loss messages_models:smooth_loss",
    "a loss with another argument": "--training.loss messages_models:smooth_loss --loss.smothing 0.5",
    "a built-in loss with another argument": "--loss.delta 0.5",
    "a loss that cannot be called": "--training.loss messages_models:LossOfNothing",
    "an optimizer that is none": "--optimizer messages_models:words_of",
    "an optimizer of many evaluations": "--optimizer torch.optim:LBFGS",
    "an argument of a built-in optimizer": "--optimizer.betas [0.9,0.99]",
    "a schedule that is none": "--training.schedule.name messages_models:listed_schedule",
    "a transform that fails": "--data.transform messages_models:sums --data.length 3",
    "a transform of another shape": "--data.transform messages_models:sums",
    "a transform across rows": "--data.transform messages_models:centred",
    "an argument of no transform": "--data.length 3",
    "a part of the data": "--search.space.data.split.seed 3",
    "a metric of text": "--training.metrics [messages_models:text_metric]",
    "a metric of many numbers": "--training.metrics [messages_models:vector_metric]",
    "weights that nobody knows": "--training.metrics [param_error] --model.name linear --model.arguments {}",
    "a batch of one row": "--model.arguments.batch_norm true --batch_size 29",
    "a score that is not measured": "--selection.metric mse",
    "no such device": "--training.device cuda",
    "no such model": "--model.name messages_models:plan --model.arguments {}",
    "no such package": "--model.name messages_models.part:plain --model.arguments {}",
}


@pytest.mark.slow
def test_trainings_that_fail(place: Path, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    write_job(place)
    (place / "messages_models.py").write_text(textwrap.dedent(OWN))
    said = {name: say(f"train job.yaml {overrides}") for name, overrides in CASES.items()}
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    said["a device beyond the last"] = say("train job.yaml --training.device cuda:7")
    classes = "--training.metrics [] --training.loss"
    (place / "rows.csv").write_text("a,y\n" + "".join(f"{n},{n % 3}\n" for n in range(30)))
    said["a linear layer of one class"] = say(f"train job.yaml {classes} binary_cross_entropy")
    said["validated"] = say("validate job.yaml --model.name messages_models:plain --model.arguments {}")
    said["validated for a GPU"] = say(
        "validate job.yaml --model.name messages_models:plain --model.arguments {} --training.device cuda:99"
    )
    said["validated, and ends"] = say(
        "validate job.yaml --model.name messages_models:ends --model.arguments {}"
    )
    check("training", said, {place: "FOLDER"}, numbers=False)


def test_code_that_has_changed(place: Path, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    text = JOB.replace("max_epochs: 9", "max_epochs: 2").replace("trials: 6", "trials: 1")
    text = text.replace("{source: rows.csv, target: y}", "{source: linear_gaussian, arguments: {n: 50}}")
    code, layers = place / "messages_code.py", place / "messages_layers.py"
    net = "def net(input_shape, outputs, hidden): return Layer(*input_shape, outputs)"
    code.write_text(f"from messages_layers import Layer\n{net}\n")
    layers.write_text("from torch.nn import Linear as Layer\n")
    made = trained_run(runs.job_in(place, text.replace("name: mlp", "name: 'messages_code:net'")))
    shutil.move(made.path, place / "runs" / "own")
    said = {"as it was": say("repair runs/own")}
    layers.write_text("from torch.nn import Bilinear as Layer\n")
    said["changed, tested"] = say("test runs/own")
    said["changed, resumed"] = say("resume runs/own --search.trials 2")
    layers.unlink()
    said["missing"] = say("test runs/own")
    shutil.copyfile(place / "runs" / "own" / "modules" / layers.name, layers)
    said["restored"] = say("test runs/own")
    code.unlink(), layers.unlink()
    monkeypatch.delitem(sys.modules, "messages_code"), monkeypatch.delitem(sys.modules, "messages_layers")
    said["moved away"] = say("test runs/own --again --reason 'from the copies'")
    check("changed_code", said, {place: "FOLDER"}, numbers=False)


def test_tests_of_the_winner(place: Path, say: Say) -> None:
    text = (
        JOB.replace("max_epochs: 9", "max_epochs: 2")
        .replace("trials: 6", "trials: 1")
        .replace("{source: rows.csv, target: y}", "{source: linear_gaussian, arguments: {n: 50}}")
        + "scheduler: {method: none}\n"
    )
    made = trained_run(runs.job_in(place, text))
    folder = RunFolder(Path(shutil.move(made.path, place / "runs" / "trained")))
    said = {"made": say("repair runs/trained")}

    def copied(name: str) -> RunFolder:
        return RunFolder(Path(shutil.copytree(folder.path, place / "runs" / name)))

    for path in checkpoints(copied("without-checkpoints")):
        path.unlink()
    said["without checkpoints"] = say("test runs/without-checkpoints")
    for path in checkpoints(copied("damaged-checkpoints")):
        path.write_bytes(b"words")
    said["with damaged checkpoints"] = say("test runs/damaged-checkpoints")
    rows = next(path for path in copied("without-rows").holdout.iterdir() if path.suffix == ".npz")
    rows.unlink()
    said["without rows"] = say("test runs/without-rows")
    rows = next(path for path in copied("damaged-rows").holdout.iterdir() if path.suffix == ".npz")
    rows.write_bytes(b"words")
    said["with damaged rows"] = say("test runs/damaged-rows")
    other = next(path for path in copied("other-rows").holdout.iterdir() if path.suffix == ".npz")
    np.savez(other, x=np.ones((2, 2)), y=np.ones(2))
    said["with the rows of another run"] = say("test runs/other-rows")
    encoding = copied("other-encoding").data_info
    encoding.write_text(encoding.read_text() + "\n")
    said["with another encoding"] = say("test runs/other-encoding")
    changed = copied("changed-job")
    changed.job.write_text(changed.job.read_text().replace("seed: 0", "seed: 1", 1))
    said["with another job"] = say("show runs/changed-job")
    for name, line in {
        "the first test": "test runs/trained",
        "the second": "test runs/trained",
        "the second, without a reason": "test runs/trained --again",
        "the second, with a reason": "test runs/trained --again --reason 'the table'",
        "shown": "show runs/trained",
        "resumed, with nothing left": "resume runs/trained",
        "resumed, with another seed": "resume runs/trained --seed 3",
        "resumed, with a misspelt key": "resume runs/trained --serach.trials 3",
        "resumed, with fewer trials": "resume runs/trained --search.trials 0",
    }.items():
        said[name] = say(line)
    assert (folder.holdout / LEDGER).exists()
    check("tests", said, {place: "FOLDER"}, numbers=False)
