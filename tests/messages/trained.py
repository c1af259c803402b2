"""A run with one trial that was really trained, for what needs its weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.tune_jobs.in_process_training import train_trial_without_ray
from tune_jobs import Job
from tune_jobs.driver.preparation import make_folder, prepare, rows_for_trials, run_started, trial_task
from tune_jobs.record.codes import Cause, Ending, Status
from tune_jobs.record.events import (
    CheckpointWritten,
    EpochsReported,
    RunEnded,
    TrialCreated,
    TrialEnded,
    WinnerSelected,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal
from tune_jobs.worker.trial import Assignment

CONFIGURATION: Mapping[str, Any] = {"lr": 0.001, "batch_size": 8, "optimizer": "adam"}


def trained_run(job: Job, configuration: Mapping[str, Any] = CONFIGURATION) -> RunFolder:
    """Two epochs of one trial, with a checkpoint after each; what is selected is left to `repair`."""
    prepared = prepare(job)
    folder = make_folder(job, prepared)
    with Journal(folder.journal) as journal:
        started = run_started(job, prepared, folder)
        journal.append(started)
        journal.append(TrialCreated(trial_id="0000", number=0, configuration=configuration))
        task, trial = trial_task(job, folder, run_id=started.run_id), Assignment("0000", configuration)
        data = rows_for_trials(prepared)
        results, file = train_trial_without_ray(task, folder.checkpoints, trial, data, every=True)
        journal.append(EpochsReported(trial_id="0000", results=results, worker="here:1"))
        journal.append(CheckpointWritten(trial_id="0000", epoch=len(results), file=f"checkpoints/{file}"))
        journal.append(
            TrialEnded(trial_id="0000", status=Status.COMPLETED, cause=Cause.MAX_EPOCHS, reason="all epochs")
        )
        journal.append(RunEnded(ending=Ending.ALL_TRIALS))
        journal.append(WinnerSelected(winner="0000"))
    return folder


def checkpoints(folder: RunFolder) -> list[Path]:
    return [path for path in folder.checkpoints.rglob("*.pt") if path.is_file()]
