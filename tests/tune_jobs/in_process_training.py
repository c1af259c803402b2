"""Small trainings in this process, without Ray, for tests of what a run keeps of a training."""

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from tune_jobs.checkpoints.opening import open_checkpoints
from tune_jobs.checkpoints.trial_checkpoints import Checkpoints, Owner
from tune_jobs.driver.preparation import prepare
from tune_jobs.job.job import Job
from tune_jobs.trainers.data import TrainingData
from tune_jobs.trainers.pytorch.plan import plan_training
from tune_jobs.trainers.pytorch.trainer import Trainer
from tune_jobs.worker.trial import Assignment, TrialTask, start_training

MakeTrainer = Callable[..., Trainer]


def trainer_factory(job: Job) -> MakeTrainer:
    """Return a function that makes a trainer of the job from a configuration."""
    data = prepare(job).for_trials()

    def make(**configuration: Any) -> Trainer:
        plan = plan_training(job.kind.model, job.kind.training, job.selection, configuration, job.seed)
        return Trainer(plan, data, threads=1)

    return make


def train(trainer: Trainer, checkpoints: Checkpoints, epochs: int | None = None) -> list[str]:
    """Train `epochs` epochs (None: all) with a checkpoint after each, and return the names of the checkpoints."""
    files = []
    for result in islice(trainer.epochs(), epochs):
        checkpoints.add(result)
        file = checkpoints.save(trainer)
        assert file is not None
        files.append(file)
    return files


def train_trial_without_ray(
    task: TrialTask, root: Path, trial: Assignment, data: TrainingData | None, *, every: bool = False
) -> tuple[list[dict[str, Any]], str]:
    """Train a trial of a run to its end, without Ray.

    Args:
        task: The task of the run.
        root: The folder of the run's checkpoints.
        trial: The trial.
        data: The data of the run.
        every: Save a checkpoint after every epoch instead of after the last alone.

    Returns:
        The rows of all epochs, and the name of the last checkpoint.
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
    """Return the checkpoints of a trial below the folder `root`."""
    return open_checkpoints(root, Owner(trial_id=trial_id, configuration=configuration, kind="pytorch"))


def without_seconds(mappings: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows without their times, which differ from run to run."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in mappings]
