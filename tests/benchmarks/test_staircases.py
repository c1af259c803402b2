import math

from benchmarks.staircases import falls, lowest_finite_so_far, reached, value_at

STAIRCASE = [(2, 3.0), (5, 1.0)]


def test_falling_values_are_kept_as_their_steps() -> None:
    assert falls([3.0, 3.0, 2.0, 2.0, 1.0]) == [(1, 3.0), (3, 2.0), (5, 1.0)]
    assert falls([]) == []


def test_a_loss_that_is_no_number_is_never_the_lowest() -> None:
    assert lowest_finite_so_far([math.nan, 2.0, math.inf, 3.0, -math.inf, 1.0]) == [
        math.inf,
        2.0,
        2.0,
        2.0,
        2.0,
        1.0,
    ]


def test_a_staircase_keeps_its_value_until_the_next_step_and_after_the_last() -> None:
    assert [value_at(STAIRCASE, at) for at in (1, 2, 4, 5, 99)] == [math.inf, 3.0, 3.0, 1.0, 1.0]


def test_a_value_is_reached_at_the_first_step_that_is_no_higher() -> None:
    assert [reached(STAIRCASE, value) for value in (4.0, 3.0, 2.0, 0.5)] == [2, 2, 5, None]
