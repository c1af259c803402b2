"""The measurement of runs with many trials, on made-up marks."""

import pytest

from benchmarks.many_trials import WINDOW, LongRun, Mark, milliseconds_a_trial, table

MARKS = [
    Mark(number, seconds, 300.0 + number / 100)
    for number, seconds in ((500, 5.0), (1000, 11.0), (1500, 16.0))
]


def test_the_time_of_a_trial_is_that_of_the_window_before_it() -> None:
    assert milliseconds_a_trial(MARKS, 1000) == 1000 * 6.0 / WINDOW
    with pytest.raises(ValueError, match="not measured at 4500 and 5000"):
        milliseconds_a_trial(MARKS, 5000)


def test_the_tables_show_the_marks_that_the_run_has_reached() -> None:
    run = LongRun(method="random", marks=MARKS, seconds={"write the report": 3.06}, megabytes=340.0)
    lines = table(run).splitlines()
    assert "| random | 1000 | 12.0 | 310 |" in lines
    assert "| write the report | 3.1 |" in lines
    assert len(lines) == 7
