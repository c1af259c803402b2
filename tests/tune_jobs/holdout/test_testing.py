"""The winner is evaluated on the sealed rows once, and the ledger and the journal hold the result."""

from collections.abc import Callable

import numpy as np
import pytest

from tune_jobs.errors import DamagedRun, HoldoutOpened, LaterVersion, RunFolderError, RunInUse
from tune_jobs.holdout.ledger import LEDGER, read_ledger
from tune_jobs.holdout.testing import evaluate_on_holdout
from tune_jobs.record.events import HoldoutEvaluated, HoldoutUnsealed, RunResumed, TrialCreated
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal, read_journal
from tune_jobs.record.reading import StoredRun, read_run
from tune_jobs.trainers.data import Rows
from tune_jobs.trainers.interface import Evaluation

MakeRun = Callable[..., RunFolder]


@pytest.fixture
def run(make_run: MakeRun, rows: Rows) -> StoredRun:
    return read_run(make_run([{"losses": [0.5]}], rows=rows))


def evaluate(rows: Rows) -> Evaluation:
    return Evaluation(metrics={"loss": float(len(rows.x)), "mae": 0.5})


RESULTS = {"test_loss": 5.0, "test_mae": 0.5}


def test_ledger_and_journal_hold_the_result_after_the_opening(run: StoredRun) -> None:
    assert evaluate_on_holdout(run, "0000", evaluate) == RESULTS
    (entry,) = read_ledger(run.folder)
    assert (entry.trial_id, entry.reason, entry.results) == ("0000", None, RESULTS)
    opened, evaluated = read_journal(run.folder.journal)[-2:]
    assert isinstance(opened, HoldoutUnsealed)
    assert isinstance(evaluated, HoldoutEvaluated)
    assert (evaluated.number, evaluated.trial_id, evaluated.results) == (1, "0000", RESULTS)


def test_a_second_opening_needs_a_reason_even_if_another_process_opened_first(run: StoredRun) -> None:
    evaluate_on_holdout(read_run(run.folder), "0000", evaluate)
    with pytest.raises(HoldoutOpened):
        evaluate_on_holdout(run, "0000", evaluate)
    assert evaluate_on_holdout(run, "0000", evaluate, again=True, reason="a reviewer asked") == RESULTS
    assert [entry.reason for entry in read_ledger(run.folder)] == [None, "a reviewer asked"]


def test_a_ledger_of_a_later_version_is_refused_and_is_not_damaged(run: StoredRun) -> None:
    evaluate_on_holdout(run, "0000", evaluate)
    ledger = run.folder.holdout / LEDGER
    later = (
        ledger.read_bytes() + b'{"number": 2, "time": 1.0, "trial_id": "0000", "reason": "r", "fold": 3}\n'
    )
    ledger.write_bytes(later)
    with pytest.raises(
        LaterVersion, match=r"line 3 was written by a later version of tune-jobs.* know fold;"
    ):
        evaluate_on_holdout(read_run(run.folder), "0000", evaluate, again=True, reason="a reviewer asked")
    assert ledger.read_bytes() == later
    ledger.write_bytes(later.replace(b"}", b"", 1))
    with pytest.raises(DamagedRun, match="line 1 is damaged"):
        read_ledger(run.folder)


def test_a_run_that_was_continued_since_it_was_read_is_not_opened(run: StoredRun) -> None:
    with Journal(run.folder.journal) as journal:
        journal.append(RunResumed(trials=2, versions={}))
        journal.append(TrialCreated(trial_id="0001", number=1, configuration={"lr": 0.5}))
    with pytest.raises(RunFolderError, match="the run was continued after it was opened; open it again"):
        evaluate_on_holdout(run, "0000", evaluate)
    assert read_ledger(run.folder) == []


@pytest.mark.slow
def test_a_run_in_progress_is_not_opened(run: StoredRun) -> None:
    with Journal(run.folder.journal), pytest.raises(RunInUse):
        evaluate_on_holdout(run, "0000", evaluate)
    assert read_ledger(run.folder) == []


def test_an_evaluation_that_fails_leaves_the_opening_on_record(run: StoredRun) -> None:
    def fail(rows: Rows) -> Evaluation:
        assert np.isfinite(rows.x).all()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        evaluate_on_holdout(run, "0000", fail)
    (entry,) = read_ledger(run.folder)
    assert entry.results is None
    assert isinstance(read_journal(run.folder.journal)[-1], HoldoutUnsealed)
