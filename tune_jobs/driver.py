"""One run, from a job to a selected winner."""

import json
import platform
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces import Problem
from trainers.model_arguments import check_model_input
from tune_jobs import holdout
from tune_jobs.checkpoint_store import prune_checkpoints
from tune_jobs.errors import Interrupted, JobError, RunFailed
from tune_jobs.events import Ending, Event, RunEnded, RunStarted, Status, TrialEnded, WinnerSelected
from tune_jobs.folder import RunFolder, replacing
from tune_jobs.job import Job
from tune_jobs.job_checks import check_surroundings, importable_from, module_path
from tune_jobs.journal import Journal, Listener
from tune_jobs.records import RunRecord, failures
from tune_jobs.results import Run, open_run
from tune_jobs.scheduling import rung_epochs
from tune_jobs.selection import select_winner, write_selection
from tune_jobs.tables import write_tables
from tune_jobs.tracking import open_trackers
from tune_jobs.tracking.base import Guest
from tune_jobs.trainable import TrialTask

if TYPE_CHECKING:
    from trainers.data import DataReport, PreparedData

PACKAGES = ("tune-jobs", "torch", "ray", "optuna", "numpy")
"""Packages whose versions are recorded with a run."""


def run(job: Job, *, address: str | None = None, listeners: Sequence[Listener] = ()) -> Run:
    """Tunes: trains the trials that `job` asks for, selects the winner, and leaves a run folder.

    Args:
        job: what to do.
        address: `HOST:PORT` of a Ray cluster; None starts Ray on this machine, or uses the one of this process.
        listeners: called with every event of the run's journal, after it is written.

    Raises:
        JobError: a file or function that the job names is not there.
        TrainerError: the data cannot be used as the job asks.
        ResourceError: the machine or cluster has not what a trial needs, or a tracker's package is missing.
            Up to here nothing has been made.
        RunFailed: no trial succeeded.
        Interrupted: a signal ended the run.
    """
    from tune_jobs.ray_connection import ray_connection  # noqa: PLC0415 (nothing of Ray before the data are sound)

    with importable_from(job.folder):
        prepared = prepare(job)
        with ray_connection(address) as cluster:
            concurrent = cluster.concurrent_trials(job.resources)
            folder = make_folder(job, prepared)
            record = RunRecord(job.selection)
            with open_journal(job, folder, record, listeners) as journal:
                journal.append(run_started(job, prepared.report))
                ending = Ending.FAILED
                try:
                    from tune_jobs.tuning import share, tune_trials  # noqa: PLC0415 (imports Ray Tune)

                    task = trial_task(job, folder)
                    trainable = share(task, prepared.for_trials())
                    del prepared  # Ray's object store has the only copy of the rows from here on
                    ending = tune_trials(job, task, trainable, concurrent, folder, journal, record)
                except KeyboardInterrupt:
                    ending = Ending.INTERRUPTED
                    raise
                finally:
                    conclude(record, ending, folder, journal)
    return _judged(open_run(folder.path))


def prepare(job: Job) -> "PreparedData":
    """The job's data: read, checked, divided and encoded.

    Raises:
        JobError: a file or function that the job names is not there.
        TrainerError: the data cannot be used as the job asks.
    """
    from trainers.data import prepare_data  # noqa: PLC0415 (imports pyarrow)

    sections = {name: getattr(job, name) for name in Job.model_fields}
    problems = check_surroundings(sections, job.folder)
    if problems:
        raise JobError(problems)
    with importable_from(job.folder):
        prepared = prepare_data(job.data, job.training, job.folder)
    if unfit := check_model_input(job.model.name, prepared.info.input_shape):
        raise JobError([Problem("model.name", text) for text in unfit])
    return prepared


