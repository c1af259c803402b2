"""The worker's entry point: a trainable function that wraps the epoch loop for Ray Tune.

It knows a training plan's parts and the training and validation rows. It is told of no test row.
Where several workers train a trial together, it runs in each of them: see `distributed_trial`.
"""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_jobs.checkpoints.store import CheckpointNotWritten, open_checkpoints
from tune_jobs.job.settings import ResourceSettings
from tune_jobs.job.user_code import import_from
from tune_jobs.location import Location
from tune_jobs.record.events import Cause
from tune_jobs.remote.store import StoreError
from tune_jobs.trainers.pytorch.plan import plan_training
from tune_jobs.trainers.pytorch.settings import ModelSettings, TrainingSettings
from tune_jobs.trainers.settings import ScoreSettings
from tune_jobs.worker.reporting import Reporter

if TYPE_CHECKING:
    from tune_jobs.trainers.data import TrainingData
    from tune_jobs.trainers.pytorch.data_parallel import Distribution
    from tune_jobs.trainers.pytorch.trainer import Trainer

SECONDS_BETWEEN_REPORTS = 1.0
"""Between rungs a trial reports at most this often."""
SECONDS_BETWEEN_CHECKPOINTS = 30.0
"""Where rungs are far apart, a checkpoint is written this often."""


@dataclass(frozen=True, kw_only=True)
class TrialTask:
    """What all trials of a run have in common."""

    model: ModelSettings
    training: TrainingSettings
    score: ScoreSettings
    seed: int
    rungs: tuple[int, ...]
    threads: int
    """Of each worker."""
    checkpoints: Path | Location
    module_path: tuple[str, ...] = ()
    """Folders of the user's own modules, looked at before all others."""
    deadline: float | None = None
    """Unix time after which no further epoch is begun."""
    resources: ResourceSettings = field(default_factory=ResourceSettings)
    driver: str = field(default_factory=lambda: secrets.token_hex(4))
    """Whose workers these are: one driver's, from its start to its end."""

    @property
    def out_of_time(self) -> bool:
        return self.deadline is not None and time.time() > self.deadline


def train_trial(config: Mapping[str, Any], *, task: TrialTask, data: "TrainingData") -> None:
    """Trains one configuration and reports to Ray Tune."""
    from ray import tune  # noqa: PLC0415

    train_configuration(config, task, data, tune.report)


def train_configuration(
    config: Mapping[str, Any],
    task: TrialTask,
    data: "TrainingData",
    send: Callable[[dict[str, Any]], None],
    distribution: "Distribution | None" = None,
) -> None:
    """Trains one configuration, from its last checkpoint where there is one, and reports.

    What goes wrong in the training itself (an exception, a loss that is no number, memory of the device) ends
    the trial with a failure report and leaves the worker to the next trial. A disk that does not take a
    checkpoint is no failure of the trial: the driver is told, and stops the run. Ray Tune stops a trial by
    `SystemExit` out of the report, which passes through here.

    Args:
        config: trial id and configuration.
        task: what all trials have in common.
        data: training and validation rows.
        send: takes a report; it returns once the trial may go on.
        distribution: among the workers of the trial, of which this is the first; None where there are no others.
    """
    reporter = Reporter(task.score, send)
    try:
        with make_trainer(config["configuration"], task, data, distribution) as trainer:
            store = open_checkpoints(
                task.checkpoints,
                config["trial_id"],
                config["configuration"],
                task.driver,
                reporter.keep_alive,
            )
            restored = store.restore(trainer)
            trainer.align()
            reporter.add(restored.results)
            reporter.damaged, reporter.checkpoint = restored.damaged, restored.file
            if restored.file is not None or restored.damaged:  # of which the driver may not have heard
                reporter.send(rung=trainer.epoch in task.rungs)
            for result in trainer.epochs():
                reporter.add([result.to_mapping()])
                if not result.is_finite:
                    continue  # the trainer raises `Diverged` when it is asked for more
                if trainer.finished or task.out_of_time:
                    break
                rung = result.epoch in task.rungs
                if rung or store.seconds_since_save > SECONDS_BETWEEN_CHECKPOINTS:
                    reporter.checkpoint = store.save(trainer)
                if rung or reporter.seconds_since_report > SECONDS_BETWEEN_REPORTS:
                    reporter.send(rung=rung)
            reporter.checkpoint = store.save(trainer)
            reporter.end(Cause(trainer.finished.value) if trainer.finished else Cause.TIME_LIMIT)
    except CheckpointNotWritten as error:
        reporter.give_up(error.file, error.reason)
    except StoreError as error:  # nor is a store that does not give one back
        reporter.give_up(config["trial_id"], str(error.strerror))
    except SystemExit as error:
        if reporter.stopped:
            raise
        reporter.fail(RuntimeError(f"the user's code called sys.exit({error.code})"))
    except BaseException as error:  # even what is no `Exception`: the worker is sound
        reporter.fail(error)


def make_trainer(
    configuration: Mapping[str, Any],
    task: TrialTask,
    data: "TrainingData",
    distribution: "Distribution | None" = None,
) -> "Trainer":
    """The trainer of one configuration, in a worker or without Ray."""
    import_from(task.module_path)
    from tune_jobs.trainers.pytorch.data_parallel import ALONE  # noqa: PLC0415 (torch is imported by workers alone)
    from tune_jobs.trainers.pytorch.trainer import Trainer  # noqa: PLC0415

    plan = plan_training(task.model, task.training, task.score, configuration, task.seed)
    return Trainer(plan, data, threads=task.threads, distribution=distribution or ALONE)
