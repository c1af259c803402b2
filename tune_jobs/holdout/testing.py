"""Evaluate the winner of a run on its sealed test rows, and record the result in all places that show it."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from tune_jobs.errors import RunFolderError, StorageFailed
from tune_jobs.files import probe_writable, reason_of
from tune_jobs.holdout.ledger import claim_opening, openings_in, refuse_second_opening, write_ledger
from tune_jobs.holdout.rows import refuse_copy, require_reason, unseal
from tune_jobs.record.events import HoldoutEvaluated, in_force
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

    def open_and_evaluate(journal: Journal) -> tuple[Evaluation, int]:
        rows, number = unseal(run.folder, journal, trial_id, again=again, reason=reason)
        return evaluate(rows), number

    return _record_test(run, trial_id, open_and_evaluate, reason)


def record_own_test(
    run: StoredRun,
    trial_id: str,
    start: Callable[[], AbstractContextManager[Callable[[], Evaluation]]],
    *,
    again: bool = False,
    reason: str | None = None,
) -> dict[str, float]:
    """Let the winner's own code evaluate its own test set, once; see `evaluate_on_holdout`.

    Args:
        run: The run in the state in which the winner was chosen.
        trial_id: The winner.
        start: Returns a context in which the code waits before its test. The opening is claimed inside of it, so an
            error before the test wastes none.
        again: Test once more; this is recorded, with `reason`.
        reason: The reason for testing once more.
    """
    refuse_copy(run.folder)
    require_reason(again=again, reason=reason)

    def claim_and_test(journal: Journal) -> tuple[Evaluation, int]:
        refuse_second_opening(run.folder, journal, again=again)
        with start() as evaluate:
            number = claim_opening(run.folder, journal, trial_id, again=again, reason=reason)
            return evaluate(), number

    return _record_test(run, trial_id, claim_and_test, reason)


def _record_test(
    run: StoredRun, trial_id: str, test: Callable[[Journal], tuple[Evaluation, int]], reason: str | None
) -> dict[str, float]:
    """Call `test` with the open journal, in which it claims the opening, and record its numbers."""
    _check_writable(run.folder)
    results: dict[str, float] = {}
    try:
        with opened_run(run.folder) as opened:
            run.refuse_if_continued(opened.journal.past)
            evaluation, number = test(opened.journal)
            results = {f"test_{name}": value for name, value in evaluation.metrics.items()}
            evaluated = HoldoutEvaluated(number=number, trial_id=trial_id, results=results, reason=reason)
            _record_results(opened.journal, run, evaluated)
    except StorageFailed as error:  # maybe only the object store does not take them in the end
        raise RunFolderError(
            f"{error}. The results: {json.dumps(results)}" if results else str(error)
        ) from error
    return results


def _record_results(journal: Journal, run: StoredRun, evaluated: HoldoutEvaluated) -> None:
    """Record the results in the journal, the trackers and the ledger.

    Raises:
        StorageFailed: Neither the journal nor the ledger can be written to.
    """
    failure: StorageFailed | None = None
    tracked = TrackedRun(run.job, run.folder.path, in_force(journal.past))
    with feed_trackers(journal, tracked, lost="the result of the test is not tracked"):
        try:
            journal.append(evaluated)
        except StorageFailed as error:
            failure = error
    try:  # a resumption or a repair adds to the journal what the ledger alone has
        write_ledger(run.folder, openings_in([*journal.past, evaluated]))
    except OSError:
        if failure is not None:
            raise failure from None


def _check_writable(folder: RunFolder) -> None:
    try:
        probe_writable(folder.path)
    except OSError as error:
        raise RunFolderError(
            f"{folder.path}: cannot be written to ({reason_of(error, folder.path)}), so the opening of the holdout "
            "could not be recorded, and the test rows were not read; free disk space, or make the folder writable"
        ) from error
