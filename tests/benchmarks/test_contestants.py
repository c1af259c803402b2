import math
from collections import Counter
from functools import partial

import pytest

from benchmarks.contestants import ROWS, as_documented, tune_jobs
from tests.simulation.curve_tables import Table
from tests.simulation.made_up_tables import MakeTable
from tests.simulation.replay import Step, replay
from tests.simulation.reporting import as_a_run
from tune_jobs.record.codes import Cause, Status
from tune_jobs.record.events import (
    CheckpointWritten,
    EpochsReported,
    Event,
    TrialCreated,
    TrialEnded,
)
from tune_jobs.worker.reporting import SCORE, TIME, Report

NAN = math.nan
BUDGET = 120
pytestmark = pytest.mark.filterwarnings("ignore:All-NaN slice:RuntimeWarning")  # Ray's ASHA, of a rung of NaN


def replayed(row: str, table: Table, seed: int = 3) -> list[Step]:
    with ROWS[row].build(table, 4, seed) as contestant:
        return replay(contestant, table, steps=BUDGET, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_every_row_spends_its_budget_and_does_the_same_with_the_same_seed(
    row: str, make_table: MakeTable
) -> None:
    table = make_table()

    first, again = replayed(row, table), replayed(row, table)

    assert len(first) == BUDGET
    assert repr(first) == repr(again)  # NaN is not equal to itself


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_no_trial_continues_after_it_has_diverged(row: str, make_table: MakeTable) -> None:
    steps = replayed(row, make_table(diverging=30))

    diverged = Counter(step.configuration for step in steps if math.isnan(step.loss))
    assert diverged
    assert set(diverged.values()) == {1}


@pytest.mark.parametrize(
    ("row", "rungs"),
    [
        ("ray", {1, 3, 9}),
        ("random-grace-1", {1, 3, 9}),
        ("ray-grace-2", {2, 6, 9}),
        ("random", {2, 6, 9}),
    ],
)
def test_trials_stop_at_rungs(row: str, rungs: set[int], make_table: MakeTable) -> None:
    last: dict[int, int] = {}
    for step in replayed(row, make_table(diverging=0)):
        last[step.configuration] = step.number

    # 9 is the end; four trials may be under way when the budget is spent.
    assert sum(steps not in rungs for steps in last.values()) <= 4


def test_a_documented_trainable_reports_what_it_computes_and_returns_after_nan() -> None:
    curve = [(1.0, 2.0), (0.5, NAN)]

    assert list(as_documented({}, curve[:1])) == [{"loss": 2.0, "done": False}]
    assert [math.isnan(result["loss"]) for result in as_documented({}, curve)] == [False, True]


def test_our_trainable_reports_scores_at_rungs_and_that_it_is_done_at_the_end() -> None:
    curve = [(1.0, 2.0), (0.5, 3.0), (0.4, 1.5), (0.3, 1.0)]

    results = list(as_a_run({"trial_id": "0007"}, curve, max_epochs=4, rungs=(1, 3)))

    assert [result[SCORE] for result in results] == [2.0, 2.0, 1.5, 1.0]
    assert [result.get(TIME) for result in results] == [1, None, 3, 4]
    assert [result["done"] for result in results] == [False, False, False, True]
    reports = [Report.of_result(result) for result in results]
    assert [report and report.checkpoint for report in reports] == ["0007/1", None, "0007/3", None]
    assert reports[-1] is not None
    assert reports[-1].cause is Cause.MAX_EPOCHS


def test_our_trainable_fails_if_the_loss_is_not_finite() -> None:
    (result,) = as_a_run({"trial_id": "0007"}, [(1.0, math.inf)], max_epochs=4, rungs=(1, 3))

    report = Report.of_result(result)
    assert report is not None
    assert report.done
    assert report.reason == "the validation loss of epoch 1 is inf"
    assert TIME not in result


def test_our_rows_write_the_journal_of_a_run(make_table: MakeTable) -> None:
    events: list[Event] = []
    table = make_table(diverging=30)
    build = partial(
        tune_jobs, search={"method": "random"}, scheduler={"method": "asha"}, listeners=[events.append]
    )

    with build(table, 4, 0) as contestant:
        steps = replay(contestant, table, steps=BUDGET, seed=0)

    epochs = [row for event in events if isinstance(event, EpochsReported) for row in event.results]
    assert [row["val_loss"] for row in epochs] == pytest.approx([step.loss for step in steps], nan_ok=True)
    assert sum(isinstance(event, CheckpointWritten) for event in events) > 10
    created = [event.trial_id for event in events if isinstance(event, TrialCreated)]
    assert created == [f"{number:04d}" for number in range(len(created))]
    failed = [event for event in events if isinstance(event, TrialEnded) and event.status is Status.FAILED]
    assert "the validation loss of epoch 1 is nan" in {event.reason for event in failed}
    assert len(failed) == sum(math.isnan(step.loss) for step in steps)


def test_a_run_that_has_tried_every_configuration_ends_before_its_budget(make_table: MakeTable) -> None:
    table = make_table(configurations=6, diverging=1)

    with ROWS["random"].build(table, 4, 0) as contestant:
        steps = replay(contestant, table, steps=1_000, seed=0)

    # One diverges at once. Of six at epoch 2 two continue, and of two at epoch 6 none does.
    assert Counter(step.number for step in steps) == {1: 6, 2: 5, 3: 2, 4: 2, 5: 2, 6: 2}
