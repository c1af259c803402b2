"""Configurations as vectors: their values, their distances, and that different ones differ."""

from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tune_jobs.search.conftest import FINITE, LOOK_ALIKES, SPACES
from tune_jobs.search.features import INACTIVE, Features
from tune_jobs.search_spaces import parse_space

ALL = {**SPACES, **{f"finite {name}": space for name, space in FINITE.items()}}


def encoded(space: dict[str, Any], *configurations: dict[str, Any]) -> list[list[float]]:
    rows: list[list[float]] = Features(parse_space(space)).encode(configurations).tolist()
    return rows


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(ALL)), st.integers(0, 2**32), st.integers(0, 4))
def test_every_configuration_is_a_point_of_the_unit_cube(name: str, seed: int, count: int) -> None:
    space = parse_space(ALL[name])
    features = Features(space)
    rng = Random(seed)
    rows = features.encode([space.sample(rng) for _ in range(count)])
    assert rows.shape == (count, features.size)
    assert rows.dtype == np.float64
    assert ((rows >= -1e-12) & (rows <= 1 + 1e-12)).all()


@pytest.mark.parametrize("name", sorted(FINITE))
def test_different_configurations_are_different_points(name: str) -> None:
    space = parse_space(FINITE[name])
    rows = Features(space).encode(list(space.grid()))
    assert len({tuple(row) for row in rows.tolist()}) == space.grid_size()


def test_a_number_has_its_place_between_the_bounds() -> None:
    space = {"x": {"low": -1.0, "high": 3.0}, "n": {"low": 0, "high": 8, "step": 2}}
    assert encoded(space, {"x": -1.0, "n": 0}, {"x": 0.0, "n": 2}, {"x": 3.0, "n": 8}) == [
        [0, 0],
        [0.25, 0.25],
        [1, 1],
    ]


def test_a_number_on_a_log_scale_has_the_place_of_its_logarithm() -> None:
    space = {"lr": {"low": 1e-4, "high": 1.0, "log": True}, "n": {"low": 1, "high": 16, "log": True}}
    assert encoded(space, {"lr": 1e-3, "n": 4}, {"lr": 1e-4, "n": 1}, {"lr": 1.0, "n": 16}) == [
        pytest.approx([0.25, 0.5]),
        pytest.approx([0, 0]),
        pytest.approx([1, 1]),
    ]


def test_numbers_to_choose_from_have_places_in_rising_order() -> None:
    space = {"x": {"values": [64, 1, 8.5, 2]}}
    assert encoded(space, {"x": 1}, {"x": 2}, {"x": 8.5}, {"x": 64}) == [
        [0],
        [pytest.approx(1 / 3)],
        [pytest.approx(2 / 3)],
        [1],
    ]


def test_other_values_to_choose_from_are_equally_far_apart() -> None:
    rows = np.array(encoded({"x": {"values": LOOK_ALIKES}}, *[{"x": value} for value in LOOK_ALIKES]))
    distances = np.linalg.norm(rows[:, None] - rows[None, :], axis=2)
    assert distances[~np.eye(len(rows), dtype=bool)] == pytest.approx(np.sqrt(2))


def test_a_parameter_with_one_value_takes_no_feature() -> None:
    space = {"a": 3, "b": {"low": 0.5, "high": 0.5}, "c": {"low": 2, "high": 2}, "d": {"values": [[1]]}}
    assert encoded(space, {"a": 3, "b": 0.5, "c": 2, "d": [1]}, {}) == [[], []]
    assert Features(parse_space({})).encode([{}]).shape == (1, 0)


def test_a_parameter_that_does_not_apply_has_the_middle_value() -> None:
    space = {
        "optimizer": {"values": ["sgd", "adam"]},
        "momentum": {"low": 0.0, "high": 0.8, "when": {"optimizer": "sgd"}},
    }
    assert encoded(space, {"optimizer": "adam"}, {"optimizer": "sgd", "momentum": 0.0}) == [
        [0, 1, INACTIVE],
        [1, 0, 0],
    ]


@pytest.mark.parametrize(
    "domain",
    [
        {"low": -1e308, "high": 1e308},
        {"low": 0.0, "high": 5e-324},
        {"low": 1e300, "high": float(np.nextafter(1e300, np.inf)), "log": True},
        {"low": -(2**63), "high": 2**63 - 1},
        {"low": 5e-324, "high": 1e308, "log": True},
    ],
)
def test_the_widest_and_narrowest_ranges_have_places_too(domain: dict[str, Any]) -> None:
    low, middle, high = encoded(
        {"x": domain}, {"x": domain["low"]}, {"x": domain["high"]}, {"x": domain["high"]}
    )
    assert low == [0]
    assert middle == high
    assert 0 <= high[0] <= 1
