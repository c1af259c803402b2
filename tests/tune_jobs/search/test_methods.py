"""Properties of every method, and the benefits of a model."""

import math
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tune_jobs.search.conftest import (
    FINITE,
    LOOK_ALIKES,
    SPACES,
    Space,
    created,
    drive,
    ended,
    history_of,
    reported,
    search,
)
from tune_jobs.record.codes import Status
from tune_jobs.record.events import (
    Event,
)
from tune_jobs.search.history import Configuration, Observations
from tune_jobs.search.methods import MOST_FITTED, WARM_UP, Method, grid_in_order, trials_to_fit
from tune_jobs.search_spaces import parse_space

METHODS = ("gp", "tpe", "random", "grid")
MODELS = ("gp", "tpe")
TRIALS = 26
PAIRS = [(method, name) for method in METHODS for name in SPACES if (method, name) != ("grid", "numbers")]
CUBE: Space = {name: {"low": 0.0, "high": 1.0} for name in "xyz"}
POINTS = [{"x": 0.1, "y": 0.2, "z": 0.3}, {"y": 0.5}, {"x": 0.1, "y": 0.2, "z": 0.3}, {}, {"z": 1}]


def proposed(method: Method, space: Space, trials: int, **how: Any) -> list[Configuration]:
    steps = drive(method, history_of(parse_space(space)), trials, **how)
    return [configuration for *_, configuration in steps if configuration is not None]


def distance(number: int, configuration: Configuration) -> float:
    """Return the distance of a point of the cube from the best one."""
    return math.dist(configuration.values(), (0.8, 0.3, 0.6))


# Properties of every method


@pytest.mark.parametrize(("method", "name"), PAIRS)
def test_every_proposal_is_a_configuration_that_was_never_tried(method: str, name: str) -> None:
    space = parse_space(SPACES[name])
    given = proposed(search(SPACES[name], method), SPACES[name], TRIALS)
    assert len(given) == min(TRIALS, space.grid_size() or TRIALS)
    assert [problem for configuration in given for problem in space.problems(configuration)] == []
    assert len(set(map(space.key, given))) == len(given)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", FINITE)
def test_a_finite_space_is_tried_whole_and_then_there_is_no_more(method: str, name: str) -> None:
    space = parse_space(FINITE[name])
    size = space.grid_size()
    assert size is not None
    *steps, (number, observations, last) = drive(search(FINITE[name], method), history_of(space), size + 1)
    assert (len(steps), number, last) == (size, size, None)
    assert {space.key(c) for *_, c in steps if c is not None} == set(map(space.key, space.grid()))
    assert search(FINITE[name], method).fill_in(observations, number + 5) is None


@pytest.mark.parametrize("method", METHODS)
def test_a_filled_in_proposal_is_a_configuration_that_was_never_tried(method: str) -> None:
    space = parse_space(SPACES["choices"])
    live = search(SPACES["choices"], method)
    for number, observations, _ in drive(live, history_of(space), TRIALS):
        configuration = live.fill_in(observations, number)
        assert configuration is not None
        assert space.problems(configuration) == ()
        assert space.key(configuration) not in observations.tried


@pytest.mark.parametrize(("method", "name"), PAIRS)
def test_a_rebuilt_method_proposes_the_same_at_every_number(method: str, name: str) -> None:
    space = parse_space(SPACES[name])
    for number, observations, configuration in drive(search(SPACES[name], method), history_of(space), TRIALS):
        assert search(SPACES[name], method).propose(observations, number) == configuration


@pytest.mark.parametrize("method", ["gp", "tpe", "random"])
def test_the_seed_and_nothing_else_decides(method: str) -> None:
    first, again, other = (
        proposed(search(SPACES["numbers"], method, seed=seed), SPACES["numbers"], 18) for seed in (1, 1, 2)
    )
    assert first == again
    assert not {repr(c) for c in first} & {repr(c) for c in other}


@pytest.mark.parametrize("method", METHODS)
def test_numpy_s_and_python_s_own_chance_play_no_part(method: str) -> None:
    import random

    first = proposed(search(SPACES["conditional"], method), SPACES["conditional"], 16)
    random.seed(99)
    np.random.seed(99)
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index,union-attr]
    assert proposed(search(SPACES["conditional"], method), SPACES["conditional"], 16) == first
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[index,union-attr]


# Points


@pytest.mark.parametrize("method", ["gp", "tpe", "random"])
def test_points_come_first_and_what_they_leave_out_is_drawn(method: str) -> None:
    space = parse_space(CUBE)
    given = proposed(search(CUBE, method, points=POINTS), CUBE, 8)
    assert given[0] == POINTS[0]
    assert given[1]["y"] == 0.5
    assert given[4]["z"] == 1
    assert all(space.problems(configuration) == () for configuration in given)
    assert len({space.key(configuration) for configuration in given}) == 8  # the third point is the first


