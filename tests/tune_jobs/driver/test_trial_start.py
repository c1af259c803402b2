"""A training is started in a process of its own, which the user's code may end, stop or fill."""

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tune_jobs.driver.preparation import prepare
from tune_jobs.driver.trial_start import answer, start_one, start_text
from tune_jobs.job.job import Job
from tune_jobs.trainers.errors import TrainerError
from tune_jobs.trainers.interface import TrainingRequest
from tune_jobs.trainers.pytorch.settings import VALIDATION_LOSS

MakeSections = Callable[..., dict[str, Any]]

NETS = """
import os
import signal
import subprocess
import time
from pathlib import Path
from torch import nn

def plain(input_shape, outputs, hidden=(4,)):
    print("nothing that validate shows")
    return nn.Linear(input_shape[0], outputs)

def fails(input_shape, outputs, hidden=(4,)):
    raise RuntimeError("cannot be built")

def hangs(input_shape, outputs, hidden=(4,)):
    Path("child").write_text(str(subprocess.Popen(["sleep", "1000"]).pid))
    time.sleep(1000)

def is_killed(input_shape, outputs, hidden=(4,)):
    print("so many layers", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def job_with(
    make_sections: MakeSections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Job]:
    def make(function: str, **changes: Any) -> Job:
        (tmp_path / "nets_to_start.py").write_text(NETS)
        model = {"name": f"nets_to_start:{function}", "arguments": {}}
        return Job.from_mapping(make_sections({"model": model, **changes}), tmp_path)

    monkeypatch.chdir(tmp_path)
    return make


def answer_of(job: Job) -> dict[str, Any]:
    """Answer in this process."""
    prepared = prepare(job)
    assert prepared is not None
    request = TrainingRequest(
        configuration={"model.hidden": [4]}, seed=0, max_epochs=9, score=VALIDATION_LOSS, threads=1
    )
    return answer([str(job.folder)], pickle.dumps((job.kind, request, prepared.for_trials())))


def test_only_user_code_of_a_training_is_started(
    job_with: Callable[..., Job], make_sections: MakeSections
) -> None:
    assert job_with("plain").facts.starts_user_code
    assert not Job.from_mapping(make_sections()).facts.starts_user_code


def test_the_answer_says_what_is_wrong(job_with: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    assert answer_of(job_with("plain")) == {}
    assert "RuntimeError: cannot be built" in answer_of(job_with("fails"))["problem"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert answer_of(job_with("plain", **{"training/device": "cuda"})) == {"device": True}
    monkeypatch.setattr("tune_jobs.driver.trial_start.versions_here", lambda packages: {"python": "3.11"})
    job = job_with("fails")
    assert start_one(job, prepare(job)) is None
    assert start_text(None) == "not tried, because this machine lacks the device or the packages of the job"


@pytest.mark.slow
def test_a_model_that_can_be_built_harms_nothing(
    job_with: Callable[..., Job], capfd: pytest.CaptureFixture[str]
) -> None:
    job = job_with("plain")
    configuration = start_one(job, prepare(job))
    assert configuration is not None
    assert not job.search.space.problems(configuration)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_its_last_line(job_with: Callable[..., Job]) -> None:
    job = job_with("is_killed")
    with pytest.raises(
        TrainerError,
        match=r"was ended by SIGKILL, probably because the memory was full; its last line was: so many layers",
    ):
        start_one(job, prepare(job))


@pytest.mark.slow
def test_a_process_that_hangs_is_ended_with_all_that_it_started(
    job_with: Callable[..., Job], tmp_path: Path
) -> None:
    job = job_with("hangs")
    with pytest.raises(
        TrainerError, match=r"had not built the training after 8 s, the time that it has here"
    ):
        start_one(job, prepare(job), 8)
    if (tmp_path / "child").exists():  # on a slow machine, the import of torch takes all the time
        child = Path("/proc", (tmp_path / "child").read_text(), "status")
        assert not child.exists() or "zombie" in child.read_text()
