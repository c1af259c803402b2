"""Small trainings, one after the other in this process, for tests of what is kept of them."""

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from tune_jobs.checkpoints.base import Checkpoints, Owner
from tune_jobs.checkpoints.opening import open_checkpoints
from tune_jobs.driver.preparation import prepare
from tune_jobs.job.job import Job
from tune_jobs.trainers.data import TrainingData
from tune_jobs.trainers.pytorch.plan import plan_training
from tune_jobs.trainers.pytorch.trainer import Trainer
from tune_jobs.worker.trial import Assignment, TrialTask, start_training

MakeTrainer = Callable[..., Trainer]


def trainer_of(job: Job) -> MakeTrainer:
    """Makes trainers of a job, each from a configuration."""
    data = prepare(job).for_trials()

    def make(**configuration: Any) -> Trainer:
        plan = plan_training(job.kind.model, job.kind.training, job.selection, configuration, job.seed)
        return Trainer(plan, data, threads=1)

    return make


def train(trainer: Trainer, checkpoints: Checkpoints, epochs: int | None = None) -> list[str]:
    """Trains some epochs, or all, with a checkpoint after each; returns the files as they were named."""
    files = []
    for result in islice(trainer.epochs(), epochs):
        checkpoints.add(result)
        file = checkpoints.save(trainer)
        assert file is not None
        files.append(file)
    return files


def train_trial(
    task: TrialTask, root: Path, trial: Assignment, data: TrainingData, *, every: bool = False
) -> tuple[list[dict[str, Any]], str]:
    """Trains a trial of a run to its end, without Ray.

    Args:
        task: Of the run.
        root: Of the run's checkpoints.
        trial: The trial.
        data: Of the run.
        every: Save a checkpoint after every epoch, and not only after the last.

    Returns:
        The rows of all epochs, and the last checkpoint as it is named.
    """
    checkpoints = open_checkpoints(root, trial.owner(task))
    rows = []
    file = None
    with start_training(trial, task, data) as training:
        for result in training.epochs():
            rows.append(result.to_mapping())
            checkpoints.add(result)
            if every or training.stop_reason:
                file = checkpoints.save(training)
    assert file is not None
    return rows, file


def checkpoints_in(root: Path, trial_id: str = "0000", **configuration: Any) -> Checkpoints:
    """The checkpoints of a trial in a folder."""
    return open_checkpoints(root, Owner(trial_id=trial_id, configuration=configuration, kind="pytorch"))


def curve(mappings: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Results without what the clock says."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in mappings]
