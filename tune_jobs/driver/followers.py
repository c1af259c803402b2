"""Let listeners, trackers and the deletion of checkpoints follow the journal of a run."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from tune_jobs.checkpoints.retention import Retention
from tune_jobs.job.job import Job
from tune_jobs.record.events import Event, RunEnded, TrialEnded
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Listener
from tune_jobs.record.live import LiveRun
from tune_jobs.remote.mirror import AfterUpload
from tune_jobs.remote.working_copy import checkpoints_of
from tune_jobs.report.writing import write_report
from tune_jobs.tracking.base import Guest, TrackedRun
from tune_jobs.tracking.opening import open_trackers


@contextmanager
def following(job: Job, run: LiveRun, listeners: Sequence[Listener]) -> Iterator[None]:
    """Let the listeners, the Optuna study and the job's trackers follow the journal inside the block."""
    from tune_jobs.tracking.optuna_study import StudyMirror  # noqa: PLC0415 (imports Optuna)

    epochs = (*job.rungs, job.max_epochs)
    study = StudyMirror.on(run.folder, job.search.space, job.selection, epochs, run.past)
    with ExitStack() as open_:
        guests = [Guest(study, "the Optuna study"), *open_trackers(tracked_run(job, run.folder, run.past))]
        for guest in guests:
            open_.enter_context(guest)
        followers: list[Listener] = [*listeners, *guests]
        for follower in followers:
            run.follow(follower)
        yield


def tracked_run(job: Job, folder: RunFolder, events: Sequence[Event]) -> TrackedRun:
    """Return what trackers need to know of a run whose events in force are `events`."""
    return TrackedRun(job, folder.path, events, write_report=partial(write_report, folder.path))


def pruning(run: LiveRun, after_upload: AfterUpload) -> Listener:
    """Return the listener that deletes the checkpoints of ended trials after their end is uploaded.

    Otherwise a run that is resumed from the object store could look for a deleted checkpoint.
    """
    retention = Retention(run.record, checkpoints_of(run.folder))

    def prune(event: Event) -> None:
        if isinstance(event, TrialEnded):
            after_upload(retention.end(event.trial_id))
        elif isinstance(event, RunEnded):
            after_upload(retention.end_run())

    return prune
