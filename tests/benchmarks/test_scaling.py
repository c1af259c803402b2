import json
from dataclasses import asdict

import pytest

from benchmarks.__main__ import MEASUREMENTS, REPEATS
from benchmarks.scaling import (
    Diary,
    Load,
    Sleep,
    Steady,
    cost_table,
    driver_time,
    load_table,
    loads,
    run_loads,
    steady,
)

LOAD = Load(contestant="tune-jobs", nodes=1, slots_a_node=2, trials=4, seconds=2.0, reports=1)
DIARY = Diary(
    begun=100.0,
    sleeps=[
        Sleep(112.0, 1.0, "here:1", 2.0),
        Sleep(113.0, 1.1, "here:2", 2.0),  # the second worker begins last, at 111
        Sleep(114.5, 1.2, "here:1", 2.0),
        Sleep(115.5, 1.4, "here:2", 2.0),  # ends after the last trial was handed out, at 115
    ],
    handed=[101.0, 101.5, 112.5, 115.0],
    ended=[112.1, 113.1, 114.6, 115.6],
)


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def a_steady(
    contestant: str = "tune-jobs", *, reports: int, driver_seconds: float, trials: int = 10
) -> Steady:
    return Steady(
        load=Load(contestant=contestant, nodes=2, trials=20, seconds=1.0, reports=reports),
        start_up=30.0,
        window=5.0,
        slept=19.0,
        trials=trials,
        reports=trials * reports,
        driver_seconds=driver_seconds,
    )


def test_the_window_opens_when_all_slots_sleep_and_closes_with_the_last_trial_handed_out() -> None:
    found = steady(LOAD, DIARY)

    assert (found.start_up, found.window) == (11.0, 4.0)
    assert found.slept == pytest.approx(1.0 + 2.0 + 2.0 + 1.5)
    assert found.utilisation == pytest.approx(6.5 / 8.0)
    assert (found.trials, found.reports) == (3, 3)
    assert found.driver_seconds == pytest.approx(0.2)  # from the first report within it to the last


def test_slots_that_never_sleep_count_as_idle() -> None:
    half = Diary(
        100.0, [*DIARY.sleeps, Sleep(125.0, 2.0, "here:1", 2.0)], [*DIARY.handed, 125.0], DIARY.ended
    )

    assert steady(LOAD, half).utilisation == pytest.approx((6.5 + 0.5 + 2.0) / (2 * 14.0))


@pytest.mark.parametrize(
    ("diary", "why"),
    [
        (Diary(100.0), "0 of 2 slots"),
        (Diary(100.0, DIARY.sleeps[:1], DIARY.handed), "1 of 2 slots"),
        (Diary(100.0, DIARY.sleeps[:2], DIARY.handed[:2]), "No trial was handed out"),
    ],
)
def test_a_diary_without_a_window_is_refused(diary: Diary, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        steady(LOAD, diary)


def test_a_diary_survives_json() -> None:
    assert Diary.from_mapping(json.loads(json.dumps(asdict(DIARY)))) == DIARY


def test_the_time_of_a_trial_and_of_a_report_are_separated() -> None:
    """20 ms a trial and 3 ms a report."""
    few, many = (a_steady(reports=reports, driver_seconds=0.2 + 0.03 * reports) for reports in (1, 5))

    assert driver_time(few, many) == pytest.approx((20.0, 3.0))


@pytest.mark.parametrize(
    "pair",
    [
        (a_steady(reports=1, driver_seconds=0.2), a_steady(reports=1, driver_seconds=0.3)),
        (a_steady(reports=1, driver_seconds=0.2), a_steady(reports=5, driver_seconds=0.3, trials=0)),
    ],
)
def test_two_equations_are_needed(pair: tuple[Steady, Steady]) -> None:
    with pytest.raises(ValueError, match="Two numbers of reports"):
        driver_time(*pair)


def test_the_tables() -> None:
    measured = [
        a_steady(contestant, reports=reports, driver_seconds=cost * (0.2 + 0.03 * reports))
        for contestant, cost in (("tune-jobs", 1.0), ("ray tune", 2.0))
        for reports in (1, 5)
    ]

    assert cells(load_table(measured).splitlines()[2]) == [
        *("tune-jobs", "2", "4", "20", "1", "1"),
        *("30", "95.0", "2.0", "0.05"),
    ]
    assert [cells(row) for row in cost_table(measured).splitlines()[2:]] == [
        ["tune-jobs", "20.0", "3.0"],
        ["ray tune", "40.0", "6.0"],
    ]


def test_both_are_measured_on_the_same_nodes_with_the_same_trials() -> None:
    cost = loads(nodes=(1, 4), trials=100)["cost"]

    assert {load.contestant for load in cost} == {"tune-jobs", "ray tune"}
    assert {(load.nodes, load.trials, load.seconds) for load in cost} == {(4, 100, 1.0)}
    assert {load.slots for load in loads()["cost"]} == {64}
    assert [load.nodes for load in loads()["nodes"]] == [1, 2, 4, 8, 16, 32]


def test_it_is_among_the_measurements() -> None:
    assert MEASUREMENTS["scaling"] == "benchmarks.scaling"
    assert REPEATS["scaling"] == 1


@pytest.mark.slow
def test_loads_are_run_on_nodes_that_grow() -> None:
    asked = [
        Load(contestant="tune-jobs", nodes=1, slots_a_node=1, trials=6, seconds=0.4, reports=2),
        Load(contestant="ray tune", nodes=2, slots_a_node=1, trials=12, seconds=0.4, reports=1),
    ]

    ours, rays = run_loads(asked)

    assert [ours.load, rays.load] == asked
    for measured in (ours, rays):
        assert 0 < measured.utilisation <= 1.05  # a sleep may be noticed a little late
        assert measured.trials > 0
        assert measured.driver_seconds > 0
    assert ours.reports >= ours.trials
