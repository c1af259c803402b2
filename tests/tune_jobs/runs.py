"""Small jobs for whole runs under a real Ray, and checks of every run that they make."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tune_jobs import Job, Run
from tune_jobs.driver.train_alone import train_one
from tune_jobs.job.file import apply_overrides
from tune_jobs.record.events import Event, TrialPaused, TrialPromoted
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import read_journal
from tune_jobs.scheduling.rungs import Decision, Promotion, RungTables, make_tables


def job_in(folder: Path, changes: Mapping[str, Any]) -> Job:
    """Return a job on 60 rows with rungs at 1 and 3 of 9 epochs, with changes by path.

    It has one worker at a time: a second one takes longer to start than all trials take.
    """
    sections: dict[str, Any] = {
        "name": "small",
        "data": {"source": "linear_gaussian", "arguments": {"n": 100, "sigma": 0.1}},
        "model": {"name": "linear"},
        "scheduler": {"grace_epochs": 1},
        "training": {"max_epochs": 9, "loss": "mse"},
        "search": {
            "space": {
                "lr": {"low": 1e-4, "high": 0.5, "log": True},
                "batch_size": {"values": [8, 16]},
                "optimizer": {"values": ["sgd", "adam"]},
            },
            "method": "random",
            "trials": 20,
        },
        "resources": {"max_concurrent": 1},
        "storage": str(folder / "runs"),
    }
    change(sections, changes)
    return Job.from_mapping(sections, folder)


STEADY_MODEL = """
import time
from torch import nn

class Steady(nn.Linear):
    def train(self, mode=True):
        time.sleep(0.2 * mode)
        return super().train(mode)

def make(input_shape, outputs):
    return Steady(input_shape[0], outputs)
"""


def steady_in(folder: Path, changes: Mapping[str, Any]) -> Job:
    """Return such a job with a module of the user's, whose epochs take a fifth of a second."""
    (folder / "user_code.py").write_text(STEADY_MODEL)
    return job_in(folder, {"model/name": "user_code:make", **changes})


def line_in(folder: Path, changes: Mapping[str, Any]) -> Job:
    """Return the same job with the small kind in place of PyTorch: its workers start in a third of the time.

    It serves tests of decisions, files and messages. The kind must be registered (`slope_registered`).
    """
    sections: dict[str, Any] = {
        "name": "small",
        "slope": {"epochs": 9},
        "scheduler": {"grace_epochs": 1},
        "search": {
            "space": {
                "rate": {"low": 1e-4, "high": 0.5, "log": True},
                "decay": {"values": [0.0, 0.01]},
            },
            "method": "random",
            "trials": 20,
        },
        "selection": {"metric": "error"},
        "resources": {"max_concurrent": 1},
        "storage": str(folder / "runs"),
    }
    change(sections, changes)
    return Job.from_mapping(sections, folder)


def change(sections: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Change the sections of a job by path, such as `{"data/split/seed": 1}`; `...` leaves a key out."""
    for path, value in changes.items():
        *above, key = path.split("/")
        below = sections
        for part in above:
            below = below.setdefault(part, {})
        if value is ...:
            del below[key]
        else:
            below[key] = value


def copy_run(made: Path, copy: Path) -> None:
    """Copy a run folder while workers write to it, as a killed driver would leave it."""
    while True:
        try:
            # Optuna's lock is a dangling link, and hidden files are half written.
            shutil.copytree(made, copy, ignore=shutil.ignore_patterns(".*", "*.lock"))
        except (shutil.Error, FileNotFoundError):  # a checkpoint was replaced in the meantime
            shutil.rmtree(copy, ignore_errors=True)
        else:
            return


def lines(*trials: tuple[str, float], **changes: Any) -> dict[str, Any]:
    """Return changes to `line_in`: a trial for each (how, bad), in this order. A higher `bad` is a worse score."""
    space = {
        "rate": 1e-6,
        "how": {"values": sorted({how for how, _ in trials})},
        "bad": {"values": sorted({bad for _, bad in trials})},
    }
    points = [{"how": how, "bad": bad} for how, bad in trials]
    return {"search/space": space, "search/points": points, "search/trials": len(trials), **changes}


def events_of(made: Run) -> list[Event]:
    return read_journal(RunFolder(made.path).journal)


def assert_curves_are_those_of_training_alone(made: Run) -> None:
    """Check every epoch of every trial bit for bit. The training alone does not pause, die or fail."""
    job = made.job
    if "slope" in job.to_mapping():
        job = Job.from_mapping(apply_overrides(job.to_mapping(), [("slope.pause", 0.0)]), made.path)
    for trial_id, record in made.record.trials.items():
        own = made.epochs[made.epochs["trial_id"] == trial_id]
        quick = {key: "" if key == "how" else value for key, value in record.configuration.items()}
        alone = [result.to_mapping() for result, _ in zip(train_one(job, quick), own.index, strict=False)]
        for name in own.columns.difference(["trial_id", "epoch", "seconds"]):
            assert [row[name] for row in alone] == list(own[name]), (trial_id, name)


def assert_tables_tell_every_decision(made: Run) -> None:
    """Check that tables rebuilt from the journal up to any event make the next decision of the live scheduler."""
    job, events = made.job, events_of(made)
    decisions = 0
    for number, event in enumerate(events):
        if not isinstance(event, TrialPaused | TrialPromoted):
            continue
        empty = make_tables(job.scheduler, job.rungs, job.selection)
        tables = RungTables.replay(
            events[:number], [rung.epoch for rung in empty.summary()], empty.factor, job.selection
        )
        decisions += 1
        if event.trial_id in tables.waiting:
            assert isinstance(event, TrialPromoted)
            assert tables.next_promotion() == Promotion(event.trial_id, event.epoch)
        else:
            expected = Decision.PAUSE if isinstance(event, TrialPaused) else Decision.PROMOTE
            assert tables.decide(event.trial_id, event.epoch) is expected
    assert decisions > 0
