"""A job whose trials last as long as a test needs, and facts about the hosts from its journal."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from tests.cluster.hosts import SHARED
from tune_jobs import Job
from tune_jobs.record.codes import Status
from tune_jobs.record.events import (
    EpochsReported,
    Event,
    WorkerLost,
)
from tune_jobs.record.journal import read_journal
from tune_jobs.record.run_record import RunRecord
from tune_jobs.trainers.settings import ScoreSettings

CODE = f"""
import pathlib, socket, time
import torch
from torch import nn

SHARED = pathlib.Path("{SHARED}")

class Paced(nn.Sequential):
    # Waits in each epoch for as long as a file says; notes whether its training begins at the weights of `make`. Waits
    # then while there is another file.

    noted = False

    def train(self, mode=True):
        if mode and self.training and SHARED.is_dir():  # an epoch begins: else it comes back from an evaluation
            time.sleep(float((SHARED / "pace").read_text()))
            if not self.noted:
                beginning = "fresh" if not self[1].weight.any() else "restored"
                with (SHARED / "beginnings").open("a") as file:
                    file.write(f"{{socket.gethostname()}} {{beginning}}\\n")
                self.noted = True
            while (SHARED / "held").exists():
                time.sleep(0.05)
        return super().train(mode)

def make(input_shape, outputs):
    model = Paced(nn.Flatten(), nn.Linear(torch.Size(input_shape).numel(), outputs))
    nn.init.zeros_(model[1].weight)
    return model
"""
RATES = tuple(round(0.001 * 1.15**power, 6) for power in range(24))
"""Learning rates. A higher rate is better at every epoch, so the best trial is promoted in any order of the trials,
even as the last of a rung: their number and that of each rung is even."""
JOB = {
    "name": "story",
    "data": {"source": "digits"},
    "model": {"name": "my_model:make"},
    "training": {"max_epochs": 12, "loss": "cross_entropy"},
    "search": {"space": {"lr": {"values": list(RATES)}}, "method": "grid"},
    "scheduler": {"method": "asha", "grace_epochs": 3, "reduction_factor": 2},
    "limits": {"retries_per_trial": 0},
    "storage": str(SHARED / "runs"),
}


def write_job(folder: Path) -> Job:
    """Write a job and its module."""
    folder.mkdir(exist_ok=True)
    (folder / "my_model.py").write_text(CODE)
    (folder / "job.yaml").write_text(yaml.safe_dump(JOB))
    return Job.from_file(folder / "job.yaml")


class Watch:
    """Reads the journal in a shared folder and sets the speed of the trials."""

    def __init__(self, shared: Path) -> None:
        self.shared = shared
        self._held = shared / "held"
        self.pace(0)

    def pace(self, seconds: float) -> None:
        """Set the seconds of each epoch from now on."""
        written = self.shared / "pace.new"
        written.write_text(str(seconds))
        written.rename(self.shared / "pace")

    def hold(self) -> None:
        """Hold each trial in its epoch."""
        self._held.touch()

    def release(self) -> None:
        self._held.unlink(missing_ok=True)

    @property
    def beginnings(self) -> list[str]:
        """Return `host fresh` or `host restored` for each start of a training."""
        noted = self.shared / "beginnings"
        return noted.read_text().splitlines() if noted.exists() else []

    def forget(self) -> None:
        """Forget the starts up to now."""
        (self.shared / "beginnings").unlink()

    @property
    def path(self) -> Path:
        """The folder of the only run."""
        (path,) = (self.shared / "runs").iterdir()
        return path

    def events(self) -> list[Event]:
        """Return the events of the run up to now, or none before it has begun."""
        journals = list((self.shared / "runs").glob("*/journal/events.jsonl"))
        return [event for journal in journals for event in read_journal(journal)]


def record_of(events: Sequence[Event]) -> RunRecord:
    return RunRecord.replay(events, ScoreSettings(metric="val_loss"))


def host_of(worker: str) -> str:
    return worker.rpartition(":")[0]


def hosts_of(events: Sequence[Event]) -> set[str]:
    """Return the names of the hosts that have reported."""
    return {host_of(event.worker) for event in events if isinstance(event, EpochsReported)}


def past_a_checkpoint(events: Sequence[Event], host: str) -> set[str]:
    """Return the trials in training on this host that have reported epochs after one of their checkpoints."""
    return {
        trial.trial_id
        for trial in record_of(events).with_status(Status.RUNNING)
        if host_of(trial.worker) == host and 0 < trial.checkpoint_epoch < max(trial.epochs)
    }


def lost_workers(events: Sequence[Event]) -> set[str]:
    """Return the trials that have lost a worker."""
    return {event.trial_id for event in events if isinstance(event, WorkerLost)}


def came_back(events: Sequence[Event]) -> set[str]:
    """Return the trials that lost their worker and have reported since."""
    lost: set[str] = set()
    back: set[str] = set()
    for event in events:
        if isinstance(event, WorkerLost):
            lost.add(event.trial_id)
        elif isinstance(event, EpochsReported) and event.trial_id in lost:
            back.add(event.trial_id)
    return back
