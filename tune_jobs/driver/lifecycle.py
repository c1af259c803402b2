"""Run a job from its data to a selected winner, and resume a run that was interrupted."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_jobs.cluster.capacity import Capacity, Cluster
from tune_jobs.cluster.node_checks import check_storage
from tune_jobs.driver.conclusion import conclude, conclude_again, ending_by, raise_unless_succeeded
from tune_jobs.driver.followers import following, pruning
from tune_jobs.driver.preparation import (
    check_store,
    make_folder,
    prepare,
    rows_for_trials,
    run_started,
    trial_task,
)
from tune_jobs.driver.resumption import check_data, is_over, job_to_resume, keep_job, run_resumed
from tune_jobs.errors import StorageFailed
from tune_jobs.files import probe_writable
from tune_jobs.holdout.ledger import keep_openings
from tune_jobs.job.job import Job
from tune_jobs.job.user_code import importable_from
from tune_jobs.job.user_modules import user_modules
from tune_jobs.record.events import NoticeAdded, RunResumed, RunStarted, seconds_spent
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Listener
from tune_jobs.record.run_code import check_code
from tune_jobs.record.storage_failures import storage_failures
from tune_jobs.remote.opened_run import OpenedRun, opened_run
from tune_jobs.remote.working_copy import checkpoints_of, complete, open_folder
from tune_jobs.results import Run, open_run
from tune_jobs.signals import Interrupts, interrupts
from tune_jobs.submission.handover import Handover, job_of_submission
from tune_jobs.tuning.control import RunControl

if TYPE_CHECKING:
    from tune_jobs.cluster.view import ClusterView
    from tune_jobs.location import Location
    from tune_jobs.trainers.data import TrainingData


def run(
    job: Job,
    *,
    address: str | None = None,
    listeners: Sequence[Listener] = (),
    handover: Handover | None = None,
) -> Run:
    """Train the trials that `job` asks for, select the winner, and leave a run folder.

    Args:
        job: The job to run.
        address: `HOST:PORT` of a Ray cluster; None starts Ray on this machine, or uses the one of this process.
        listeners: Called with every event of the run's journal, after it is written.
        handover: The facts that came with a job that was submitted from another machine.

    Raises:
        JobError: A file or function that the job names is missing. This and the next two leave no folder behind.
        TrainerError: The data cannot be used as the job asks.
        ResourceError: The machine or cluster lacks what a trial needs, or a tracker's package is missing.
        RunFailed: No trial succeeded.
        Interrupted: A signal ended the run, or a process of Ray died.
        StorageFailed: The run folder cannot be written to any more.
    """
    with interrupts() as signals, importable_from(job.folder):
        prepared = prepare(job)
        check_store(job, submitted=handover is not None)
        with _cluster(job, address, signals) as cluster:
            signals.defer()
            folder = make_folder(job, prepared, cluster.check_storage, handover)
            job = job_of_submission(job, folder) if handover else job
            start = _Start(run_started(job, prepared, folder), [rows_for_trials(prepared)])
            del prepared
            with storage_failures(folder.path), opened_run(folder) as opened:
                _tune(job, opened, start, cluster, listeners)
    return raise_unless_succeeded(open_run(folder.path))


def resume(
    path: str | Path,
    overrides: Sequence[tuple[str, Any]] = (),
    *,
    address: str | None = None,
    listeners: Sequence[Listener] = (),
) -> Run:
    """Continue the run in the folder at `path`, to the end that it would have had without an interruption.

    Trials that have ended stay as they are. The others continue from their last checkpoint. A run that has ended
    stays as it is, unless more trials or more time are asked for.

    Args:
        path: The run folder.
        overrides: Pairs of a dotted name and its value, for keys that may change: `("search.trials", 100)`.
        address: See `run`.
        listeners: Called with every event of the run's journal from now on.

    Raises:
        RunFolderError: The path is no run folder, or the data or the user's code have changed.
        RunInUse: Another process writes to the run.
        DamagedRun: The journal, the job or the holdout is damaged.
        JobError: An override is wrong, or its key cannot change.
        TrainerError, ResourceError, RunFailed, Interrupted, StorageFailed: See `run`.
    """
    folder = open_folder(path)
    complete(folder)
    with interrupts() as signals, storage_failures(folder.path), opened_run(folder) as opened:
        probe_writable(folder.path)
        job = job_to_resume(folder, opened.journal.past, overrides)
        with importable_from(job.folder):
            if is_over(job, opened.journal.past):
                keep_openings(opened.journal, folder)
                conclude_again(job, folder, opened.journal)
            else:
                check_code(folder, opened.journal.past, job)
                prepared = prepare(job)
                check_data(folder, opened.journal.past, prepared)
                with _cluster(job, address, signals) as cluster:
                    cluster.check_storage(folder)
                    signals.defer()
                    keep_job(job, folder, opened.journal, overrides)
                    keep_openings(opened.journal, folder)
                    start = _Start(run_resumed(job, opened.journal), [rows_for_trials(prepared)])
                    del prepared
                    _tune(job, opened, start, cluster, listeners)
    return raise_unless_succeeded(open_run(folder.path))


@dataclass(frozen=True)
class _Start:
    """The facts with which a run starts, or is resumed."""

    event: RunStarted | RunResumed
    rows: list["TrainingData | None"] = field(repr=False)
    """The training and validation rows, one object that is held here alone; `take_rows` removes it."""

    def take_rows(self) -> "TrainingData | None":
        """Return the rows, and keep no reference: once Ray has them, this process frees their memory.

        None if the trainings read their own data.
        """
        return self.rows.pop()


@dataclass(frozen=True)
class _Cluster:
    """The cluster that a run uses, and the limits of the run there."""

    view: "ClusterView"
    max_running: Capacity
    signals: Interrupts

    def check_storage(self, folder: RunFolder) -> None:
        """Check that all nodes share the folder of the run; this process has written there if it is the only one.

        Raises:
            ResourceError: Some nodes do not share it.
        """
        cluster = self.view()
        if len(cluster.nodes) > 1:
            check_storage(cluster.nodes, checkpoints_of(folder))


@contextmanager
def _cluster(job: Job, address: str | None, signals: Interrupts) -> Iterator[_Cluster]:
    """Connect to the cluster at `address`, or start Ray on this machine; see `ray_connection`."""
    from tune_jobs.tuning.ray_session import ray_connection  # noqa: PLC0415 (Ray is imported after the data are checked)

    modules = () if address is None else user_modules(job)  # many files may be read to find them
    with ray_connection(address, modules, job.facts.packages) as view:
        yield _Cluster(view, Capacity(job.resources, view), signals)


def _tune(
    job: Job, opened: OpenedRun, start: _Start, cluster: _Cluster, listeners: Sequence[Listener]
) -> None:
    """Train the trials that the journal does not end yet, and conclude the run however it ends."""
    from tune_jobs.tuning.loop import share, tune_trials  # noqa: PLC0415 (imports Ray Tune)

    run = opened.begin(start.event, job.selection)
    with following(job, run, [pruning(run, opened.after_upload), *listeners]):
        run.append(start.event)
        try:
            for text in notices_on(cluster.view(), checkpoints_of(run.folder)):
                run.append(NoticeAdded(text=text))
            started = run.record.started
            spent = seconds_spent(run.journal.past)
            task = trial_task(job, run.folder, spent, started.run_id if started else "")
            control = RunControl(
                max_running=cluster.max_running,
                interrupted=lambda: cluster.signals.requested,
                out_of_time=lambda: task.out_of_time,
            )
            ending = tune_trials(job, run, share(task, start.take_rows()), control, cluster.view)
        except BaseException as error:
            with suppress(StorageFailed, OSError):  # the error that ended the run comes first
                conclude(run, ending_by(error))
            raise
        conclude(run, ending)


def notices_on(cluster: Cluster, place: "Path | Location") -> list[str]:
    """Return what a run says at its start: machines that start later cannot be asked whether they see its `place`."""
    if not cluster.grows or not isinstance(place, Path):
        return []
    return [
        f"machines that the cluster starts from now on must mount {place.parent.parent} at that path; a trial that "
        "cannot save its checkpoints there ends the run"
    ]