def make_folder(job: Job, prepared: "PreparedData") -> RunFolder:
    """The run's folder, with the resolved job, how rows are encoded, and the sealed test rows."""
    folder = RunFolder.create(Path(job.storage), job.name)
    try:
        with replacing(folder.job) as file:
            file.write(job.with_absolute_source().to_yaml().encode())
        with replacing(folder.data_info) as file:
            file.write(json.dumps(prepared.info.to_mapping(), indent=1).encode())
        holdout.seal(folder, prepared.test)
    except BaseException:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise
    return folder


@contextmanager
def open_journal(
    job: Job, folder: RunFolder, record: RunRecord, listeners: Sequence[Listener]
) -> Iterator[Journal]:
    """The run's journal, whose events `record`, the listeners and the job's trackers follow."""
    from tune_jobs.search.study import StudyMirror, study_storage  # noqa: PLC0415 (imports Optuna)

    epochs = (*rung_epochs(job.scheduler, job.training.max_epochs), job.training.max_epochs)
    study = StudyMirror(study_storage(folder), job.search.space, job.selection, epochs)
    with ExitStack() as trackers:  # closed after the journal
        followers = (Guest(study, "the Optuna study"), *open_trackers(job, folder))
        guests = [trackers.enter_context(tracker) for tracker in followers]
        with Journal(folder.journal, record.apply, _pruning(folder, record), *listeners, *guests) as journal:
            yield journal


def run_started(job: Job, report: "DataReport") -> RunStarted:
    """The first event of a run's journal."""
    return RunStarted(
        name=job.name,
        job_folder=str(job.folder),
        trials=job.trials,
        rows=report.rows,
        fingerprints={
            "data": report.fingerprint,
            "split": report.split_fingerprint,
            "space": job.search.space.fingerprint(),
        },
        versions={"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        notices=(*report.notices, *job.notices()),
    )


def trial_task(job: Job, folder: RunFolder) -> TrialTask:
    """What all trials of the job have in common; of the run folder it names the checkpoints alone."""
    return TrialTask(
        model=job.model,
        training=job.training,
        score=job.selection,
        seed=job.seed,
        rungs=rung_epochs(job.scheduler, job.training.max_epochs),
        threads=threads_of(job),
        checkpoints=folder.checkpoints,
        module_path=module_path(job.folder),
        deadline=None if job.limits.minutes is None else time.time() + 60 * job.limits.minutes,
    )


def threads_of(job: Job) -> int:
    """Threads that a trial computes with: one for each of its CPUs."""
    return max(1, int(job.resources.cpus_per_trial))


def conclude(record: RunRecord, ending: Ending, folder: RunFolder, journal: Journal) -> None:
    """Ends what is open, selects the winner and writes the tables; the run may have ended in any way."""
    for trial in record.with_status(Status.PENDING, Status.RUNNING, Status.WAITING):
        journal.append(TrialEnded(trial_id=trial.trial_id, status=Status.INTERRUPTED, reason=ending.value))
    journal.append(RunEnded(ending=ending))
    winner = select_winner(record)
    journal.append(WinnerSelected(winner=winner.trial.trial_id if winner else None))
    write_tables(record, folder)
    write_selection(record, winner, folder)


def _pruning(folder: RunFolder, record: RunRecord) -> Listener:
    def prune(event: Event) -> None:
        if isinstance(event, TrialEnded):
            prune_checkpoints(folder, record)

    return prune


def _judged(finished: Run) -> Run:
    """`finished`, if there is something to show for it.

    Raises:
        Interrupted, RunFailed: with the path of the run.
    """
    if finished.ending is Ending.INTERRUPTED:
        raise Interrupted("interrupted; what was reported is on disk", finished.path)
    if finished.winner_id is None:
        groups = failures(finished.record.trials.values())
        if not groups:
            raise RunFailed("no trial succeeded: none came to its end", finished.path)
        reason, trials = groups[0]
        of = f"{len(trials)} of {sum(len(group) for _, group in groups)} failed trials"
        raise RunFailed(f"no trial succeeded; the commonest reason, of {of}: {reason}", finished.path)
    return finished