@pytest.mark.parametrize("method", ["gp", "tpe", "random"])
def test_more_points_than_the_warm_up_all_come_before_a_model_is_asked(method: str) -> None:
    points = [{"x": number / 20, "y": 0.5, "z": 0.5} for number in range(WARM_UP + 6)]
    assert proposed(search(CUBE, method, points=points), CUBE, len(points)) == points


@pytest.mark.parametrize("method", METHODS)
def test_points_come_first_in_a_finite_space_too(method: str) -> None:
    space = parse_space(FINITE["look-alikes"])
    points = [{"a": True}, {"a": [1]}, {"a": True}, {"a": None}]
    *steps, _ = drive(search(FINITE["look-alikes"], method, points=points), history_of(space), 99)
    given = [configuration for *_, configuration in steps if configuration is not None]
    assert [repr(c["a"]) for c in given[:2]] == ["True", "[1]"]
    assert sorted(repr(c["a"]) for c in given) == sorted(map(repr, LOOK_ALIKES))
    assert None in [c["a"] for c in given[:4]]  # the third is drawn, and may have been this


def test_a_point_s_parameter_that_turns_out_not_to_apply_is_left_out() -> None:
    space = parse_space(SPACES["conditional"])
    points = [{"momentum": 0.3}] * 12
    given = proposed(search(SPACES["conditional"], points=points), SPACES["conditional"], 12)
    assert {configuration.get("momentum") for configuration in given} == {0.3, None}
    assert all(space.problems(configuration) == () for configuration in given)


# Random and grid


def test_random_search_does_not_look_at_scores() -> None:
    good, bad = (
        proposed(search(CUBE), CUBE, TRIALS, loss=loss) for loss in (distance, lambda *_: 0.5 * _[0])
    )
    assert good == bad


def test_random_search_draws_all_values_alike() -> None:
    space: Space = {"x": {"low": 0.0, "high": 1.0}, "c": {"values": ["a", "b"]}}
    given = proposed(search(space), space, 400)
    assert np.quantile([c["x"] for c in given], [0.25, 0.5, 0.75]) == pytest.approx(
        [0.25, 0.5, 0.75], abs=0.07
    )
    assert sum(c["c"] == "a" for c in given) == pytest.approx(200, abs=40)


def test_a_wide_finite_space_is_drawn_from_without_being_listed() -> None:
    space: Space = {"n": {"low": 0, "high": 10**12}, "m": {"low": 0, "high": 10**12}}
    given = proposed(search(space), space, 50)
    assert len({configuration["n"] for configuration in given}) == 50


def test_a_grid_holds_every_configuration_once_those_of_points_first() -> None:
    space = parse_space({"x": {"values": [1, 2]}, "y": {"values": ["a", "b"]}})
    given = list(grid_in_order(space, [{"y": "b"}, {"y": "b"}, {"x": 2, "y": "b"}, {"x": 1, "y": "a"}]))
    assert given == [{"x": 1, "y": "b"}, {"x": 2, "y": "b"}, {"x": 1, "y": "a"}, {"x": 2, "y": "a"}]


def test_a_grid_tells_1_from_true_and_a_value_under_a_condition_from_none() -> None:
    space = parse_space(
        {
            "batch_size": {"values": [8, 16]},
            "optimizer": {"values": ["sgd", "adam"]},
            "momentum": {"values": [0.25, 0.5], "when": {"optimizer": "sgd"}},
            "nesterov": {"values": [True, False], "when": {"optimizer": "sgd"}},
        }
    )
    points = [
        {"batch_size": 16, "optimizer": "sgd", "nesterov": False},
        {"optimizer": "sgd", "nesterov": False},
    ]
    tried = list(grid_in_order(space, points))
    assert [(one["batch_size"], one["nesterov"]) for one in tried[:2]] == [(16, False), (8, False)]
    assert len(tried) == space.grid_size() == 10
    assert all(configuration in tried for configuration in space.grid())


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["choices", "conditional"]), st.lists(st.integers(0, 2**32), max_size=5), st.randoms())
def test_points_change_the_order_of_a_grid_and_nothing_else(name: str, seeds: list[int], rng: Random) -> None:
    space = parse_space(SPACES[name])
    points = [space.sample(Random(seed)) for seed in seeds]
    points = [{key: value for key, value in point.items() if rng.random() < 0.7} for point in points]
    keys = [space.key(configuration) for configuration in grid_in_order(space, points)]
    assert len(keys) == len(set(keys)) == space.grid_size()
    assert set(keys) == set(map(space.key, space.grid()))


