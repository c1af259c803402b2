"""Trials without a place are named once, after a minute, with what they lack."""

import pytest

from tune_jobs.cluster.placement import PlacementWatch, why_unplaced


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def watched(told: list[tuple[str, str]], clock: Clock) -> PlacementWatch:
    return PlacementWatch(
        [{"CPU": 1.0, "GPU": 0.5}],
        lambda: [{"CPU": 4.0}],
        lambda trial_id, reason: told.append((trial_id, reason)),
        clock=clock,
    )


def test_a_trial_is_named_after_a_minute_and_once() -> None:
    told: list[tuple[str, str]] = []
    clock = Clock()
    watch = watched(told, clock)
    for clock.now in range(60):
        watch.check(lambda: {"0001"})
    assert told == []
    for clock.now in range(60, 300):
        watch.check(lambda: {"0001"})
    assert [trial_id for trial_id, _ in told] == ["0001"]
    assert "it asks for 1 CPU and 0.5 GPU, but too little GPU is free" in told[0][1]


def test_the_minute_of_a_trial_that_was_placed_in_between_starts_again() -> None:
    told: list[tuple[str, str]] = []
    clock = Clock()
    watch = watched(told, clock)
    for clock.now in range(200):
        watch.check(lambda: set() if clock.now % 50 == 49 else {"0001"})
    assert told == []


def test_it_looks_once_a_second_at_most() -> None:
    looks = []
    watch = watched([], Clock())
    for _ in range(100):
        watch.check(lambda: looks.append(1) or set())
    assert len(looks) == 1


@pytest.mark.parametrize(
    ("bundles", "free", "words"),
    [
        ([{"CPU": 4.0}], [{"CPU": 1.0}, {"CPU": 2.0}], "but too little CPU is free: at most 2 on one machine"),
        ([{"CPU": 1.0, "GPU": 1.0}], [{"CPU": 1.0}, {"GPU": 1.0}], "no machine has CPU and GPU free together"),
        ([{"CPU": 1.0, "GPU": 0.5}], [{"GPU": 0.5}], "but too little CPU is free: at most 0 on one machine"),
        ([{"CPU": 1.0, "GPU": 0.25}], [{"CPU": 4.0, "GPU": 0.75}], "there is room on some machine"),
        ([{"CPU": 1.0, "GPU": 0.5}], [{"CPU": 1.0, "GPU": 0.25}], "but too little GPU is free: at most 0.25 on one"),
        ([{"CPU": 1.0}], [{"CPU": 1.0}], "there is room on some machine"),
        ([{"CPU": 1.0}] * 2, [{"CPU": 1.0}], "asks for 2 workers of 1 CPU each, but there is room for only some"),
        ([{"CPU": 1.0}], [], "but too little CPU is free: at most 0 on one machine"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said(
    bundles: list[dict[str, float]], free: list[dict[str, float]], words: str
) -> None:
    assert words in why_unplaced(bundles, free, 60.0)
