"""The worker's entry point: train one configuration of any kind, and report to Ray Tune.

If several workers train a trial together, each of them runs this or `follow`: see `tune_jobs.worker.group`.
"""

import pickle
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_jobs.checkpoints.opening import open_checkpoints
from tune_jobs.checkpoints.trial_checkpoints import Owner
from tune_jobs.job.settings import ResourceSettings
from tune_jobs.job.user_code import import_from
from tune_jobs.location import Location
from tune_jobs.record.codes import Cause
from tune_jobs.trainers.interface import TrainerKind, Training, TrainingRequest, WorkerRank
from tune_jobs.trainers.settings import ScoreSettings
from tune_jobs.worker.output import kept_output
from tune_jobs.worker.reporting import Reporter

if TYPE_CHECKING:
    from tune_jobs.trainers.data import TrainingData

ALONE = WorkerRank()
"""The place of the only worker of a trial."""


@dataclass(frozen=True, kw_only=True)
class TrialTask:
    """The task that all trials of a run share. It names no test row, and no file that holds one."""

    kind: TrainerKind
    score: ScoreSettings
    seed: int
    rungs: tuple[int, ...]
    threads: int
    """CPU threads of each worker."""
    checkpoints: Path | Location
    output: Path | None = None
    """Folder for the output of each trial; None if the run is in an object store."""
    files: Path | None = None
    """Folder for a folder of own files of each trial; None if the run is in an object store."""
    folder: Path = Path()
    """The folder of the job."""
    module_path: tuple[str, ...] = ()
    """Folders of the user's own modules, which are searched before all others."""
    copies: Path | None = None
    """Folder of copies of these modules. Their code is run, so that changes after the start of a run do not count."""
    run: str = ""
    """The id of the run, which its checkpoints have."""
    deadline: float | None = None
    """Unix time after which no further epoch begins."""
    resources: ResourceSettings = field(default_factory=ResourceSettings)
    driver: str = field(default_factory=lambda: secrets.token_hex(4))
    """Name of the driver, from its start to its end, whose workers these are."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Make the user's modules importable before the kind of training is read, which may be one of theirs."""
        from ray import cloudpickle  # noqa: PLC0415 (only Ray pickles a task)

        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return _read_task, (self.module_path, self.copies, cloudpickle.dumps(values))  # type: ignore[no-untyped-call]

    @property
    def out_of_time(self) -> bool:
        return self.deadline is not None and time.time() > self.deadline

    def request(self, trial: "Assignment", worker: WorkerRank = ALONE) -> TrainingRequest:
        """Return the request for the training of a trial."""
        return TrainingRequest(
            configuration=trial.configuration,
            seed=self.seed,
            max_epochs=self.kind.max_epochs,
            score=self.score,
            threads=self.threads,
            worker=worker,
            folder=self.folder,
            files=None if self.files is None else self.files / trial.trial_id,
        )


def _read_task(module_path: tuple[str, ...], copies: Path | None, pickled: bytes) -> TrialTask:
    import_from(module_path, copies)
    return TrialTask(**pickle.loads(pickled))  # noqa: S301 (what this run's driver wrote)


@dataclass(frozen=True)
class Assignment:
    """The trial that a worker is to train."""

    trial_id: str
    configuration: Mapping[str, Any]

    def owner(self, task: TrialTask) -> Owner:
        """Return whose checkpoints those of this trial are."""
        return Owner(
            trial_id=self.trial_id,
            configuration=self.configuration,
            kind=task.kind.name,
            driver=task.driver,
            run=task.run,
        )


def train_trial(config: Mapping[str, Any], *, task: TrialTask, data: "TrainingData | None") -> None:
    """Train the trial that Ray Tune's `config` describes, and report to Ray Tune."""
    from ray import tune  # noqa: PLC0415 (the driver imports this module before it starts Ray)

    train(Assignment(**config), task, data, tune.report)


def train(
    trial: Assignment,
    task: TrialTask,
    data: "TrainingData | None",
    send: Callable[[dict[str, Any]], None],
    worker: WorkerRank = ALONE,
) -> None:
    """Train one trial, from its last checkpoint if there is one, and report.

    Ray Tune stops a trial by `SystemExit` from the report, which passes through here.

    Args:
        trial: The trial.
        task: The task that all trials share.
        data: Training and validation rows; None if the training reads its own data.
        send: Takes a report; it returns when the trial may continue.
        worker: The place of this worker, which is the first one of the trial's.
    """
    reporter = Reporter(task.score, send)
    with (
        kept_output(task.output, trial.trial_id) as shorten_output,
        reporter.failures(),
        start_training(trial, task, data, worker) as training,
    ):
        checkpoints = open_checkpoints(task.checkpoints, trial.owner(task), reporter.keep_alive)
        reporter.add_restored(checkpoints.restore(training), task.rungs)
        for result in training.epochs():
            reporter.add([result.to_mapping()])
            checkpoints.add(result)
            shorten_output()
            if result.diverged:
                continue  # the training raises `Diverged` when it is asked for more
            if training.stop_reason or task.out_of_time:
                break
            at_rung = result.epoch in task.rungs
            if at_rung or checkpoints.due:
                reporter.checkpoint = checkpoints.save(training)
            if at_rung or reporter.due:
                reporter.send(rung=at_rung)
        else:
            check_ended(training)
        reporter.checkpoint = checkpoints.save(training)
        reporter.end(Cause(training.stop_reason) if training.stop_reason else Cause.TIME_LIMIT)


def check_ended(training: Training) -> None:
    """Check that a training without further epochs says why: it is not taken for one that ran out of time."""
    if training.stop_reason is None:
        raise RuntimeError(
            f"the training ended after epoch {training.epoch} without a reason; its kind must set stop_reason, or "
            "raise Diverged after a result that diverged"
        )


def follow(
    trial: Assignment,
    task: TrialTask,
    data: "TrainingData | None",
    send: Callable[[dict[str, Any]], None],
    worker: WorkerRank,
) -> None:
    """Train one trial in step with its first worker, and report only if it fails; see `train`."""
    reporter = Reporter(task.score, send)
    with reporter.failures(), start_training(trial, task, data, worker) as training:
        for result in training.epochs():
            reporter.add([result.to_mapping()])


def start_training(
    trial: Assignment, task: TrialTask, data: "TrainingData | None", worker: WorkerRank = ALONE
) -> Training:
    """Start the training of a trial, with the user's own modules first among those that can be imported."""
    import_from(task.module_path, task.copies)
    return task.kind.start(task.request(trial, worker), data)
