"""A curve in one line of text."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_jobs.cli.sparkline import ASCII_BLOCKS, BLOCKS, CROSS, Sparkline, sparkline

NAN, INF = math.nan, math.inf


def text(*values: float, width: int = 40, unicode: bool = True) -> str | None:
    made = sparkline(values, width, unicode=unicode)
    return made and made.text


def test_low_values_are_low_letters() -> None:
    assert text(0, 1, 2, 3, 4, 5, 6, 7) == BLOCKS
    assert text(7, 6, 5, 4, 3, 2, 1, 0, unicode=False) == ASCII_BLOCKS[::-1]
    assert text(0.5, 0.5) == "▁▁"


def test_a_curve_over_orders_of_magnitude_is_drawn_on_a_log_scale() -> None:
    assert sparkline([100.0, 10.0, 1.0], 9) == Sparkline("█▅▁", log=True, low=1.0, high=100.0)
    assert sparkline([3.0, 2.0, 1.0], 9) == Sparkline("█▅▁", log=False, low=1.0, high=3.0)
    below_zero = sparkline([100.0, 10.0, -1.0], 9)
    assert below_zero is not None
    assert not below_zero.log


@pytest.mark.parametrize("lost", [NAN, INF, -INF])
def test_an_epoch_without_a_finite_loss_is_a_cross(lost: float) -> None:
    assert text(2.0, lost, 1.0) == f"█{CROSS}▁"
    assert text(lost, lost) is None
    assert text() is None


def test_many_values_share_letters_and_are_averaged() -> None:
    assert sparkline([8.0, 6.0, 4.0, NAN, 2.0, 0.0], 3) == Sparkline("█▅▂", log=False, low=0.0, high=8.0)
    assert len(text(*map(float, range(1000)), width=30) or "") == 30


@given(st.lists(st.floats()), st.integers(-1, 50))
def test_any_curve_can_be_drawn(values: list[float], width: int) -> None:
    made = sparkline(values, width)
    if made is None:
        assert not any(map(math.isfinite, values))
    else:
        assert len(made.text) == min(len(values), max(width, 1))
        assert set(made.text) <= {*BLOCKS, CROSS}


def test_the_smallest_numbers_there_are_have_a_curve() -> None:
    found = sparkline([5e-324, 5e-324, 1.0, 1.0], 2)
    assert found is not None
    assert found.text == BLOCKS[0] + BLOCKS[-1]
