"""Ray Tune as shipped on the training of a job of tune-jobs: its ASHAScheduler and OptunaSearch with their defaults.

Space, rungs, workers and training are those of the job, so only search and scheduling differ. If there is a choice,
Ray Tune gets the better option: workers are used again (`reuse_actors`), a configuration is proposed when a worker is
free and not earlier, conditional parameters are proposed only if they apply, and a training ends when its loss is NaN.
"""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import optuna
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from tune_jobs.driver.preparation import prepare, threads_of
from tune_jobs.job.job import Job
from tune_jobs.search_spaces import Choice, Float, Int, SearchSpace
from tune_jobs.trainers.data import TrainingData
from tune_jobs.worker.trial import Assignment, TrialTask, start_training


class EpochReport(NamedTuple):
    """One epoch of one trial, with the time at which the driver received it."""

    time: float
    val_loss: float


def tune_as_shipped(job: Job, workers: int) -> list[EpochReport]:
    """Tune on the Ray that is running.

    Args:
        job: The job. Its space, trials, training, grace epochs, reduction factor and seed are used, not its methods.
        workers: The number of trials at a time.

    Returns:
        All epochs of all trials, in the order in which they were reported.

    Raises:
        SystemExit: A trial failed, or the run was interrupted.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    listener = _Listener()
    prepared = prepare(job)
    assert prepared is not None, "the job has a data section"
    with TemporaryDirectory() as storage:
        task = _task(job, Path(storage))
        grid = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(train, task=task, data=prepared.for_trials()),
                {"cpu": job.resources.cpus_per_trial, "gpu": job.resources.gpus_per_trial},
            ),
            tune_config=tune.TuneConfig(
                search_alg=OptunaSearch(
                    partial(propose, job.search.space), metric="val_loss", mode="min", seed=job.seed
                ),
                scheduler=ASHAScheduler(
                    metric="val_loss",
                    mode="min",
                    max_t=job.max_epochs,
                    grace_period=job.scheduler.grace_epochs,
                    reduction_factor=job.scheduler.reduction_factor,
                ),
                num_samples=job.trials,
                max_concurrent_trials=workers,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(storage_path=storage, callbacks=[listener], verbose=0),
        ).fit()
    if grid.num_terminated < job.trials:  # failed, or interrupted: Tune returns as if nothing had happened
        raise SystemExit(
            f"No result: {grid.num_terminated} of {job.trials} trials finished, {grid.num_errors} failed."
        )
    return listener.reports


def train(config: Mapping[str, Any], *, task: TrialTask, data: TrainingData) -> None:
    """Train one configuration and report each epoch: the trainable."""
    for result in start_training(Assignment("alone", config["configuration"]), task, data).epochs():
        tune.report({"val_loss": result.metrics["val_loss"]})
        if result.diverged:
            return


def propose(space: SearchSpace, trial: optuna.Trial) -> dict[str, Any]:
    """Ask Optuna for each parameter that applies: the space in the form that OptunaSearch takes."""
    configuration: dict[str, Any] = {}
    for name in space.order:
        if name not in space.active(configuration):
            continue
        match space.parameters[name].domain:
            case Float(low=low, high=high, log=log, step=step):
                configuration[name] = trial.suggest_float(name, low, high, log=log, step=step)
            case Int(low=low, high=high, log=log, step=step):
                configuration[name] = trial.suggest_int(name, low, high, log=log, step=step)
            case Choice(values=values) as choice:
                by_key = {choice.key(value): value for value in values}  # a list is no category to Optuna
                configuration[name] = by_key[str(trial.suggest_categorical(name, list(by_key)))]
    return {"configuration": configuration}


class _Listener(tune.Callback):
    """Records every epoch once, when it is reported."""

    def __init__(self) -> None:
        self.reports: list[EpochReport] = []
        self._seen: set[tuple[str, int]] = set()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        epoch = (str(trial.trial_id), int(result["training_iteration"]))
        if epoch not in self._seen:  # Ray Tune repeats the last report of a trial that returns
            self._seen.add(epoch)
            self.reports.append(EpochReport(time.time(), float(result["val_loss"])))


def _task(job: Job, folder: Path) -> TrialTask:
    """Return the task that `start_training` takes, as in a run of tune-jobs but without rungs and checkpoints."""
    return TrialTask(
        kind=job.kind,
        score=job.selection,
        seed=job.seed,
        rungs=(),
        threads=threads_of(job),
        checkpoints=folder,
    )
