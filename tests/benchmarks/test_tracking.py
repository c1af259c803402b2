import pytest

from benchmarks.tracking import OURS, RAYS, WITH, cost_table, overhead

SECONDS = {OURS: [10.0, 20.0], WITH[OURS]: [11.0, 22.0], RAYS: [30.0, 30.0], WITH[RAYS]: [90.0, 60.0]}


def test_overhead_is_taken_within_a_round() -> None:
    assert overhead(SECONDS, OURS) == [1.0, 2.0]
    assert overhead(SECONDS, RAYS) == [60.0, 30.0]


def test_the_table_has_a_row_a_side_with_medians() -> None:
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in cost_table(SECONDS).splitlines()]
    assert rows[2] == [OURS, "15.0", "16.5", "1.10", "1.5", "1.0 to 2.0"]
    assert rows[3] == [RAYS, "30.0", "75.0", "2.50", "45.0", "30.0 to 60.0"]


def test_rounds_that_do_not_match_are_no_comparison() -> None:
    with pytest.raises(ValueError, match="zip"):
        overhead({**SECONDS, OURS: [1.0]}, OURS)
