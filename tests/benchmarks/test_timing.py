from collections.abc import Callable
from functools import partial

import pytest

from benchmarks.timing import machine_line, machine_shape, ratio_table, side_by_side


def test_candidates_take_turns_and_the_order_turns_around_every_round() -> None:
    calls: list[str] = []

    def measure(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    candidates: dict[str, Callable[[], float]] = {name: partial(measure, name) for name in "ab"}
    values = side_by_side(candidates, repeats=3)

    assert calls == ["a", "b", "b", "a", "a", "b"]
    assert values == {"a": [1.0, 4.0, 5.0], "b": [2.0, 3.0, 6.0]}


@pytest.mark.parametrize(("names", "repeats"), [("", 3), ("a", 0)])
def test_nothing_to_measure_is_refused(names: str, repeats: int) -> None:
    with pytest.raises(ValueError, match=f"{len(names)} candidates and {repeats} repeats were given"):
        side_by_side(dict.fromkeys(names, float), repeats)


def test_ratios_are_taken_within_a_round_not_between_medians() -> None:
    table = ratio_table(
        {"base": [1.0, 10.0, 2.0], "ours": [3.0, 40.0, 4.0]}, baseline="base", unit="epochs/s"
    )

    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]
    assert rows[0][1] == "epochs/s, median"
    assert rows[2] == ["base", "2", "1 to 10", "1.00", "1.00 to 1.00"]
    assert rows[3] == ["ours", "4", "3 to 40", "3.00", "2.00 to 4.00"]


def test_an_unknown_baseline_is_named_with_what_was_measured() -> None:
    with pytest.raises(ValueError, match=r"'theirs' was not measured. Measured: ours, bare\."):
        ratio_table({"ours": [1.0], "bare": [1.0]}, baseline="theirs", unit="s")


def test_candidates_with_different_numbers_of_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="base: 2, ours: 1"):
        ratio_table({"base": [1.0, 2.0], "ours": [1.0]}, baseline="base", unit="s")


def test_the_machine_is_described_in_full() -> None:
    shape = machine_shape()

    assert set(shape) == {"cores", "memory", "processor", "python", "torch", "ray", "optuna"}
    assert all(shape.values())
    assert machine_line({"cores": "2", "torch": "2.13.0"}) == "cores 2, torch 2.13.0"
