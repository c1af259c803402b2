"""Small trainings, one after the other in this process, for tests of what is kept of them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from tune_jobs.driver.preparation import prepare
from tune_jobs.job.job import Job
from tune_jobs.trainers.pytorch.plan import plan_training
from tune_jobs.trainers.pytorch.trainer import Trainer

MakeTrainer = Callable[..., Trainer]


class Store(Protocol):
    """Where checkpoints of one trial go."""

    def save(self, trainer: Trainer) -> str: ...


def trainer_of(job: Job) -> MakeTrainer:
    """Makes trainers of a job, each from a configuration."""
    data = prepare(job).for_trials()

    def make(**configuration: Any) -> Trainer:
        plan = plan_training(job.kind.model, job.kind.training, job.selection, configuration, job.seed)
        return Trainer(plan, data, threads=1)

    return make


def train(trainer: Trainer, store: Store, epochs: int) -> list[str]:
    """Trains some epochs with a checkpoint after each; returns the files as they were named."""
    results = trainer.epochs()
    files = []
    for _ in range(epochs):
        next(results)
        files.append(store.save(trainer))
    return files


def curve(mappings: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Results without what the clock says."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in mappings]
