"""One run, from a job to a selected winner; and one that was interrupted, from its journal to the same end."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_jobs.checkpoints.store import prune_checkpoints, sync_checkpoints, unneeded
from tune_jobs.cluster.capacity import Capacity, Cluster
from tune_jobs.cluster.node_checks import check_storage
from tune_jobs.driver.preparation import check_store, make_folder, prepare, run_started, trial_task
from tune_jobs.driver.resumption import check_data, is_over, job_to_resume, run_resumed, write_job
from tune_jobs.errors import Interrupted, RunFailed, StorageFailed
from tune_jobs.files import probe_writable
from tune_jobs.holdout.ledger import append_openings
from tune_jobs.job.job import Job
from tune_jobs.job.user_code import importable_from
from tune_jobs.job.user_modules import user_modules
from tune_jobs.record.events import (
    Cause,
    Ending,
    Event,
    Noticed,
    RunEnded,
    RunResumed,
    RunStarted,
    Status,
    TrialEnded,
    WinnerSelected,
    in_force,
    seconds_spent,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal, Listener
from tune_jobs.record.live import LiveRun
from tune_jobs.record.run_record import RunRecord, failures
from tune_jobs.record.storage_failures import storage_failures
from tune_jobs.record.tables import write_tables
from tune_jobs.remote.mirror import AfterUpload, mirrored
from tune_jobs.remote.working_copy import checkpoints_of, complete, open_folder
from tune_jobs.report.writing import write_report
from tune_jobs.results import Run, open_run
from tune_jobs.selection.rule import select_winner, write_selection
from tune_jobs.signals import Interrupts, interrupts
from tune_jobs.submission.handover import Handover, job_of_submission, keep_modules
from tune_jobs.tracking.base import Guest, TrackedRun
from tune_jobs.tracking.opening import feed_trackers, open_trackers

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
    """Tunes: trains the trials that `job` asks for, selects the winner, and leaves a run folder.

    Args:
        job: what to do.
        address: `HOST:PORT` of a Ray cluster; None starts Ray on this machine, or uses the one of this process.
        listeners: called with every event of the run's journal, after it is written.
        handover: what came with a job that was submitted to a cluster from another machine.

    Raises:
        JobError: a file or function that the job names is not there.
        TrainerError: the data cannot be used as the job asks.
        ResourceError: the machine or cluster has not what a trial needs, or a tracker's package is missing.
            Up to here nothing has been made.
        RunFailed: no trial succeeded.
        Interrupted: a signal ended the run, or the death of a process of Ray.
        StorageFailed: the run folder cannot be written to any more.
    """
    from tune_jobs.tuning.ray_session import ray_connection  # noqa: PLC0415 (nothing of Ray before the data are sound)

    with interrupts() as signals, importable_from(job.folder):
        prepared = prepare(job)
        check_store(job, submitted=handover is not None)
        with ray_connection(address, user_modules(job)) as view:
            capacity = Capacity(job.resources, view)
            signals.defer()
            folder = make_folder(job, prepared, lambda made: _check_storage(view(), made), handover)
            job = job_of_submission(job, folder) if handover else job
            begins, data = run_started(job, prepared.report), [prepared.for_trials()]
            del prepared  # `data` gives up the last copy of the rows outside of Ray
            with (
                storage_failures(folder.path),
                Journal(folder.journal) as journal,
                mirrored(folder, journal) as after_upload,
            ):
                live = LiveRun.begun(folder, journal, begins, job.selection)
                pruning = _pruning(live, after_upload)
                _tune(job, live, begins, data, capacity, view, [pruning, *listeners], signals)
    return judged(open_run(folder.path))


def resume(
    path: str | Path,
    overrides: Sequence[tuple[str, Any]] = (),
    *,
    address: str | None = None,
    listeners: Sequence[Listener] = (),
) -> Run:
    """Goes on with the run in the folder at `path`, to where it would have come without an interruption.

    Trials that have ended stay as they are; the others go on from their last checkpoint. A run that has ended
    is left as it is, unless more trials, or more time, are asked for.

    Args:
        path: the run folder.
        overrides: pairs of a dotted name and its value, of what may change: `("search.trials", 100)`.
        address: see `run`.
        listeners: called with every event of the run's journal from here on.

    Raises:
        RunFolderError: it is no run folder, or the data are not those of then.
        RunInUse: another process is at work on the run.
        DamagedRun: the journal, the job or the holdout is damaged.
        JobError: an override is wrong, or of what cannot change.
        TrainerError, ResourceError, RunFailed, Interrupted, StorageFailed: see `run`.
    """
    folder = open_folder(path)
    complete(folder)
    with (
        interrupts() as signals,
        storage_failures(folder.path),
        Journal(folder.journal) as journal,
        mirrored(folder, journal) as after_upload,
    ):
        probe_writable(folder.path)
        job = job_to_resume(folder, journal.past, overrides)
        if is_over(job, journal.past):
            append_openings(journal, folder)
            with importable_from(job.folder):
                _conclude_again(job, folder, journal)
            return judged(open_run(folder.path))
        from tune_jobs.tuning.ray_session import ray_connection  # noqa: PLC0415 (see `run`)

        with importable_from(job.folder):
            prepared = prepare(job)
            check_data(folder, journal.past, prepared)
            modules = user_modules(job)
            with ray_connection(address, modules) as view:
                capacity = Capacity(job.resources, view)
                _check_storage(view(), folder)
                signals.defer()
                write_job(job, folder)
                if job.folder == folder.submitted:
                    keep_modules(folder, modules)
                append_openings(journal, folder)
                begins, data = run_resumed(job, journal), [prepared.for_trials()]
                del prepared
                live = LiveRun.begun(folder, journal, begins, job.selection)
                pruning = _pruning(live, after_upload)
                _tune(job, live, begins, data, capacity, view, [pruning, *listeners], signals)
    return judged(open_run(folder.path))


def _tune(
    job: Job,
    run: LiveRun,
    begins: RunStarted | RunResumed,
    data: list["TrainingData"],
    capacity: Capacity,
    view: "ClusterView",
    listeners: Sequence[Listener],
    signals: Interrupts,
) -> None:
    """Trains what is to be trained, from what the journal holds on, and concludes the run however it ends."""
    from tune_jobs.tuning.loop import share, tune_trials  # noqa: PLC0415 (imports Ray Tune)

    with following(job, run, listeners):
        run.journal.append(begins)
        try:
            for text in notices_on(view(), checkpoints_of(run.folder)):
                run.journal.append(Noticed(text=text))
            task = trial_task(job, run.folder, seconds_spent(run.journal.past))
            trainable = share(task, data.pop())
            ending = tune_trials(job, task, trainable, capacity, view, run, lambda: signals.requested)
        except BaseException as error:
            with suppress(StorageFailed, OSError):  # what ended the run comes first
                conclude(run, _ending_by(error))
            raise
        conclude(run, ending)


def _check_storage(cluster: Cluster, folder: RunFolder) -> None:
    if len(cluster.nodes) > 1:  # where it is the only one, this process has written there
        check_storage(cluster.nodes, checkpoints_of(folder))


def notices_on(cluster: Cluster, place: "Path | Location") -> list[str]:
    """What is to be said as a run begins: machines that are not there yet cannot be asked for its `place`."""
    if not cluster.grows or not isinstance(place, Path):
        return []
    return [
        f"machines that the cluster starts from now on must mount {place.parent.parent} under that path: a trial "
        "that cannot keep its checkpoints there ends the run"
    ]


def _ending_by(error: BaseException) -> Ending:
    if isinstance(error, StorageFailed):
        return Ending.STORAGE
    return Ending.INTERRUPTED if isinstance(error, KeyboardInterrupt) else Ending.FAILED


@contextmanager
def following(job: Job, run: LiveRun, listeners: Sequence[Listener]) -> Iterator[None]:
    """Has the run's record, the listeners and the job's trackers follow the journal."""
    from tune_jobs.tracking.optuna_study import StudyMirror  # noqa: PLC0415 (imports Optuna)

    epochs = (*job.rungs, job.max_epochs)
    study = StudyMirror.on(run.folder, job.search.space, job.selection, epochs, run.past)
    with ExitStack() as open_:
        guests = [Guest(study, "the Optuna study"), *open_trackers(_tracked(job, run.folder, run.past))]
        for guest in guests:
            open_.enter_context(guest)
        followers: list[Listener] = [*listeners, *guests]
        for follower in followers:
            run.follow(follower)
        yield


def _tracked(job: Job, folder: RunFolder, events: Sequence[Event]) -> TrackedRun:
    return TrackedRun(job, folder.path, events, write_report=partial(write_report, folder.path))


def conclude(run: LiveRun, ending: Ending) -> None:
    """Ends what is open, selects the winner and writes the tables; the run may have ended in any way."""
    for trial in run.record.with_status(Status.PENDING, Status.RUNNING, Status.WAITING):
        run.journal.append(
            TrialEnded(
                trial_id=trial.trial_id,
                status=Cause.RUN_ENDED.status,
                cause=Cause.RUN_ENDED,
                reason=ending.sentence,
                resumable=True,
            )
        )
    run.journal.append(RunEnded(ending=ending))
    _select(run.record, run.folder, run.journal)


def _conclude_again(job: Job, folder: RunFolder, journal: Journal) -> None:
    """Does what is left where a run was killed while it was concluded, or its trackers while they wrote."""
    past = in_force(journal.past)
    selected = any(isinstance(event, WinnerSelected) for event in past)
    with feed_trackers(journal, _tracked(job, folder, past), lost="what trackers may lack is not made good"):
        _select(RunRecord.replay(past, job.selection), folder, None if selected else journal)


def _select(record: RunRecord, folder: RunFolder, journal: Journal | None) -> None:
    """Selects the winner and writes the tables; the journal is told, unless it has been before."""
    winner = select_winner(record)
    if journal is not None:
        journal.append(WinnerSelected(winner=winner.trial.trial_id if winner else None))
    sync_checkpoints(folder, record)
    write_tables(record, folder)
    write_selection(record, winner, folder)


def _pruning(run: LiveRun, after_upload: AfterUpload) -> Listener:
    """Nobody may be told by an object store to go on from a checkpoint that is gone: it hears of the end first."""
    place = checkpoints_of(run.folder)

    def prune(event: Event) -> None:
        if isinstance(event, TrialEnded):
            done = unneeded(run.record)
            after_upload(lambda: prune_checkpoints(place, done))

    return prune


def judged(finished: Run) -> Run:
    """`finished`, if there is something to show for it.

    Raises:
        Interrupted, RunFailed: with the path of the run.
    """
    if finished.ending in {Ending.INTERRUPTED, Ending.RAY}:
        why = "interrupted" if finished.ending is Ending.INTERRUPTED else finished.ending.sentence
        raise Interrupted(
            f"{why}; what was reported is on disk, and `tune-jobs resume {finished.path}` goes on",
            finished.path,
        )
    if finished.winner_id is None:
        groups = failures(finished.record.trials.values())
        if not groups:
            raise RunFailed("no trial succeeded: none came to its end", finished.path)
        reason, trials = groups[0]
        of = f"{len(trials)} of {sum(len(group) for _, group in groups)} failed trials"
        raise RunFailed(f"no trial succeeded; the commonest reason, of {of}: {reason}", finished.path)
    return finished
