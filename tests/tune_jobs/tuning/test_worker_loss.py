"""Trials whose workers die, crash, run out of memory, hang, or are lost with their machine, under a real Ray."""

import os
import pickle
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError, RayActorError

from tests.processes import PATIENCE
from tests.trainers.slope_command import COMMAND, with_repository
from tests.tune_jobs.runs import line_in, lines
from tune_jobs import Job, Run, run
from tune_jobs.driver.train_alone import train_one
from tune_jobs.job.file import dump_yaml
from tune_jobs.record.events import WorkerLost
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import read_journal
from tune_jobs.tuning.ray_patches import WorkerOutOfMemory
from tune_jobs.tuning.worker_loss import WorkerLoss, failure_after, loss_by

MakeJob = Callable[..., Job]

NODE_DIED = """The actor died unexpectedly before finishing this task.
\tpid: 5815
The actor died because its node has died. Node Id: 73819f6f
\tthe actor's node was terminated unexpectedly: health check failed due to missing too many heartbeats"""
PROCESS_DIED = """The actor died unexpectedly before finishing this task.
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: ..."""
MEMORY = """1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 10.0.0.1, ID: a6)
was 3.31GB used / 23.54GB limit (0.140784)"""


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    def make(*hows: str, **changes: Any) -> Job:
        rungs = {"scheduler/grace_epochs": 2, "scheduler/reduction_factor": 2, "slope/folder": str(tmp_path)}
        return line_in(tmp_path, {**lines(*((how, 0.0) for how in hows)), **rungs, **changes})

    return make


def losses_of(made: Run) -> list[WorkerLost]:
    return [event for event in read_journal(RunFolder(made.path).journal) if isinstance(event, WorkerLost)]


# Messages of Ray


@pytest.mark.parametrize(
    ("error", "loss"),
    [
        (
            NODE_DIED,
            WorkerLoss(
                "the worker's machine was lost (health check failed due to missing too many heartbeats)",
                of_node=True,
            ),
        ),
        (RayActorError(preempted=True), WorkerLoss("the worker's machine was lost", of_node=True)),
        (
            ActorUnavailableError("RpcError: Socket closed", None),
            WorkerLoss("the worker's machine can no longer be reached", of_node=True),
        ),
        (
            PROCESS_DIED,
            WorkerLoss("the worker died: it crashed, was killed, or the system ended it because memory ran out"),
        ),
        (
            WorkerOutOfMemory(MEMORY),
            WorkerLoss(
                "Ray ended the worker because the machine ran out of memory (3.31GB used / 23.54GB limit)"
            ),
        ),
        (OutOfMemoryError(""), WorkerLoss("Ray ended the worker because the machine ran out of memory")),
        (ActorDiedError(), WorkerLoss("the worker died: The actor died unexpectedly before finishing this task.")),
        (None, WorkerLoss("the worker died: the reason is unknown")),
    ],
)  # fmt: skip
def test_a_loss_is_described_in_plain_words(error: Exception | str | None, loss: WorkerLoss) -> None:
    assert loss_by(error) == loss


def test_a_failure_says_how_often_it_was_tried() -> None:
    died = WorkerLoss("it died")
    after = partial(failure_after, died, machines_lost=0)
    assert after(workers_lost=0, retries=0) == "it died"
    assert after(workers_lost=0, retries=1) is None
    assert (
        after(workers_lost=1, retries=1)
        == "it died; the trial failed after 1 retry (`limits.retries_per_trial`)"
    )
    assert str(after(workers_lost=2, retries=2)).startswith("it died; the trial failed after 2 retries")


def test_machines_that_are_lost_do_not_count_until_they_are_too_many_in_a_row() -> None:
    after = partial(failure_after, WorkerLoss("it is gone", of_node=True), workers_lost=9, retries=0)
    assert after(machines_lost=4) is None
    assert str(after(machines_lost=5)).startswith(
        "it is gone; 6 machines in a row were lost while running this trial"
    )


def test_the_error_of_the_memory_monitor_is_one_of_an_actor_and_can_be_kept() -> None:
    error = pickle.loads(pickle.dumps(WorkerOutOfMemory(MEMORY)))
    assert isinstance(error, RayActorError)
    assert str(error) == MEMORY
    assert not error.preempted


# The fate of the trials


@pytest.mark.slow
@pytest.mark.usefixtures("slope_kind", "ray_running")
class TestUnderRay:
    def test_a_crash_costs_what_came_after_the_last_checkpoint(self, make_job: MakeJob) -> None:
        made = run(
            make_job("crash_later", **{"limits/retries_per_trial": 1, "scheduler/method": "asha_stopping"})
        )
        assert list(made.trials["status"]) == ["completed"]
        (loss,) = losses_of(made)
        assert not loss.node_lost
        assert "it crashed, was killed" in loss.reason
        alone = train_one(made.job, made.winner.configuration)
        assert [result.metrics["error"] for result in alone] == list(made.epochs["error"])

    @pytest.mark.parametrize("method", ["asha", "median"])
    def test_a_trial_that_crashes_always_fails_and_frees_its_slot(
        self, make_job: MakeJob, method: str
    ) -> None:
        changes = {"limits/retries_per_trial": 1, "resources/max_concurrent": 1, "scheduler/method": method}
        made = run(make_job("crash", "", **changes))
        trials = made.trials.set_index("config.how")
        assert dict(trials["status"] == "failed") == {"crash": True, "": False}
        assert trials["reason"]["crash"].startswith("the worker died: it crashed")
        assert trials["reason"]["crash"].endswith(
            "; the trial failed after 1 retry (`limits.retries_per_trial`)"
        )
        assert len(losses_of(made)) == 1

    def test_a_trial_that_hangs_in_a_used_worker_before_its_first_report_continues_in_another(
        self, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tune_jobs.tuning.loop.WORKER_START_SECONDS", 10.0)
        changes = {
            "limits/retries_per_trial": 50,  # on a busy machine an epoch may take as long as one that hangs
            "limits/minutes_per_epoch": 0.05,
            "resources/max_concurrent": 1,
        }
        made = run(make_job("", "hang_once", **changes, **{"scheduler/method": "none"}))
        assert list(made.trials["status"]) == ["completed", "completed"]
        losses = losses_of(made)
        assert "0001" in {loss.trial_id for loss in losses}
        assert {loss.reason for loss in losses} == {
            "no epoch for 3 s, the limit `limits.minutes_per_epoch`, so its worker was ended"
        }


# In a separate process: the Ray of this process has enough memory


@pytest.mark.slow
@pytest.mark.usefixtures("slope_kind")
def test_a_worker_that_the_memory_monitor_ends_is_a_worker_lost(tmp_path: Path) -> None:
    changes = {**lines(("held", 0.0)), "slope/folder": str(tmp_path), "limits/retries_per_trial": 1}
    (tmp_path / "job.yaml").write_text(dump_yaml(line_in(tmp_path, changes).to_mapping()))
    environment = {"RAY_memory_usage_threshold": "0.001", "RAY_memory_monitor_refresh_ms": "100"}
    ran = subprocess.run(
        [*COMMAND, "run", "job.yaml"],
        cwd=tmp_path,
        env=with_repository({**os.environ, **environment}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ran.returncode == 1, ran.stderr
    assert "Ray ended the worker because the machine ran out of memory" in ran.stderr
    assert "the trial failed after 1 retry" in ran.stderr
    assert "Traceback" not in ran.stderr
