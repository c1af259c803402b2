"""Conclude a run: end its open trials, select the winner, write the tables."""

from tune_jobs.checkpoints.retention import sync_checkpoints
from tune_jobs.driver.followers import tracked_run
from tune_jobs.errors import Interrupted, RunFailed, StorageFailed
from tune_jobs.job.job import Job
from tune_jobs.record.codes import Cause, Ending, Status
from tune_jobs.record.events import (
    RunEnded,
    TrialEnded,
    WinnerSelected,
    in_force,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal
from tune_jobs.record.like_failures import like_failures
from tune_jobs.record.live import LiveRun
from tune_jobs.record.run_record import RunRecord, failures
from tune_jobs.record.tables import write_tables
from tune_jobs.results import Run
from tune_jobs.selection.rule import select_winner, write_selection
from tune_jobs.text import quoted
from tune_jobs.tracking.opening import feed_trackers


def ending_by(error: BaseException) -> Ending:
    """Return how a run ends that `error` has stopped."""
    if isinstance(error, StorageFailed):
        return Ending.STORAGE
    return Ending.INTERRUPTED if isinstance(error, KeyboardInterrupt) else Ending.FAILED


def conclude(run: LiveRun, ending: Ending) -> None:
    """End the open trials, select the winner and write the tables, however the run has ended."""
    open_ = run.record.with_status(Status.PENDING, Status.RUNNING, Status.WAITING)
    ends = [TrialEnded.by(trial.trial_id, Cause.RUN_ENDED, ending.sentence) for trial in open_]
    run.journal.append(*ends, RunEnded(ending=ending))
    _select(run.record, run.folder, run.journal)


def conclude_again(job: Job, folder: RunFolder, journal: Journal) -> None:
    """Conclude a run that has ended: it may have been killed while it or its trackers wrote the last of it."""
    past = in_force(journal.past)
    selected = any(isinstance(event, WinnerSelected) for event in past)
    with feed_trackers(journal, tracked_run(job, folder, past), lost="trackers may lack the last events"):
        _select(RunRecord.replay(past, job.selection), folder, None if selected else journal)


def _select(record: RunRecord, folder: RunFolder, journal: Journal | None) -> None:
    """Select the winner and write the tables, and the journal too unless it has the winner."""
    winner = select_winner(record)
    if journal is not None:
        journal.append(WinnerSelected(winner=winner.trial.trial_id if winner else None))
    sync_checkpoints(folder, record)
    write_tables(record, folder)
    write_selection(record, winner, folder)


def raise_unless_succeeded(finished: Run) -> Run:
    """Return `finished` if it has a winner.

    Raises:
        Interrupted, RunFailed: It has none. The errors hold the path of the run.
    """
    if finished.ending in {Ending.INTERRUPTED, Ending.RAY}:
        why = "interrupted" if finished.ending is Ending.INTERRUPTED else finished.ending.sentence
        raise Interrupted(
            f"{why}; everything reported so far is saved. Continue with `tune-jobs resume {quoted(finished.path)}`",
            finished.path,
        )
    if finished.winner_id is None:
        if alike := finished.ending is Ending.LIKE_FAILURES and like_failures(
            finished.record.trials.values()
        ):
            raise RunFailed(
                f"no trial succeeded: {alike.sentence}\nThe run stopped, because the others would fail too. If the "
                f"code is wrong, change it and start a new run. Otherwise continue with `tune-jobs resume "
                f"{quoted(finished.path)}`",
                finished.path,
            )
        groups = failures(finished.record.trials.values())
        if not groups:
            raise RunFailed("no trial succeeded: the run ended before any trial did", finished.path)
        reason, trials = groups[0]
        of = f"{len(trials)} of {sum(len(group) for _, group in groups)} failed trials"
        raise RunFailed(f"no trial succeeded. The most common reason, in {of}: {reason}", finished.path)
    return finished
