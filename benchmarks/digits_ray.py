"""Ray Tune as shipped on the training of a job of tune-jobs: its ASHAScheduler and OptunaSearch with their defaults.

What the job says of the space, rungs, workers and training holds here, too, so that a comparison is one of search
and scheduling. Where there is a choice, Ray Tune gets what serves it better: workers are used again
(`reuse_actors`), a configuration is proposed when there is a worker for it and not before, conditional parameters
are proposed only where they apply, and a training whose loss is no number ends instead of going on.
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
    """One epoch of one trial, when the driver heard of it."""

    time: float
    val_loss: float


def tune_as_shipped(job: Job, workers: int) -> list[EpochReport]:
    """Tunes on the Ray that is up.

    Args:
        job: its space, trials, training, grace epochs, reduction factor and seed; its methods are left out.
        workers: trials at a time.

    Returns:
        All epochs of all trials, in the order in which they were reported.

    Raises:
        SystemExit: a trial failed, or the run was interrupted.
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
    """The trainable: trains one configuration and reports after each epoch."""
    for result in start_training(Assignment("alone", config["configuration"]), task, data).epochs():
        tune.report({"val_loss": result.metrics["val_loss"]})
        if result.diverged:
            return


def propose(space: SearchSpace, trial: optuna.Trial) -> dict[str, Any]:
    """The space as OptunaSearch takes it: a function that asks for each parameter which applies."""
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
    """Takes down every epoch once, as it is reported."""

    def __init__(self) -> None:
        self.reports: list[EpochReport] = []
        self._heard: set[tuple[str, int]] = set()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        epoch = (str(trial.trial_id), int(result["training_iteration"]))
        if epoch not in self._heard:  # a trial that returns has its last report come a second time
            self._heard.add(epoch)
            self.reports.append(EpochReport(time.time(), float(result["val_loss"])))


def _task(job: Job, folder: Path) -> TrialTask:
    """What `start_training` looks at, as a run of tune-jobs has it; there are no rungs nor checkpoints."""
    return TrialTask(
        kind=job.kind,
        score=job.selection,
        seed=job.seed,
        rungs=(),
        threads=threads_of(job),
        checkpoints=folder,
    )
