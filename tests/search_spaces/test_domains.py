import copy
import pickle
import sys
from dataclasses import FrozenInstanceError
from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tune_jobs.search_spaces import Choice, Domain, Float, Int, Problem, SearchSpaceError

FINITE = st.floats(allow_nan=False, allow_infinity=False)
STEPS = st.sampled_from([0.1, 0.25, 0.05, 1e-3, 2.0, 1 / 3])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([0.0, 1.0, 0.5]) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)


@st.composite
def floats(draw: st.DrawFn) -> Float:
    shape = draw(st.sampled_from(["plain", "log", "step"]))
    if shape == "step":
        low, step = draw(st.integers(-50, 50)) / 10, draw(STEPS)
        return Float(low=low, high=low + draw(st.integers(0, 40)) * step, step=step)
    smallest = 5e-324 if shape == "log" else None
    numbers = st.floats(min_value=smallest, allow_nan=False, allow_infinity=False)
    low, high = sorted([draw(numbers), draw(numbers)])
    return Float(low=low, high=high, log=shape == "log")


@st.composite
def ints(draw: st.DrawFn) -> Int:
    log = draw(st.booleans())
    low, high = sorted(draw(st.lists(st.integers(1 if log else -(2**63), 2**63 - 1), min_size=2, max_size=2)))
    return Int(low=low, high=high, log=log, step=1 if log else draw(st.integers(1, 2**40)))


@st.composite
def choices(draw: st.DrawFn) -> Choice:
    try:
        return Choice(values=tuple(draw(st.lists(JSON, min_size=1, max_size=5))))
    except SearchSpaceError:
        assume(False)
        raise


DOMAINS = floats() | ints() | choices()


def message(make, **settings) -> str:
    with pytest.raises(SearchSpaceError) as caught:
        make(**settings)
    return str(caught.value)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(DOMAINS, st.integers(0, 2**32))
def test_a_domain_contains_all_that_it_samples_and_a_seed_repeats_it(domain: Domain, seed: int) -> None:
    values = [domain.sample(rng) for rng in [Random(seed)] for _ in range(5)]
    assert all(domain.contains(value) for value in values)
    rng = Random(seed)
    assert values == [domain.sample(rng) for _ in range(5)]


@pytest.mark.parametrize("low", [1.7976931348621712e308, sys.float_info.max])
def test_logarithms_of_the_largest_numbers_stay_in_the_domain(low: float) -> None:
    domain = Float(low=low, high=sys.float_info.max, log=True)
    assert all(domain.contains(domain.sample(rng)) for rng in map(Random, range(1000)))


@settings(max_examples=100, deadline=None)
@given(DOMAINS)
def test_a_grid_has_as_many_different_points_as_size_says_and_the_domain_contains_them(
    domain: Domain,
) -> None:
    size = domain.size()
    assume(size is None or size < 1000)
    points = domain.grid()
    if size is None:
        assert points is None
        return
    assert len({domain.key(point) for point in points}) == len(points) == size
    assert all(domain.contains(point) for point in points)
    assert list(points) == [domain.at(index) for index in range(size)]


@settings(max_examples=60, deadline=None)
@given(DOMAINS)
def test_domains_survive_pickling_and_copying(domain: Domain) -> None:
    assert pickle.loads(pickle.dumps(domain)) == domain == copy.deepcopy(domain)
    assert hash(copy.deepcopy(domain)) == hash(domain)


def test_stepped_floats_do_not_drift_and_include_a_bound_on_the_grid() -> None:
    tenths = Float(low=0, high=1, step=0.1)
    assert tenths.grid() == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    assert Float(low=0.0, high=0.25, step=0.1).grid() == (0.0, 0.1, 0.2)
    assert Float(low=1e-4, high=3e-4, step=1e-4).grid() == (1e-4, 2e-4, 3e-4)


def test_stepped_floats_forgive_rounding_but_not_values_off_the_grid() -> None:
    domain = Float(low=0.0, high=0.3, step=0.1)
    assert domain.contains(0.1 + 0.2)
    assert domain.key(0.1 + 0.2) == domain.key(0.3)
    for value in (0.15, -0.1, 0.4, float("nan"), float("inf"), 10**400):
        assert not domain.contains(value)


@pytest.mark.parametrize("value", [True, "0.5", None, [0.5], float("nan"), float("inf"), 10**400, -0.1, 1.1])
def test_a_float_domain_refuses_what_is_no_number_within_it(value: object) -> None:
    assert not Float(low=0.0, high=1.0).contains(value)


def test_bounds_are_included_and_whole_numbers_are_fine_for_floats() -> None:
    assert all(Float(low=0.0, high=1.0).contains(value) for value in (0, 1, 0.0, 1.0))
    assert all(Int(low=0, high=3).contains(value) for value in (0, 3))


@pytest.mark.parametrize("value", [True, 2.0, "2", None, 0, 10, 4])
def test_an_int_domain_refuses_what_is_no_whole_number_on_its_grid(value: object) -> None:
    assert not Int(low=1, high=9, step=2).contains(value)


def test_choices_distinguish_equal_values_of_different_types() -> None:
    domain = Choice(values=(1, 1.0, True, "1", None))
    assert domain.size() == 5
    one = Choice(values=(1,))
    assert one.contains(1)
    assert not one.contains(True)
    assert not one.contains(1.0)
    assert one != Choice(values=(True,))


