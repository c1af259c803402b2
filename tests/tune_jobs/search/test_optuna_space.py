"""Spaces in Optuna's terms: nothing is lost on the way there and back."""

from collections.abc import Mapping
from random import Random
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FixedTrial, create_trial

from tests.tune_jobs.search.conftest import FINITE, LOOK_ALIKES, SPACES
from tune_jobs.search.optuna_space import distribution, suggest, to_optuna
from tune_jobs.search_spaces import SearchSpace, parse_space

ALL = {**SPACES, **{f"finite {name}": space for name, space in FINITE.items()}}


def of(entry: Mapping[str, Any]) -> Any:
    return distribution(parse_space({"x": entry}).parameters["x"].domain)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"low": 0.5, "high": 2.0}, FloatDistribution(0.5, 2.0)),
        ({"low": 0.5, "high": 2.0, "log": True}, FloatDistribution(0.5, 2.0, log=True)),
        ({"low": 0.0, "high": 0.5, "step": 0.25}, FloatDistribution(0.0, 0.5, step=0.25)),
        ({"low": 0.0, "high": 0.5, "step": 0.2}, FloatDistribution(0.0, 0.4, step=0.2)),
        ({"low": 0.0, "high": 0.1, "step": 0.2}, FloatDistribution(0.0, 0.0, step=0.2)),
        ({"low": 1, "high": 9}, IntDistribution(1, 9)),
        ({"low": 1, "high": 9, "log": True}, IntDistribution(1, 9, log=True)),
        ({"low": 1, "high": 9, "step": 3}, IntDistribution(1, 7, step=3)),
        ({"values": [1, "a", None, 2.5]}, CategoricalDistribution([1, "a", None, 2.5])),
        ({"values": [1, True, 1.0]}, CategoricalDistribution(["1", "true", "1.0"])),
        ({"values": [1, "1", [1], "[1]"]}, CategoricalDistribution(["1", '"1"', "[1]", '"[1]"'])),
    ],
)
def test_domains_have_the_same_values_in_optuna(entry: Mapping[str, Any], expected: Any) -> None:
    assert of(entry) == expected


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(ALL)), st.integers(0, 2**32))
def test_a_configuration_becomes_a_trial_of_optuna_and_comes_back(name: str, seed: int) -> None:
    space = parse_space(ALL[name])
    configuration = space.sample(Random(seed))
    parameters, distributions = to_optuna(space, configuration)
    trial = create_trial(params=parameters, distributions=distributions, value=0.0)  # checks its arguments
    assert trial.params.keys() == configuration.keys()
    again = suggest(space, FixedTrial(parameters))  # type: ignore[arg-type]
    assert space.key(again) == space.key(configuration)


@pytest.mark.parametrize("name", sorted(ALL))
def test_whatever_a_sampler_suggests_is_a_configuration(name: str) -> None:
    space = parse_space(ALL[name])
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    suggested = [suggest(space, study.ask()) for _ in range(40)]
    assert [problem for configuration in suggested for problem in space.problems(configuration)] == []
    assert len(set(map(space.key, suggested))) > 1 or (space.grid_size() or 0) == 1


def test_look_alikes_and_lists_are_suggested_with_their_types() -> None:
    space = parse_space({"a": {"values": LOOK_ALIKES}})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    suggested = {repr(suggest(space, study.ask())["a"]) for _ in range(100)}
    assert suggested == set(map(repr, LOOK_ALIKES))


def test_parameters_that_do_not_apply_are_not_asked_for() -> None:
    space: SearchSpace = parse_space(SPACES["conditional"])
    trial = FixedTrial({"optimizer": "adam", "decay": 0.0})
    assert suggest(space, trial) == {"optimizer": "adam", "decay": 0.0}  # type: ignore[arg-type]


def test_changing_a_suggestion_does_not_change_the_space() -> None:
    space = parse_space({"hidden": {"values": [[32], [64]]}})
    suggested = suggest(space, FixedTrial({"hidden": "[32]"}))  # type: ignore[arg-type]
    suggested["hidden"].append(0)
    assert list(space.grid()) == [{"hidden": [32]}, {"hidden": [64]}]


@pytest.mark.parametrize(
    "entry",
    [{"low": 1e6, "high": 2e6, "step": 0.1}, {"low": 1e4, "high": 2e4, "step": 0.001}],
)
def test_a_proposal_is_on_the_grid_although_optuna_computes_in_doubles(entry: dict[str, float]) -> None:
    space = parse_space({"x": entry})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(60):
        assert not space.problems(suggest(space, study.ask()))
