"""A job whose trials last as long as a test needs, and what its journal says of the hosts."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from tests.cluster.hosts import SHARED
from tune_jobs.events import CheckpointWritten, EpochsReported, Event, TrialWaits, WorkerLost
from tune_jobs.journal import read_journal

CODE = f"""
import pathlib, socket, time
import torch
from torch import nn

SHARED = pathlib.Path("{SHARED}")

class Paced(nn.Sequential):
    "Waits in each epoch for as long as a file says; notes whether its training begins at the weights of `make`."

    noted = False

    def train(self, mode=True):
        if mode and self.training and SHARED.is_dir():  # an epoch begins: else it comes back from an evaluation
            time.sleep(float((SHARED / "pace").read_text()))
            if not self.noted:
                beginning = "fresh" if not self[1].weight.any() else "restored"
                with (SHARED / "beginnings").open("a") as file:
                    file.write(f"{{socket.gethostname()}} {{beginning}}\\n")
                self.noted = True
        return super().train(mode)

def make(input_shape, outputs):
    model = Paced(nn.Flatten(), nn.Linear(torch.Size(input_shape).numel(), outputs))
    nn.init.zeros_(model[1].weight)
    return model
"""
RATES = tuple(round(0.001 * 1.4**power, 6) for power in range(18))
"""The higher, the better, at each of the few epochs: whatever the order of the trials, the best one is promoted."""
JOB = {
    "name": "story",
    "data": {"source": "digits"},
    "model": {"name": "my_model:make"},
    "training": {"max_epochs": 12, "loss": "cross_entropy"},
    "search": {"space": {"lr": {"values": list(RATES)}}, "method": "grid"},
    "scheduler": {"method": "asha", "grace_epochs": 3, "reduction_factor": 2},
    "storage": str(SHARED / "runs"),
}


def write_job(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "my_model.py").write_text(CODE)
    (folder / "job.yaml").write_text(yaml.safe_dump(JOB))


class Watch:
    """What the journal in a folder of runs says, and how fast the trials are."""

    def __init__(self, shared: Path) -> None:
        self._shared = shared
        self.pace(0)

    def pace(self, seconds: float) -> None:
        """How long each epoch lasts from now on."""
        written = self._shared / "pace.new"
        written.write_text(str(seconds))
        written.rename(self._shared / "pace")

    @property
    def beginnings(self) -> list[str]:
        """`host fresh` or `host restored` for each time that a training began."""
        return (self._shared / "beginnings").read_text().splitlines()

    @property
    def path(self) -> Path:
        """The run's folder."""
        (path,) = (self._shared / "runs").iterdir()
        return path

    def events(self) -> list[Event]:
        journals = list((self._shared / "runs").glob("*/journal/events.jsonl"))
        return [event for journal in journals for event in read_journal(journal)]


def host_of(worker: str) -> str:
    return worker.rpartition(":")[0]


def hosts_of(events: Sequence[Event]) -> set[str]:
    """Names of the hosts that have reported."""
    return {host_of(event.worker) for event in events if isinstance(event, EpochsReported)}


def beyond_a_checkpoint(events: Sequence[Event], host: str) -> list[str]:
    """Trials in training on this host that have reported epochs after one of their checkpoints."""
    latest: dict[str, tuple[str, bool]] = {}
    written: set[str] = set()
    for event in events:
        if isinstance(event, CheckpointWritten):
            written.add(event.trial_id)
        elif isinstance(event, EpochsReported):
            latest[event.trial_id] = (host_of(event.worker), event.trial_id in written)
        elif isinstance(event, TrialWaits | WorkerLost):
            latest.pop(event.trial_id, None)
    return [trial for trial, (where, beyond) in latest.items() if where == host and beyond]
