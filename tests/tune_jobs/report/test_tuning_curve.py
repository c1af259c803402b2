"""The tuning curve: the best score to expect, with a band that holds it."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.tune_jobs.report.runs import trials
from tune_jobs.record.codes import Cause, Status
from tune_jobs.record.events import (
    EpochsReported,
    TrialCreated,
    TrialEnded,
)
from tune_jobs.record.run_record import RunRecord
from tune_jobs.report.tuning_curve import MOST_SIMULATED, TuningCurve, caption, curve_figure, tuning_curve
from tune_jobs.trainers.settings import ScoreSettings

MakeRecord = Callable[..., RunRecord]


def record_of(scores: Sequence[float], **score: Any) -> RunRecord:
    record = RunRecord(ScoreSettings(**{"metric": "val_loss", **score}))
    metric = record.score.metric
    for number, value in enumerate(scores):
        trial_id = f"{number:04d}"
        result = {"epoch": 1, "train_loss": 1.0, "val_loss": 1.0, metric: value, "lr": 0.1, "seconds": 0.1}
        record.apply(TrialCreated(trial_id=trial_id, number=number, configuration={"lr": 0.1}))
        record.apply(EpochsReported(trial_id=trial_id, results=[result], worker="host:1"))
        record.apply(
            TrialEnded(
                trial_id=trial_id, status=Status.COMPLETED, cause=Cause.MAX_EPOCHS, reason="its course is run"
            )
        )
    return record


def curve_of(scores: Sequence[float], **score: Any) -> TuningCurve:
    curve = tuning_curve(record_of(scores, **score), 1.0 if score.get("mode") == "max" else 0.0)
    assert curve is not None
    return curve


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=25), st.sampled_from(["min", "max"]))
def test_it_only_gets_better_and_lies_inside_its_band(scores: list[float], mode: str) -> None:
    curve = curve_of(scores, metric="val_loss" if mode == "min" else "accuracy", mode=mode)
    sign = 1 if mode == "min" else -1
    expected, sure = sign * np.array(curve.expected), sign * np.array(curve.sure)
    assert curve.possible is not None
    possible = sign * np.array(curve.possible)
    assert (np.diff(expected) <= 1e-9).all()
    assert (possible <= expected + 1e-9).all()
    assert (expected <= sure + 1e-9).all()
    assert curve.trials[0] == 1
    assert curve.trials[-1] == len(scores)


def test_of_one_trial_it_is_the_mean() -> None:
    scores = [0.1, 0.2, 0.6]
    assert curve_of(scores).expected[0] == pytest.approx(np.mean(scores))


@pytest.mark.parametrize(("metric", "mode"), [("val_loss", "min"), ("accuracy", "max")])
def test_it_agrees_with_random_draws(metric: str, mode: str) -> None:
    rng = np.random.default_rng(1)
    draw = rng.lognormal(-2.0, 0.7, size=30) if mode == "min" else rng.beta(8.0, 2.0, size=30)
    scores = draw.tolist()
    curve = curve_of(scores, metric=metric, mode=mode)
    shown = np.array([curve.scale.clip(score) for score in scores])
    for n, expected in zip(curve.trials, curve.expected, strict=True):
        draws = getattr(rng.choice(shown, size=(20_000, int(n))), mode)(axis=1)
        assert expected == pytest.approx(draws.mean(), abs=5 * draws.std() / math.sqrt(len(draws)) + 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trials", "runs", "held_at_least"),
    [
        # The band promises at least 80 %: fewer than this has a chance of less than 1 in 100.
        pytest.param(8, 60, 40, id="tight band"),
        pytest.param(MOST_SIMULATED + 20, 200, 146, id="fast band"),
    ],
)
def test_the_band_holds_the_true_curve_as_often_as_it_says(
    trials: int, runs: int, held_at_least: int
) -> None:
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(runs):
        curve = curve_of(rng.random(trials).tolist())
        ns, end = np.array(curve.trials), curve.scale.high
        truth = (1 - (1 - end) ** (ns + 1)) / (ns + 1)  # the least of n uniform draws, each at most `end`
        assert curve.possible is not None
        held += bool(
            (np.array(curve.possible) <= truth + 1e-9).all() and (truth <= np.array(curve.sure) + 1e-9).all()
        )
    assert held >= held_at_least


def test_the_band_is_as_wide_as_its_confidence_asks() -> None:
    tight = curve_of([0.4])  # between a tenth and nine tenths of all draws are better than this one
    assert tight.possible is not None
    assert tight.possible[0] == pytest.approx(0.1 * 0.4, rel=0.05)
    count = MOST_SIMULATED + 20
    fast = curve_of(np.random.default_rng(3).random(count).tolist())
    shown = np.sort([fast.scale.clip(score) for score in np.random.default_rng(3).random(count)])
    share = np.arange(1, count) / count - stats.kstwo(count).ppf(0.8)
    assert fast.sure[0] == pytest.approx(shown[0] + ((1 - share.clip(0.0)) * np.diff(shown)).sum())


def test_a_trial_without_a_score_counts_as_worst(make_record: MakeRecord) -> None:
    lost = {"losses": [math.nan], "status": Status.FAILED}
    curve = tuning_curve(make_record([{"losses": [0.5]}, {"losses": [1.5]}, lost, lost]), 0.0)
    assert curve is not None
    assert curve.lost == 2
    assert curve.expected[0] == pytest.approx((0.5 + 1.5 + 1.5 + 1.5) / 4)
    assert "worse than 1.5, the bad end of the axis: 2 trials without a score count as that" in caption(curve)


def test_a_trial_that_was_cut_off_with_the_run_before_its_first_epoch_does_not_count() -> None:
    record = record_of([0.5, 1.5])
    for number, cause in enumerate([Cause.RUN_ENDED, Cause.TIME_LIMIT], start=2):
        trial_id = f"{number:04d}"
        record.apply(TrialCreated(trial_id=trial_id, number=number, configuration={"lr": 0.1}))
        record.apply(
            TrialEnded(trial_id=trial_id, status=cause.status, cause=cause, reason="", resumable=True)
        )
    curve = tuning_curve(record, 0.0)
    assert curve is not None
    assert curve.lost == 0
    assert curve.expected[0] == pytest.approx(1.0)
    assert curve.trials[-1] == 2


def test_a_score_beyond_the_axis_counts_as_its_end_and_the_caption_says_so() -> None:
    scores = [0.5 + 0.1 * n for n in range(12)]
    curve = curve_of([*scores, 15.0])
    assert curve.scale.clipped == 1
    assert curve.expected[0] == pytest.approx(np.mean([*scores, curve.scale.high]))
    assert (
        f"worse than {curve.scale.high:.3g}, the bad end of the axis: 1 score beyond it counts as that"
        in caption(curve)
    )


def test_scores_of_a_huge_range_are_on_a_logarithmic_axis() -> None:
    curve = curve_of([10.0**power for power in range(-9, 9)])
    figure = curve_figure(curve)
    assert figure.layout.yaxis.type == "log"
    assert all(y is not None and y > 0 for trace in figure.data for y in trace.y)


def test_one_trial_is_shown_without_an_invisible_band() -> None:
    curve = curve_of([0.5])
    named = [trace.name for trace in curve_figure(curve).data if trace.showlegend is not False]
    assert named == ["expected best", "best so far in this run"]
    assert caption(curve).startswith("The val_loss of the only trial;")


def test_the_best_so_far_is_in_the_order_of_creation_in_trials_and_in_epochs(make_record: MakeRecord) -> None:
    curve = tuning_curve(
        make_record(
            [{"losses": [0.9, 0.8]}, {"losses": [1.0]}, {"losses": [0.7, 0.6, 0.5]}, {"losses": [2.0]}]
        ),
        0.0,
    )
    assert curve is not None
    assert list(curve.observed) == [0.8, 0.5, 0.5]
    assert list(curve.observed_trials) == [1, 3, 4]
    assert list(curve.observed_epochs) == [2, 6, 7]
    assert curve.epochs_a_trial == pytest.approx(7 / 4)


def test_a_metric_without_a_best_value_leaves_the_band_open() -> None:
    curve = tuning_curve(record_of([-3.0, -1.0, 2.0]), None)
    assert curve is not None
    assert curve.possible is None
    assert "open at its good end" in caption(curve)


def test_without_a_score_there_is_none(make_record: MakeRecord) -> None:
    assert tuning_curve(make_record([]), 0.0) is None
    assert tuning_curve(make_record([{"losses": [math.nan], "status": Status.FAILED}]), 0.0) is None


@pytest.mark.parametrize("count", [1, 3, 1000])
def test_the_figure_is_never_empty_and_switches_from_trials_to_epochs(
    make_record: MakeRecord, count: int
) -> None:
    curve = tuning_curve(make_record(trials(count)), 0.0)
    assert curve is not None
    figure = curve_figure(curve)
    low, high = figure.layout.yaxis.range
    by_trials, by_epochs = figure.layout.updatemenus[0].buttons
    for trace, x, other in zip(figure.data, by_trials.args[0]["x"], by_epochs.args[0]["x"], strict=True):
        assert list(trace.x) == list(x)
        assert len(trace.x) == len(trace.y) == len(other) > 0
    shown = [y for y in figure.data[2].y if low <= (math.log10(y) if curve.scale.log else y) <= high]
    assert len(shown) == len(curve.trials)
    assert by_epochs.args[0]["x"][2][-1] == pytest.approx(curve.trials[-1] * curve.epochs_a_trial, rel=1e-3)