def test_choices_contain_nested_values_and_hand_out_copies() -> None:
    domain = Choice(values=([32], {"a": 1, "b": None}))
    assert domain.contains([32])
    assert domain.contains({"b": None, "a": 1})
    assert not domain.contains([32.0])
    assert not domain.contains({1, 2})
    domain.grid()[0].append(64)
    domain.at(0).append(64)
    assert domain.at(0) == [32]


def test_a_log_scale_draws_each_decade_equally_often() -> None:
    rng, domain = Random(0), Float(low=1e-4, high=1.0, log=True)
    below = sum(domain.sample(rng) < 1e-2 for _ in range(4000)) / 4000
    assert 0.46 < below < 0.54


def test_a_log_int_draws_small_numbers_more_often_and_both_bounds() -> None:
    rng, domain = Random(0), Int(low=1, high=1024, log=True)
    drawn = [domain.sample(rng) for _ in range(4000)]
    assert 0.40 < sum(value <= 32 for value in drawn) / 4000 < 0.62
    assert 1 in drawn
    assert {Int(low=1, high=3, log=True).sample(rng) for _ in range(100)} == {1, 2, 3}


def test_a_range_of_one_point_is_a_grid_and_a_continuous_one_is_not() -> None:
    assert Float(low=2, high=2).grid() == (2.0,)
    assert Float(low=1, high=2).grid() is None
    assert Int(low=0, high=10**12).size() == 10**12 + 1


@pytest.mark.parametrize(
    ("domain", "words"),
    [
        (Float(low=1e-4, high=1, log=True), "0.0001 to 1.0, log scale"),
        (Float(low=0, high=0.5, step=0.1), "0.0 to 0.5 in steps of 0.1"),
        (Int(low=1, high=9, step=2), "1 to 9 in steps of 2, whole numbers"),
        (Int(low=1, high=8, log=True), "1 to 8, whole numbers, log scale"),
        (Choice(values=(16, 32, 64)), "16, 32, 64"),
        (Choice(values=("sgd", True, None, "true", [8, 8], "1")), 'sgd, true, null, "true", [8, 8], "1"'),
    ],
)
def test_domains_describe_themselves_as_a_job_file_writes_them(domain: Domain, words: str) -> None:
    assert domain.describe() == words


@pytest.mark.parametrize(
    ("make", "given", "text"),
    [
        (Float, {"low": 2, "high": 1}, "low: low is 2.0, above high, which is 1.0"),
        (Float, {"low": "1e-4", "high": 1}, 'low: "1e-4" is text; a number is needed'),
        (Float, {"low": True, "high": 1}, "low: true is a truth value; a number is needed"),
        (Float, {"low": 0, "high": float("inf")}, "high: Infinity is not a finite number"),
        (Float, {"low": 0, "high": 1, "log": True}, "low: low is 0.0; a log scale needs it above 0"),
        (Float, {"low": 0, "high": 1, "log": "no"}, "log: no is text; true or false is needed"),
        (
            Float,
            {"low": 1, "high": 2, "log": True, "step": 1},
            "step: step 1.0 excludes log: remove one of them",
        ),
        (Float, {"low": 1, "high": 2, "step": 0}, "step: step is 0.0; it must be above 0"),
        (
            Float,
            {"low": 0, "high": 1e17, "step": 1},
            "step: step 1.0 is lost in rounding between 0.0 and 1e+17",
        ),
        (Int, {"low": 1.0, "high": 2}, "low: 1.0 is a number; a whole number is needed"),
        (Int, {"low": 1, "high": 2, "step": -1}, "step: step is -1; it must be above 0"),
        (Int, {"low": 1, "high": 9, "log": True, "step": 2}, "step: step 2 excludes log: remove one of them"),
        (Int, {"low": 0, "high": 9, "log": True}, "low: low is 0; a log scale needs it above 0"),
        (Int, {"low": 0, "high": 2**63}, f"high: {2**63} does not fit in 64 bits"),
        (Choice, {"values": ()}, "values: the list is empty; at least one value is needed"),
        (Choice, {"values": "ab"}, "values: ab is text; a list is needed"),
        (
            Choice,
            {"values": ([8], 1, [8], 1, 1)},
            "values: [8] is given twice; remove one\nvalues: 1 is given",
        ),
        (Choice, {"values": (float("nan"),)}, "values: nan is not a finite number"),
        (Choice, {"values": (object,)}, "is a Python type; valid are text, numbers, true"),
        (Choice, {"values": ({1: 2},)}, "has keys that are not text"),
    ],
)
def test_a_wrong_domain_says_what_was_given_and_what_is_valid(make: type, given: dict, text: str) -> None:
    assert text in message(make, **given)


def test_all_problems_of_a_domain_come_at_once_with_their_paths() -> None:
    with pytest.raises(SearchSpaceError) as caught:
        Float(low="a", high=None, log=1)
    assert [problem.path for problem in caught.value.problems] == ["low", "high", "log"]


def test_domains_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Int(low=1, high=2).low = 0  # type: ignore[misc]


def test_an_error_survives_pickling_with_its_problems() -> None:
    error = pickle.loads(pickle.dumps(SearchSpaceError([Problem("lr.low", "too low"), Problem("", "odd")])))
    assert str(error) == "lr.low: too low\nodd"
    assert isinstance(error, ValueError)
