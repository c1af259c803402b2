"""Evaluate the winner of a run on its sealed test rows, and record the result in all places that show it."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tune_jobs.errors import RunFolderError, StorageFailed
from tune_jobs.files import probe_writable, reason_of
from tune_jobs.holdout.ledger import read_ledger, record_results
from tune_jobs.holdout.rows import unseal
from tune_jobs.record.events import Event, HoldoutEvaluated, HoldoutUnsealed, in_force
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal
from tune_jobs.record.reading import StoredRun
from tune_jobs.remote.opened_run import opened_run
from tune_jobs.tracking.base import TrackedRun
from tune_jobs.tracking.opening import feed_trackers
from tune_jobs.trainers.interface import Evaluation

if TYPE_CHECKING:
    from tune_jobs.trainers.data import Rows

Evaluate = Callable[["Rows"], Evaluation]


def evaluate_on_holdout(
    run: StoredRun, trial_id: str, evaluate: Evaluate, *, again: bool = False, reason: str | None = None
) -> dict[str, float]:
    """Open the holdout and evaluate the winner on it, once.

    Args:
        run: The run in the state in which the winner was chosen.
        trial_id: The winner.
        evaluate: Measures the winner on encoded rows. Everything that can fail without the rows has succeeded
            by now: an error must not waste an opening.
        again: Open the holdout once more; this is recorded, with `reason`.
        reason: The reason for opening it once more.

    Returns:
        `test_<name>` for each number of the evaluation, such as `test_loss`.

    Raises:
        HoldoutOpened: The test rows were read before, and `again` was not given.
        RunInUse: The run is in progress.
        RunFolderError: The opening could not be recorded, and the rows were not read; or the result could not be
            recorded, and the message holds it.
        DamagedRun: The rows cannot be read.
    """
    _check_writable(run.folder)
    with _keep_results(run.folder), opened_run(run.folder) as opened:
        journal = opened.journal
        run.refuse_if_continued(journal.past)
        rows, number = unseal(run.folder, journal, trial_id, again=again, reason=reason)
        unsealed = HoldoutUnsealed(trial_id=trial_id, reason=reason)
        journal.append(unsealed)
        results = {f"test_{name}": value for name, value in evaluate(rows).metrics.items()}
        record_results(run.folder, number, results)
        evaluated = HoldoutEvaluated(number=number, trial_id=trial_id, results=results, reason=reason)
        _append_result(journal, run, [*journal.past, unsealed], evaluated)
    return results


def _append_result(
    journal: Journal, run: StoredRun, past: Sequence[Event], evaluated: HoldoutEvaluated
) -> None:
    """Add the result, which the ledger holds already, to the journal and the trackers."""
    tracked = TrackedRun(run.job, run.folder.path, in_force(past))
    with (
        feed_trackers(journal, tracked, lost="the result of the test is not tracked"),
        suppress(StorageFailed),  # a resumption or a repair adds it from the ledger
    ):
        journal.append(evaluated)


@contextmanager
def _keep_results(folder: RunFolder) -> Iterator[None]:
    """Add the results to the error if the object store does not take them in the end."""
    known = len(read_ledger(folder))
    try:
        yield
    except StorageFailed as error:
        new = read_ledger(folder)[known:]
        results = next((entry.results for entry in new if entry.results), None)
        raise RunFolderError(
            f"{error}. The results: {json.dumps(results)}" if results else str(error)
        ) from error


def _check_writable(folder: RunFolder) -> None:
    try:
        probe_writable(folder.path)
    except OSError as error:
        raise RunFolderError(
            f"{folder.path}: cannot be written to ({reason_of(error, folder.path)}), so the opening of the holdout "
            "could not be recorded, and the test rows were not read; free disk space, or make the folder writable"
        ) from error
