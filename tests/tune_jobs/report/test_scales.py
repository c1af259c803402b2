"""Axes: their range, values beyond it, and the places of ticks."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_jobs.report.scales import (
    FEWEST_TO_CLIP,
    MOST_TICKS,
    decades,
    range_ticks,
    round_off,
    score_scale,
    thin_out,
    value_axis,
)

finite = st.floats(-1e12, 1e12, allow_nan=False)
positive = st.floats(1e-9, 1e9)


@given(st.lists(finite, min_size=1, max_size=60), st.sampled_from(["min", "max"]))
def test_the_best_score_is_always_shown_and_at_least_three_quarters_of_all(
    values: list[float], mode: Any
) -> None:
    scale = score_scale(values, mode)
    best = min(values) if mode == "min" else max(values)
    assert scale.low <= best * (1 + math.copysign(1e-9, best)) + 1e-300
    assert scale.high >= best - abs(best) * 1e-9
    assert scale.clipped <= len(values) / 4 + 1


@given(st.lists(finite, min_size=1, max_size=FEWEST_TO_CLIP - 1))
def test_of_few_scores_none_is_left_out(values: list[float]) -> None:
    assert score_scale(values, "min").clipped == 0


def test_exploding_scores_do_not_flatten_the_rest() -> None:
    values = [0.1 + 0.01 * place for place in range(20)] + [1e30, math.inf, math.nan]
    scale = score_scale(values, "min")
    assert scale.high < 1.0
    assert scale.clipped >= 3


def test_wide_positive_scores_are_shown_in_decades() -> None:
    assert score_scale([0.01, 0.1, 1.0], "min").log
    assert not score_scale([0.5, 0.6, 0.9], "min").log
    assert not score_scale([-1.0, 10.0, 1000.0], "min").log


@given(st.lists(finite, min_size=1, max_size=30), finite)
def test_a_clipped_score_lies_on_the_axis(values: list[float], value: float) -> None:
    scale = score_scale(values, "min")
    assert scale.low <= scale.clip(value) <= scale.high


@given(positive, positive)
def test_ticks_of_decades_lie_between_the_ends_and_are_few(one: float, other: float) -> None:
    low, high = sorted((one, other * 1.0001))
    ticks = decades(low, high)
    assert all(low * 0.998 <= tick <= high * 1.002 for tick in ticks)
    assert len(ticks) <= 3 * (MOST_TICKS + 3)


@given(positive, positive, st.booleans())
def test_ticks_of_a_range_begin_and_end_with_its_ends(one: float, other: float, log: bool) -> None:
    low, high = sorted((one, other))
    ticks = range_ticks(low, high, log=log)
    places = ticks["tickvals"]
    ends = (math.log10(low), math.log10(high)) if log else (low, high)
    assert (places[0], places[-1]) == pytest.approx(ends)
    assert places == sorted(places)
    assert len(places) == len(ticks["ticktext"])


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.5), (0.0, 0.0), (3.0, 3.0), (-2.0, 5.0)])
def test_an_axis_has_some_length_even_for_one_value(low: float, high: float) -> None:
    first, last = value_axis(low, high, log=False)["range"]
    assert first < low <= high < last


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_left_out(value: float) -> None:
    assert round_off(value) is None


@given(st.integers(0, 3000), st.integers(2, 50), st.lists(st.integers(0, 3000), max_size=5))
def test_a_thinned_curve_keeps_its_ends_and_required_points(count: int, most: int, kept: list[int]) -> None:
    places = thin_out(count, most, kept)
    assert places == sorted(set(places))
    assert set(places) <= set(range(count))
    assert len(places) <= most + len(kept)
    if count:
        assert {0, count - 1} <= set(places)
    assert {place for place in kept if place < count} <= set(places)
