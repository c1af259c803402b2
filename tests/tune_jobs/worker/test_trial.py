"""The worker's entry point: how a training ends in the report, and how a task reaches a worker."""

import math
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from tests.trainers.slope import Slope, SlopeSettings
from tune_jobs.driver.preparation import make_folder, prepare, trial_task
from tune_jobs.job.job import Job
from tune_jobs.record.codes import Cause
from tune_jobs.trainers.errors import Diverged
from tune_jobs.trainers.interface import EpochResult, StopReason, TrainingRequest
from tune_jobs.trainers.settings import ScoreSettings
from tune_jobs.worker.reporting import Report
from tune_jobs.worker.trial import Assignment, TrialTask, start_training, train

TRIAL = Assignment("0000", {})


@dataclass
class Epochs:
    """A training that yields the given losses. It is its own kind."""

    losses: Sequence[float]
    reason: StopReason | None = None
    """The reason of its end after all losses."""
    error: Exception | None = None
    """Raised when one more epoch is asked for."""
    name: str = "epochs"
    epoch: int = 0

    @property
    def max_epochs(self) -> int:
        return len(self.losses)

    @property
    def stop_reason(self) -> StopReason | None:
        return self.reason if self.epoch == len(self.losses) else None

    def start(self, request: TrainingRequest, data: None) -> "Epochs":
        return self

    def epochs(self) -> Iterator[EpochResult]:
        for loss in self.losses:
            self.epoch += 1
            yield EpochResult(
                epoch=self.epoch, metrics={"val_loss": loss}, seconds=0.0, diverged=math.isnan(loss)
            )
        if self.error is not None:
            raise self.error

    def save(self, file: BinaryIO) -> bool:
        return False

    def __enter__(self) -> "Epochs":
        return self

    def __exit__(self, *error: object) -> None: ...


@pytest.fixture
def last_report(tmp_path: Path) -> Callable[..., Report]:
    def train_and_report(training: Epochs, **changes: Any) -> Report:
        sent: list[dict[str, Any]] = []
        task = TrialTask(
            kind=training,
            score=ScoreSettings(metric="val_loss"),
            seed=0,
            rungs=(),
            threads=1,
            checkpoints=tmp_path,
            **changes,
        )
        train(TRIAL, task, None, sent.append)
        report = Report.of_result(sent[-1])
        assert report is not None
        return report

    return train_and_report


def test_the_reason_of_the_training_is_the_cause_of_the_end(last_report: Callable[..., Report]) -> None:
    report = last_report(Epochs([0.5, 0.25], StopReason.PATIENCE))
    assert (report.cause, report.epoch) == (Cause.PATIENCE, 2)


def test_a_training_is_ended_when_time_is_over(last_report: Callable[..., Report]) -> None:
    report = last_report(Epochs([0.5, 0.25], StopReason.MAX_EPOCHS), deadline=0.0)
    assert (report.cause, report.epoch) == (Cause.TIME_LIMIT, 1)


@pytest.mark.parametrize("losses", [[0.5, 0.25], [0.5, math.nan], []])
@pytest.mark.parametrize("deadline", [None, math.inf])
def test_a_training_that_ends_without_a_reason_has_failed(
    last_report: Callable[..., Report], losses: Sequence[float], deadline: float | None
) -> None:
    report = last_report(Epochs(losses), deadline=deadline)
    assert report.cause is Cause.TRAINING_FAILED
    assert f"the training ended after epoch {len(losses)} without a reason" in report.reason
    assert len(report.results) == len(losses)


def test_a_training_that_raises_diverged_has_diverged(last_report: Callable[..., Report]) -> None:
    report = last_report(Epochs([0.5, math.nan], error=Diverged("the loss is no number at epoch 2")))
    assert (report.cause, report.reason) == (Cause.DIVERGED, "the loss is no number at epoch 2")


def test_a_task_comes_back_from_pickle_as_it_was(tmp_path: Path) -> None:
    task = TrialTask(
        kind=Slope(slope=SlopeSettings()),
        score=ScoreSettings(metric="error"),
        seed=3,
        rungs=(1, 3),
        threads=2,
        checkpoints=tmp_path,
    )
    assert pickle.loads(pickle.dumps(task)) == task


@pytest.mark.slow
def test_a_worker_finds_the_kind_beside_the_job(tmp_path: Path) -> None:
    """The worker's path does not have the folder: the task names it before its kind is read."""
    source = (Path(__file__).parents[2] / "trainers" / "slope.py").read_text("utf-8")
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "my_slope.py").write_text(source, "utf-8")
    writing = (
        "import sys; sys.path.insert(0, sys.argv[1]); import pickle, pathlib\n"
        "from my_slope import Slope, SlopeSettings\n"
        "from tune_jobs.trainers.settings import ScoreSettings\n"
        "from tune_jobs.worker.trial import TrialTask\n"
        "task = TrialTask(kind=Slope(slope=SlopeSettings()), score=ScoreSettings(metric='val_loss'), seed=0, "
        "rungs=(), threads=1,\n"
        "    checkpoints=pathlib.Path('x'), module_path=(sys.argv[1],))\n"
        "sys.stdout.buffer.write(pickle.dumps(task))"
    )
    reading = "import pickle, sys; print(pickle.load(sys.stdin.buffer).kind.name, 'my_slope' in sys.modules)"
    pickled = subprocess.run(
        [sys.executable, "-c", writing, str(tmp_path / "job")], capture_output=True, check=True
    ).stdout
    done = subprocess.run(
        [sys.executable, "-c", reading], input=pickled, capture_output=True, check=True, cwd=tmp_path
    )
    assert done.stdout.split() == [b"slope", b"True"]


def test_a_worker_runs_the_code_that_the_run_began_with(
    make_sections: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    code = tmp_path / "nets_of_a_worker.py"
    code.write_text(
        "import torch\ndef make(input_shape): return torch.nn.Linear(*input_shape, 1, bias=False)\n"
    )
    changes = {"model": {"name": "nets_of_a_worker:make"}, "storage": str(tmp_path / "runs")}
    job = Job.from_mapping(make_sections(changes), tmp_path)
    prepared = prepare(job)
    assert prepared is not None
    folder = make_folder(job, prepared)
    code.write_text("raise RuntimeError('this is the code of another run')")
    task = pickle.loads(pickle.dumps(trial_task(job, folder)))
    with start_training(TRIAL, task, prepared.for_trials()) as training:
        assert [name for name, _ in training.model.named_parameters()] == ["weight"]
    del sys.modules["nets_of_a_worker"]