def test_values_that_python_calls_equal_are_all_tried() -> None:
    space: Space = {"a": {"values": LOOK_ALIKES}, "b": {"low": 1, "high": 2}}
    tried = [repr(c["a"]) for c in proposed(search(space, "grid"), space, 99)]
    assert tried == [repr(value) for value in LOOK_ALIKES for _ in range(2)]


# Input of a model


def known(space: Space, *events: Event, trials: int = 20, seed: int = 3) -> Observations:
    """Return the observations of `trials` random trials after these events."""
    drawn = search(space, seed=seed)
    history = history_of(parse_space(space))
    for number in range(trials):
        configuration = drawn.propose(history.snapshot(), number)
        assert configuration is not None
        history.apply(created(number, configuration))
    for event in events:
        history.apply(event)
    return history.snapshot()


def model_numbers(method: Method, observations: Observations, first: int = 20, count: int = 12) -> list[int]:
    """Return the numbers of proposals that come from the model: they differ from those of random search."""
    drawn = search(CUBE)
    return [
        number
        for number in range(first, first + count)
        if method.propose(observations, number) != drawn.propose(observations, number)
    ]


@pytest.mark.parametrize("method", MODELS)
def test_scores_at_other_epochs_have_no_effect(method: str) -> None:
    """All trials reached epoch 1, too few reached epoch 3: their scores at epoch 3 are not compared."""
    first = [reported(number, (number * 7 % 20) / 20) for number in range(20)]
    alone = known(CUBE, *first)
    for third in (-100.0, 100.0, math.nan):
        more = known(CUBE, *first, *[reported(number, 1.0, third, first=2) for number in range(4)])
        assert more.scores[3] != alone.scores[3]
        live = search(CUBE, method)
        assert model_numbers(live, alone)
        for number in range(20, 32):
            assert live.propose(more, number) == live.propose(alone, number)


@pytest.mark.parametrize("method", MODELS)
def test_a_good_loss_of_a_short_trial_does_not_beat_a_bad_one_of_a_long_trial(method: str) -> None:
    """Six trials reached epoch 3 with losses that are better than any at epoch 1: only they are ranked."""
    first = [reported(number, 10.0 + number) for number in range(18)]
    long = [reported(number, 5.0, 1.0 + number, first=2) for number in range(6)]
    some = known(CUBE, *first, *long, trials=18)
    others = known(CUBE, *first[:6], *[reported(n, 90.0 - n) for n in range(6, 18)], *long, trials=18)
    assert some.scores[1] != others.scores[1]
    assert some.scores[3] == others.scores[3]
    live = search(CUBE, method)
    assert model_numbers(live, some)
    for number in range(20, 32):
        assert live.propose(some, number) == live.propose(others, number)


@pytest.mark.parametrize("method", MODELS)
def test_scores_at_epochs_of_comparison_have_an_effect(method: str) -> None:
    rising, falling = (
        known(CUBE, *[reported(number, sign * number) for number in range(20)]) for sign in (1.0, -1.0)
    )
    live = search(CUBE, method)
    assert any(live.propose(rising, number) != live.propose(falling, number) for number in range(20, 32))


@pytest.mark.parametrize("method", MODELS)
def test_only_the_order_of_scores_counts_for_the_process(method: str) -> None:
    """Exploding losses do not distort the rest: the estimator, too, sees ranks alone."""
    losses = [(number * 7 % 20) / 20 for number in range(20)]
    plain = known(CUBE, *[reported(number, loss) for number, loss in enumerate(losses)])
    exploding = known(CUBE, *[reported(number, math.exp(300 * loss)) for number, loss in enumerate(losses)])
    live = search(CUBE, method)
    assert model_numbers(live, plain)
    for number in range(20, 32):
        assert live.propose(plain, number) == live.propose(exploding, number)


@pytest.mark.parametrize(("method", "most"), [("gp", 0.2), ("tpe", 0.4)])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_trials_that_diverge_never_raise_and_are_avoided(method: str, most: float, bad: float) -> None:
    """Everything beyond a plane diverges: half of all random configurations."""

    def loss(number: int, configuration: Configuration) -> float:
        return bad if configuration["x"] > 0.5 else 0.5

    history = history_of(parse_space(CUBE))
    live = search(CUBE, method)
    proposals = []
    for number in range(40):
        configuration = live.propose(history.snapshot(), number)
        assert configuration is not None
        proposals.append(configuration)
        history.apply(created(number, configuration))
        history.apply(reported(number, loss(number, configuration)))
        if configuration["x"] > 0.5:
            history.apply(ended(number, Status.FAILED))
    assert np.mean([configuration["x"] > 0.5 for configuration in proposals[WARM_UP:]]) < most


