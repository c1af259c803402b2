"""The comparison of trials: one epoch is chosen, and scores become the logarithms of their ranks."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_jobs.search.comparison import FEWEST, Comparison, choose_comparison, log_ranks

INF = math.inf


def filled(**counts: int) -> dict[int, dict[str, float]]:
    """Return a number of trials for each epoch: `filled(e1=9, e3=3)`."""
    return {
        int(epoch[1:]): {f"{trial:04d}": trial / 10 for trial in range(count)}
        for epoch, count in counts.items()
    }


@pytest.mark.parametrize(
    ("scores", "epoch"),
    [
        ({}, None),
        (filled(e1=0), None),
        (filled(e1=5, e3=5), None),
        (filled(e1=6, e3=0, e9=0), 1),
        (filled(e1=18, e3=5, e9=1), 1),
        (filled(e1=18, e3=6, e9=2), 3),
        (filled(e1=24, e3=6), 3),
        (filled(e1=25, e3=6), 1),  # a quarter of 25 is more than 6
        (filled(e1=90, e3=30, e9=10), 3),  # a quarter of 90 is more than 10
        (filled(e1=90, e3=90, e9=23), 9),  # trials that are not held back
        (filled(e9=6), 9),
    ],
)
def test_trials_are_compared_at_the_highest_epoch_that_a_quarter_reached(
    scores: Mapping[int, Mapping[str, float]], epoch: int | None
) -> None:
    chosen = choose_comparison(scores, 3)
    assert (chosen and chosen.epoch) == epoch
    if chosen is not None:
        assert dict(zip(chosen.trials, chosen.scores, strict=True)) == scores[chosen.epoch]


def test_how_many_are_enough_depends_on_the_share_that_is_promoted() -> None:
    scores = filled(e1=40, e2=12, e4=8)
    assert [(chosen := choose_comparison(scores, factor)) and chosen.epoch for factor in (2, 3, 4)] == [
        1,
        2,
        4,
    ]


def test_trials_stay_in_the_order_in_which_they_came() -> None:
    entries = {"0004": 0.3, "0000": INF, "0002": 0.1, "0009": 0.2, "0001": 0.3, "0003": 0.0}
    assert choose_comparison({1: entries}, 3) == Comparison(1, tuple(entries), tuple(entries.values()))


COUNTS = st.lists(st.integers(0, 60), min_size=1, max_size=4)


@settings(max_examples=100, deadline=None)
@given(COUNTS, st.integers(2, 5))
def test_all_scores_that_are_compared_are_of_one_epoch(counts: list[int], factor: int) -> None:
    """Here the score of a trial encodes its epoch."""
    scores = {
        3**rung: {f"{trial:04d}": float(3**rung) for trial in range(count)}
        for rung, count in enumerate(counts)
    }
    chosen = choose_comparison(scores, factor)
    if chosen is None:
        assert all(count < max(FEWEST, counts[0] / (factor + 1)) for count in counts)
    else:
        assert set(chosen.scores) == {float(chosen.epoch)}
        assert len(chosen.trials) >= FEWEST


def scaled(*ranks: float) -> list[float]:
    """Return the logarithms of ranks less a half, with mean 0 and deviation 1, computed by hand."""
    logs = [math.log(rank - 0.5) for rank in ranks]
    mean = sum(logs) / len(logs)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in logs) / len(logs))
    return [(value - mean) / deviation for value in logs]


@pytest.mark.parametrize(
    ("scores", "ranks"),
    [
        ([0.1, 0.2, 0.3], [1, 2, 3]),
        ([0.3, 0.1, 0.2], [3, 1, 2]),
        ([-5.0, 1e300], [1, 2]),
        ([0.3, 0.1, INF], [2, 1, 3]),
        ([INF, 0.1, INF, INF], [3, 1, 3, 3]),  # the mean of 2, 3 and 4
        ([0.2, 0.1, 0.2, 0.9], [2.5, 1, 2.5, 4]),
        ([0.1, 0.1, 0.9], [1.5, 1.5, 3]),
        ([-INF, 0.0, 0.1], [1, 2, 3]),
    ],
)
def test_scores_become_the_logarithms_of_their_ranks(scores: list[float], ranks: list[float]) -> None:
    assert log_ranks(scores) == pytest.approx(scaled(*ranks))


def test_three_scores_by_hand() -> None:
    # Logarithms of 0.5, 1.5 and 2.5: -0.6931, 0.4055, 0.9163; mean 0.2095, deviation 0.6715.
    assert log_ranks([0.1, 0.2, 0.3]) == pytest.approx([-1.3442, 0.2917, 1.0525], abs=1e-3)


@pytest.mark.parametrize("scores", [[0.5], [0.5, 0.5], [INF, INF, INF]])
def test_equals_say_nothing(scores: list[float]) -> None:
    assert log_ranks(scores).tolist() == [0.0] * len(scores)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(allow_nan=False), min_size=2, max_size=50))
def test_values_are_finite_ordered_like_the_scores_and_of_one_scale(scores: list[float]) -> None:
    values = log_ranks(scores)
    assert np.isfinite(values).all()
    for one, a in zip(scores, values, strict=True):
        for other, b in zip(scores, values, strict=True):
            assert (one < other) == (a < b)
    if len(set(scores)) > 1:
        assert (values.mean(), values.std()) == (pytest.approx(0, abs=1e-9), pytest.approx(1))
