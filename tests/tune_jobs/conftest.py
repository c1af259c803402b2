"""A small valid job, broken on request, and run folders made through the real journal, without Ray."""

import copy
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.tune_jobs.causes import CAUSE_OF
from tests.tune_jobs.holdout.lines import seal
from tests.tune_jobs.in_process_training import MakeTrainer, trainer_factory
from tests.tune_jobs.job_files import with_job_file
from tests.tune_jobs.rows import with_divergence
from tests.tune_jobs.runs import change
from tune_jobs.errors import JobError
from tune_jobs.files import replacing
from tune_jobs.job.file import dump_yaml
from tune_jobs.job.job import Job
from tune_jobs.record.codes import Ending, Status
from tune_jobs.record.events import (
    CheckpointWritten,
    EpochsReported,
    Event,
    RunEnded,
    RunStarted,
    TrialCreated,
    TrialEnded,
    TrialStarted,
    WinnerSelected,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal
from tune_jobs.record.run_record import RunRecord
from tune_jobs.record.tables import write_tables
from tune_jobs.selection.rule import select_winner, write_selection
from tune_jobs.trainers.data import Rows
from tune_jobs.trainers.settings import ScoreSettings

Sections = dict[str, Any]
TrialSpec = Mapping[str, Any]
"""The description of a trial in a made-up run: see `events_of`."""

CONFIGURATION: Mapping[str, Any] = {"lr": 0.1}
"""The configuration of a made-up trial for which none is given."""
SECTIONS: Sections = {
    "name": "small",
    "data": {"source": "linear_gaussian", "arguments": {"n": 100, "sigma": 0.1}},
    "model": {"name": "mlp", "arguments": {"hidden": [4]}},
    "training": {"max_epochs": 9, "loss": "mse", "metrics": ["mae"]},
    "search": {
        "space": {
            "lr": {"low": 1e-3, "high": 0.5, "log": True},
            "batch_size": {"values": [8, "full"]},
            "optimizer": {"values": ["sgd", "adam"]},
            "momentum": {"low": 0.0, "high": 0.9, "when": {"optimizer": "sgd"}},
        },
        "trials": 6,
    },
}


@pytest.fixture(scope="session")
def make_sections() -> Callable[..., Sections]:
    return changed


@pytest.fixture(scope="session")
def problems() -> Callable[[Mapping[str, Any]], list[str]]:
    """Return each problem of the small job with changes, as `path: message`."""

    def find(changes: Mapping[str, Any]) -> list[str]:
        with pytest.raises(JobError) as caught:
            Job.from_mapping(changed(changes))
        return list(map(str, caught.value.problems))

    return find


@pytest.fixture
def write_job(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a job file: the small job with changes, or another text."""

    def write(changes: Mapping[str, Any] | None = None, *, text: str | None = None) -> Path:
        path = tmp_path / "job.yaml"
        path.write_text(dump_yaml(changed(changes)) if text is None else text, encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def make_events() -> Callable[..., list[Event]]:
    return events_of


@pytest.fixture(scope="session")
def make_record() -> Callable[..., RunRecord]:
    def make(trials: Iterable[TrialSpec], **score: Any) -> RunRecord:
        return RunRecord.replay(events_of(trials), ScoreSettings(**{"metric": "val_loss", **score}))

    return make


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., RunFolder]:
    """Return a function that makes a run folder as the driver leaves it, or without `ending` as during the run."""

    def make(
        trials: Iterable[TrialSpec],
        *,
        ending: Ending | None = Ending.ALL_TRIALS,
        changes: Mapping[str, Any] | None = None,
        rows: Rows | None = None,
    ) -> RunFolder:
        trials = list(trials)
        job = Job.from_mapping(fitted(changed(changes), trials), tmp_path)
        folder = RunFolder.create(tmp_path / "runs", job.name)
        with replacing(folder.job) as file:
            file.write(job.to_yaml().encode())
        events = events_of(trials, ending=ending)
        if rows is not None:
            fingerprints = seal(folder, rows).fingerprints
            events[0] = dataclasses.replace(events[0], fingerprints=fingerprints)  # type: ignore[call-arg]
        events = with_job_file(folder, events)
        record = RunRecord(job.selection)
        with Journal(folder.journal, record.apply) as journal:
            for event in events:
                journal.append(event)
            if ending is not None:
                winner = select_winner(record)
                journal.append(WinnerSelected(winner=winner.trial.trial_id if winner else None))
                write_tables(record, folder)
                write_selection(record, winner, folder)
        return folder

    return make


@pytest.fixture(scope="module")
def make_trainer(make_sections: Callable[..., dict[str, Any]]) -> MakeTrainer:
    """Return a function that makes trainers of the small job, with five epochs."""
    return trainer_factory(Job.from_mapping(make_sections({"training/max_epochs": 5})))


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Return a new and empty run folder."""
    return RunFolder.create(tmp_path / "runs", "small")


def changed(changes: Mapping[str, Any] | None = None) -> Sections:
    """Return the sections of the small job with `changes`, such as `{"data/split/seed": 1}`. `...` leaves a key out."""
    sections = copy.deepcopy(SECTIONS)
    change(sections, changes or {})
    return sections


def fitted(sections: Sections, trials: Sequence[TrialSpec]) -> Sections:
    """Return the sections with a search space of those parameters that the made-up trials have."""
    configurations = [trial.get("configuration", CONFIGURATION) for trial in trials]
    if not configurations or "space" not in sections.get("search", {}):
        return sections
    space: dict[str, Any] = {}
    for name in dict.fromkeys(name for configuration in configurations for name in configuration):
        having = [configuration for configuration in configurations if name in configuration]
        values = [configuration[name] for configuration in having]
        entry = {"values": [value for at, value in enumerate(values) if value not in values[:at]]}
        space[name] = {**sections["search"]["space"].get(name, entry)}
        space[name].pop("when", None)
        if len(having) < len(configurations):
            space[name]["when"] = {"lr": [configuration["lr"] for configuration in having]}
    return {**sections, "search": {**sections["search"], "space": space}}


def events_of(trials: Iterable[TrialSpec], ending: Ending | None = Ending.ALL_TRIALS) -> list[Event]:
    """Return the events of a run, one per second, from Unix time 1,000,000.

    Keys of a trial, all optional: `losses` (val_loss of its epochs), `metrics` (name: values of its epochs),
    `configuration`, `status` (Status.RUNNING leaves the end out), `cause`, `reason`.
    """
    trials = list(trials)
    events: list[Event] = [
        RunStarted(
            name="small",
            job_folder="",
            trials=len(trials),
            rows={"train": 60, "validation": 20, "test": 20},
            fingerprints={"data": "d", "split": "s", "space": "p"},
            versions={"python": "3"},
        )
    ]
    for number, trial in enumerate(trials):
        events += _events_of_trial(number, trial)
    if ending is not None:
        events.append(RunEnded(ending=ending))
    return [_at(event, 1_000_000.0 + second) for second, event in enumerate(events)]


def _events_of_trial(number: int, trial: TrialSpec) -> list[Event]:
    unknown = trial.keys() - {"losses", "metrics", "configuration", "status", "cause", "reason"}
    assert not unknown, unknown
    trial_id = f"{number:04d}"
    losses: Sequence[float] = trial.get("losses", ())
    status = trial.get("status", Status.COMPLETED)
    results = [
        with_divergence(
            {
                "epoch": epoch,
                "train_loss": loss,
                "val_loss": loss,
                **{name: values[epoch - 1] for name, values in trial.get("metrics", {}).items()},
                "lr": 0.1,
                "seconds": 0.5,
            }
        )
        for epoch, loss in enumerate(losses, start=1)
    ]
    events: list[Event] = [
        TrialCreated(
            trial_id=trial_id, number=number, configuration=trial.get("configuration", CONFIGURATION)
        )
    ]
    if status is not Status.PENDING:
        events.append(TrialStarted(trial_id=trial_id))
    if results:
        file = f"checkpoints/{trial_id}/epoch-{len(results):06d}.pt"
        events.append(EpochsReported(trial_id=trial_id, results=results, worker="node-1:77"))
        events.append(CheckpointWritten(trial_id=trial_id, epoch=len(results), file=file))
    if status.ended:
        events.append(
            TrialEnded(
                trial_id=trial_id,
                status=status,
                cause=trial.get("cause", CAUSE_OF[status]),
                reason=trial.get("reason", "its course is run"),
            )
        )
    return events


def _at(event: Event, time: float) -> Event:
    return type(event)(**{**vars(event), "time": time})