@pytest.mark.parametrize("method", MODELS)
@pytest.mark.parametrize("bad", [math.nan, 0.5])
def test_a_run_in_which_all_scores_are_lost_or_equal_continues(method: str, bad: float) -> None:
    given = proposed(search(CUBE, method), CUBE, TRIALS, loss=lambda *_: bad)
    assert len(given) == TRIALS


@pytest.mark.parametrize("method", MODELS)
def test_with_too_few_scores_proposals_are_random(method: str) -> None:
    few = known(CUBE, *[reported(number, number) for number in range(5)])
    assert model_numbers(search(CUBE, method), few) == []
    many = known(CUBE, *[reported(number, number) for number in range(20)])
    assert model_numbers(search(CUBE, method), many, first=0, count=WARM_UP) == []


# Benefits of a model


@pytest.mark.parametrize(("method", "most"), [("gp", 0.6), ("tpe", 0.9)])
def test_the_good_region_is_found_better_than_by_chance(method: str, most: float) -> None:
    def found(method: str, seed: int) -> float:
        """Return the mean of the best five of forty, which has less noise than the best alone."""
        given = proposed(search(CUBE, method, seed=seed), CUBE, 40, loss=distance)
        return float(np.mean(sorted(distance(0, configuration) for configuration in given)[:5]))

    model, chance = ([found(name, seed) for seed in range(8)] for name in (method, "random"))
    assert np.mean(model) < most * np.mean(chance)


def test_fewer_proposals_are_near_a_running_trial() -> None:
    """A neighbour of the best proposal is running: if others are about as good, one of them is better now."""
    observations = known(
        CUBE, *[reported(n, distance(n, c)) for n, c in enumerate(known(CUBE).configurations.values())]
    )
    live = search(CUBE, "gp")
    space = parse_space(CUBE)
    numbers = model_numbers(live, observations, count=25)
    others = 0
    for number in numbers:
        best = live.propose(observations, number)
        assert best is not None
        near = {**best, "x": min(1.0, best["x"] + 1e-9)}
        others += live.propose(observations.with_proposal(near, space.key(near)), number) != best
    assert others > len(numbers) / 5


@pytest.mark.parametrize("method", MODELS)
def test_a_running_trial_has_an_effect_until_it_has_ended(method: str) -> None:
    scored = [reported(number, number) for number in range(20)]
    running = known(CUBE, *scored, trials=40)
    failed = known(CUBE, *scored, *[ended(number, Status.FAILED) for number in range(20, 40)], trials=40)
    live = search(CUBE, method)
    numbers = range(40, 70)
    assert any(live.propose(running, number) != live.propose(failed, number) for number in numbers)
    without = replace(failed, configurations=known(CUBE).configurations)
    assert all(live.propose(failed, number) == live.propose(without, number) for number in numbers)


@pytest.mark.parametrize(("method", "count", "share"), [("gp", 400, 0.1), ("tpe", 150, 0.5)])
def test_a_share_of_proposals_is_drawn_at_random(method: str, count: int, share: float) -> None:
    observations = known(CUBE, *[reported(number, number) for number in range(20)])
    drawn = count - len(model_numbers(search(CUBE, method), observations, count=count))
    deviation = math.sqrt(count * share * (1 - share))
    assert drawn == pytest.approx(count * share, abs=3.5 * deviation)


def test_the_process_is_fitted_again_after_a_sixth_more_scores() -> None:
    assert [trials_to_fit(trials) for trials in (1, 2, 6, 7, 8, 11, 12, 13, 14, 15)] == [
        *[1, 2, 6, 7, 8, 11, 12, 12, 14, 14]
    ]
    fits = {trials_to_fit(trials) for trials in range(100, 1000)}
    assert len(fits) < 17
    assert all(trials * 6 / 7 - 1 <= trials_to_fit(trials) <= trials for trials in range(1, MOST_FITTED))
    assert trials_to_fit(10**6) == trials_to_fit(MOST_FITTED), "more only take longer"


def test_the_process_does_not_depend_on_what_it_was_asked_before() -> None:
    """It caches its last fits, which are the same for all calls."""
    early = known(CUBE, *[reported(number, number % 7) for number in range(8)])
    late = known(CUBE, *[reported(number, number % 7) for number in range(20)])
    used = search(CUBE, "gp")
    for observations in (late, early, late, early):
        used.propose(observations, 21)
    assert used.propose(early, 22) == search(CUBE, "gp").propose(early, 22)
    assert used.propose(late, 23) == search(CUBE, "gp").propose(late, 23)
