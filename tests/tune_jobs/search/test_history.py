"""The observations of a search after each event."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tune_jobs.search.conftest import created, ended, history_of, reported
from tune_jobs.record.codes import Cause, Status
from tune_jobs.record.events import (
    EpochsReported,
    Event,
    RunEnded,
    TrialPaused,
    TrialPromoted,
    TrialStarted,
    WorkerLost,
)
from tune_jobs.search.history import SearchHistory
from tune_jobs.search_spaces import parse_space
from tune_jobs.trainers.settings import ScoreSettings

SPACE = parse_space({"x": {"low": 0.0, "high": 1.0}})
INF, NAN = math.inf, math.nan


def scores(*events: Event, **how: object) -> dict[int, dict[str, float]]:
    """Return the scores of trials 0, 1 and 2 after `events`, without epochs that have no scores."""
    creations = [created(number, {"x": number / 10}) for number in range(3)]
    known = history_of(SPACE, *creations, *events, **how).snapshot().scores  # type: ignore[arg-type]
    assert list(known) == sorted(known)
    return {epoch: dict(entries) for epoch, entries in known.items() if entries}


def test_a_score_is_the_best_up_to_each_epoch_at_which_trials_are_compared() -> None:
    assert scores(reported(0, 0.5, 0.7, 0.4, 0.3, 0.9)) == {1: {"0000": 0.5}, 3: {"0000": 0.4}}
    whole = scores(reported(1, *[0.5, 0.1], *[0.9] * 7))
    assert whole == {1: {"0001": 0.5}, 3: {"0001": 0.1}, 9: {"0001": 0.1}}


def test_a_score_that_is_to_be_high_is_turned() -> None:
    assert scores(reported(0, 0.5, 0.2, 0.8), score=ScoreSettings(metric="val_loss", mode="max")) == {
        1: {"0000": -0.5},
        3: {"0000": -0.8},
    }


def test_trials_come_in_the_order_in_which_they_were_compared() -> None:
    known = scores(reported(2, 0.1), reported(0, 0.3, 0.3, 0.3), reported(1, 0.2, 0.2, 0.2))
    assert [list(entries) for entries in known.values()] == [["0002", "0000", "0001"], ["0000", "0001"]]


@pytest.mark.parametrize("loss", [NAN, INF, -INF])
def test_a_trial_that_diverged_has_lost_at_the_next_comparison_alone(loss: float) -> None:
    failed = ended(0, Cause.DIVERGED)
    assert scores(reported(0, loss), failed) == {1: {"0000": INF}}
    assert scores(reported(0, 0.5, loss), failed) == {1: {"0000": 0.5}, 3: {"0000": INF}}
    assert scores(reported(0, 0.5, 0.4, 0.3, loss), failed) == {
        1: {"0000": 0.5},
        3: {"0000": 0.3},
        9: {"0000": INF},
    }


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(), min_size=1, max_size=9), st.sampled_from(["min", "max"]), st.booleans())
def test_no_score_is_ever_nan(losses: list[float], mode: str, trained: bool) -> None:
    """The number that is not finite is the validation loss or only another metric."""
    metric = "val_loss" if trained else "r2"
    event = reported(0, *losses)
    results = [{**result, "r2": result["val_loss"]} for result in event.results]
    if not trained:
        results = [{**result, "val_loss": 1.0} for result in results]
    known = scores(
        EpochsReported(trial_id="0000", results=results, worker=""),
        score=ScoreSettings(metric=metric, mode=mode),
    )
    assert len(known) == sum(len(losses) >= epoch for epoch in (1, 3, 9)) or not all(
        map(math.isfinite, losses)
    )
    for epoch, entries in known.items():
        finite = [value for value in losses[:epoch] if math.isfinite(value)]
        best = {"min": min, "max": lambda values: -max(values)}[mode](finite) if finite else INF
        assert entries["0000"] in {best, INF}


@pytest.mark.parametrize("cause", [cause for cause in Cause if cause.of_training])
def test_a_trial_that_ended_by_itself_keeps_its_score_for_later_comparisons(cause: Cause) -> None:
    end = ended(0, cause)
    assert scores(reported(0, 0.5, 0.4), end) == {1: {"0000": 0.5}, 3: {"0000": 0.4}, 9: {"0000": 0.4}}
    assert scores(reported(0, 0.5), end) == {1: {"0000": 0.5}, 3: {"0000": 0.5}, 9: {"0000": 0.5}}


@pytest.mark.parametrize("cause", [cause for cause in Cause if not cause.of_training])
def test_a_trial_that_was_stopped_or_failed_has_no_score_at_epochs_that_it_did_not_reach(
    cause: Cause,
) -> None:
    assert scores(reported(0, 0.5, 0.4), ended(0, cause)) == {1: {"0000": 0.5}}


def test_epochs_that_are_done_again_change_nothing() -> None:
    once = scores(reported(0, 0.5, 0.4))
    assert scores(reported(0, 0.5, 0.4), reported(0, 0.1, 0.2)) == once
    assert scores(reported(0, 0.5, 0.4), reported(0, 0.1, 0.2, 0.3)) == {**once, 3: {"0000": 0.3}}


def test_without_rungs_trials_are_compared_at_the_last_epoch() -> None:
    known = scores(reported(0, *[0.3] * 9), reported(1, 0.1), rungs=())
    assert known == {9: {"0000": 0.3}}


def test_running_trials_without_a_score_at_an_epoch_are_known() -> None:
    x = [{"x": number / 10} for number in range(6)]
    history = history_of(
        SPACE,
        *[created(number, configuration) for number, configuration in enumerate(x)],
        reported(0, 0.5),
        reported(1, 0.5, 0.4, 0.3),
        ended(2, Status.FAILED),
        reported(3, 0.5),
        TrialPaused(trial_id="0003", epoch=1),
    )
    known = history.snapshot()
    assert known.running_before(1) == [x[4], x[5]]
    assert known.running_before(3) == [x[0], x[4], x[5]], "0 has not come so far, 1 has, 2 failed, 3 waits"
    assert known.running_before(9) == [x[0], x[1], x[4], x[5]]
    history.apply(TrialPromoted(trial_id="0003", epoch=1))
    assert history.snapshot().running_before(3) == [x[0], x[3], x[4], x[5]]
    more = known.with_proposal({"x": 0.9}, SPACE.key({"x": 0.9}))
    assert more.running_before(1) == [x[4], x[5], {"x": 0.9}]
    assert SPACE.key({"x": 0.9}) in more.tried
    both = more.with_proposal({"x": 0.8}, SPACE.key({"x": 0.8}))
    assert both.running_before(1)[-2:] == [{"x": 0.9}, {"x": 0.8}]


def test_configurations_of_failed_trials_count_as_tried() -> None:
    x = [{"x": number / 10} for number in range(3)]
    creations = [created(number, configuration) for number, configuration in enumerate(x)]
    history = history_of(SPACE, *creations, reported(0, 0.5), ended(1, Status.FAILED))
    assert history.snapshot().tried == frozenset(map(SPACE.key, x)) == history.tried
    assert dict(history.snapshot().configurations) == {"0000": x[0], "0001": x[1], "0002": x[2]}


def test_later_events_do_not_change_earlier_observations() -> None:
    history = history_of(SPACE, created(0, {"x": 0.1}))
    before = history.snapshot()
    for event in (created(1, {"x": 0.2}), reported(0, 0.5), ended(0, Status.STOPPED_EARLY)):
        history.apply(event)
    assert list(before.configurations) == ["0000"]
    assert (before.scores, before.running) == ({1: {}, 3: {}, 9: {}}, frozenset({"0000"}))
    assert before.tried == {SPACE.key({"x": 0.1})}
    assert history.snapshot() != before


@pytest.mark.parametrize(
    ("event", "counts"),
    [
        (reported(0, 0.5), True),
        (reported(0, 0.5, 0.5, 0.5), True),
        (reported(0, 0.5, first=2), False),
        (ended(0, Status.FAILED), True),
        (created(1, {"x": 0.2}), False),
        (TrialStarted(trial_id="0000"), False),
        (TrialPaused(trial_id="0000", epoch=1), False),
        (TrialPromoted(trial_id="0000", epoch=1), False),
        (WorkerLost(trial_id="0000", reason="killed"), False),
        (RunEnded(ending="all"), False),  # type: ignore[arg-type]
    ],
)
def test_the_version_counts_what_changes_scores(event: Event, counts: bool) -> None:
    history = history_of(SPACE, created(0, {"x": 0.1}))
    before = history.version
    history.apply(event)
    assert (history.version > before) is counts


def test_a_history_that_is_replayed_knows_the_same_at_every_event() -> None:
    events = [
        *[created(number, {"x": number / 10}) for number in range(3)],
        reported(0, 0.5, 0.4, 0.3),
        reported(1, NAN),
        ended(1, Status.FAILED),
        ended(0, Cause.PATIENCE),
        reported(2, 0.1),
    ]
    live = SearchHistory(SPACE, (1, 3), 9, ScoreSettings(metric="val_loss"))
    for number, event in enumerate(events, start=1):
        live.apply(event)
        assert history_of(SPACE, *events[:number]).snapshot() == live.snapshot()
