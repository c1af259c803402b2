import copy
import pickle
from itertools import islice
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_jobs.search_spaces import Choice, Float, Int, Parameter, SearchSpace, SearchSpaceError, parse_space

DISCRETE = st.sampled_from(
    [
        {"values": [1, True, 1.0]},
        {"values": ["sgd", "adam", None]},
        {"values": [[32], [32, 32]]},
        {"low": 0, "high": 2},
        {"low": 1, "high": 3, "log": True},
        {"low": 0.0, "high": 0.3, "step": 0.1},
        "constant",
        [8, 8],
    ]
)
CONTINUOUS = st.sampled_from([{"low": 0.0, "high": 1.0}, {"low": 1e-4, "high": 1.0, "log": True}])


@st.composite
def mappings(draw: st.DrawFn, entries: st.SearchStrategy[Any]) -> dict[str, Any]:
    """Generate up to five parameters, of which later ones may depend on earlier ones, in any order."""
    mapping: dict[str, Any] = {}
    for name in ["a", "b", "model.c", "d", "e"][: draw(st.integers(0, 5))]:
        entry = draw(entries)
        when = {}
        for parent in (
            draw(st.lists(st.sampled_from(list(mapping)), max_size=2, unique=True)) if mapping else ()
        ):
            domain = parse_space({parent: without_when(mapping[parent])}).parameters[parent].domain
            points = domain.grid() or (domain.low,)
            when[parent] = draw(st.lists(st.sampled_from(points), min_size=1, max_size=2, unique_by=str))
        if when:
            entry = {**(entry if isinstance(entry, dict) else {"values": [entry]}), "when": when}
        mapping[name] = entry
    return {name: mapping[name] for name in draw(st.permutations(list(mapping)))}


def without_when(entry: Any) -> Any:
    return {k: v for k, v in entry.items() if k != "when"} if isinstance(entry, dict) else entry


def canonical(configurations: list[dict[str, Any]]) -> list[str]:
    return sorted(repr(sorted(configuration.items())) for configuration in configurations)


OPTIMIZERS = {
    "momentum": {"low": 0.0, "high": 0.9, "when": {"optimizer": ["sgd", "rmsprop"]}},
    "optimizer": {"values": ["sgd", "rmsprop", "adam"]},
    "lr": {"low": 1e-4, "high": 1.0, "log": True},
    "nesterov": {"values": [False, True], "when": {"optimizer": "sgd"}},
    "damping": {"low": 0, "high": 1, "when": {"nesterov": False, "optimizer": "sgd"}},
}


def space_error(parameters: dict[str, Parameter]) -> str:
    with pytest.raises(SearchSpaceError) as caught:
        SearchSpace(parameters)
    return str(caught.value)


@settings(max_examples=80, deadline=None)
@given(mappings(DISCRETE | CONTINUOUS), st.integers(0, 2**32))
def test_a_sample_is_a_valid_configuration_of_exactly_the_active_names(mapping: dict, seed: int) -> None:
    space = parse_space(mapping)
    configuration = space.sample(Random(seed))
    assert space.problems(configuration) == ()
    assert tuple(configuration) == space.active(configuration)
    assert configuration == space.sample(Random(seed))


@settings(max_examples=80, deadline=None)
@given(mappings(DISCRETE | CONTINUOUS), st.integers(0, 2**32), st.integers(0, 2**32), st.data())
def test_a_given_parameter_that_applies_is_not_drawn(
    mapping: dict, seed: int, other_seed: int, data: st.DataObject
) -> None:
    space = parse_space(mapping)
    known = space.sample(Random(seed))
    known = {name: value for name, value in known.items() if data.draw(st.booleans(), label=name)}
    configuration = space.sample(Random(other_seed), known)
    assert space.problems(configuration) == ()
    assert tuple(configuration) == space.active(configuration)
    for name in configuration.keys() & known.keys():
        assert repr(configuration[name]) == repr(known[name])
    assert space.sample(Random(other_seed), {}) == space.sample(Random(other_seed))


@settings(max_examples=80, deadline=None)
@given(mappings(DISCRETE | CONTINUOUS), st.integers(0, 2**32))
def test_a_whole_configuration_that_is_given_comes_back_as_it_is(mapping: dict, seed: int) -> None:
    space = parse_space(mapping)
    whole = space.sample(Random(seed))
    rng = Random(seed + 1)
    state = rng.getstate()
    assert repr(space.sample(rng, whole)) == repr(whole)
    assert rng.getstate() == state, "nothing was drawn"


@settings(max_examples=80, deadline=None)
@given(mappings(DISCRETE))
def test_different_configurations_have_different_keys(mapping: dict) -> None:
    space = parse_space(mapping)
    points = list(space.grid())
    assert len({space.key(point) for point in points}) == len(points)
    for point in points:
        assert space.key(dict(reversed(point.items()))) == space.key(point)


@settings(max_examples=80, deadline=None)
@given(mappings(DISCRETE | CONTINUOUS))
def test_a_space_survives_its_mapping_and_pickling_with_the_same_fingerprint(mapping: dict) -> None:
    space = parse_space(mapping)
    again = [parse_space(space.to_mapping()), pickle.loads(pickle.dumps(space)), copy.deepcopy(space)]
    assert all(other == space for other in again)
    assert {other.fingerprint() for other in again} == {space.fingerprint()}
    assert [other.order for other in again] == [space.order] * 3


@settings(max_examples=80, deadline=None)
@given(mappings(DISCRETE))
def test_a_grid_has_every_configuration_once_and_its_size_is_known(mapping: dict) -> None:
    space = parse_space(mapping)
    points = list(space.grid())
    assert all(space.problems(point) == () for point in points)
    assert len(set(canonical(points))) == len(points) == space.grid_size()
    sampled = [space.sample(Random(seed)) for seed in range(30)]
    assert set(canonical(sampled)) <= set(canonical(points))


@settings(max_examples=40, deadline=None)
@given(mappings(DISCRETE | CONTINUOUS), st.randoms(use_true_random=False))
def test_the_order_of_names_does_not_change_the_fingerprint(mapping: dict, shuffler: Random) -> None:
    names = list(mapping)
    shuffler.shuffle(names)
    assert (
        parse_space({name: mapping[name] for name in names}).fingerprint()
        == parse_space(mapping).fingerprint()
    )


@settings(max_examples=60, deadline=None)
@given(mappings(DISCRETE | CONTINUOUS))
def test_parents_come_before_children(mapping: dict) -> None:
    space = parse_space(mapping)
    assert sorted(space.order) == sorted(mapping)
    for name, parameter in space.parameters.items():
        assert all(space.order.index(parent) < space.order.index(name) for parent in parameter.when)


def test_names_stay_in_the_given_order_unless_a_condition_changes_it() -> None:
    assert parse_space(OPTIMIZERS).order == ("optimizer", "momentum", "lr", "nesterov", "damping")
    assert parse_space({"z": 1, "a": 2, "m": 3}).order == ("z", "a", "m")


def test_an_inactive_parent_makes_its_children_inactive() -> None:
    space = parse_space(OPTIMIZERS)
    assert space.active({"optimizer": "adam", "nesterov": False}) == ("optimizer", "lr")
    assert space.active({"optimizer": "sgd", "nesterov": False}) == space.order
    assert space.active({"optimizer": "sgd", "nesterov": 0}) == ("optimizer", "momentum", "lr", "nesterov")
    assert space.active({}) == ("optimizer", "lr")


def test_every_problem_of_a_configuration_is_named_with_what_is_valid() -> None:
    space = parse_space(OPTIMIZERS)
    problems = space.problems({"optimizer": "adam", "lr": True, "momentum": 0.5, "momentun": 0.5, "q" * 9: 1})
    assert [str(problem) for problem in problems] == [
        "momentun: there is no such parameter; did you mean 'momentum'?",
        "qqqqqqqqq: there is no such parameter; valid are momentum, optimizer, lr, nesterov, damping",
        "momentum: given, but it applies only when optimizer is sgd or rmsprop (it is adam); leave it out",
        "lr: true (a truth value) is not valid; valid is 0.0001 to 1.0, log scale",
    ]
    assert [str(problem) for problem in space.problems({"lr": "0.1"})] == [
        "optimizer: missing; valid is sgd, rmsprop, adam",
        'lr: "0.1" (text) is not valid; valid is 0.0001 to 1.0, log scale',
    ]
    assert "(it is not given)" in str(space.problems({"lr": 0.1, "momentum": 0.1})[1])


def test_conditions_on_numbers_hold_for_equal_numbers_but_not_for_truth_values() -> None:
    space = parse_space(
        {
            "dropout": {"low": 0, "high": 0.3, "step": 0.1, "type": "float"},
            "flag": {"values": [1, True]},
            "rescale": {"values": [1, 2], "when": {"dropout": [0.3, 0]}},
            "extra": {"values": [1, 2], "when": {"flag": True}},
        }
    )
    assert "rescale" in space.active({"dropout": 0.1 + 0.2})
    assert "rescale" in space.active({"dropout": 0})
    assert "rescale" not in space.active({"dropout": 0.1})
    assert "extra" in space.active({"flag": True})
    assert "extra" not in space.active({"flag": 1})


def test_a_grid_skips_what_is_inactive_and_its_last_name_changes_fastest() -> None:
    space = parse_space({"o": {"values": ["sgd", "adam"]}, "m": {"values": [0.0, 0.9], "when": {"o": "sgd"}}})
    assert list(space.grid()) == [{"o": "sgd", "m": 0.0}, {"o": "sgd", "m": 0.9}, {"o": "adam"}]
    assert space.grid_size() == 3


def test_grid_points_and_samples_do_not_share_lists() -> None:
    space = parse_space({"model.hidden": [32], "x": {"values": [1, 2]}})
    first, second = space.grid()
    first["model.hidden"].append(0)
    assert second["model.hidden"] == [32]
    assert space.sample(Random(0))["model.hidden"] == [32]


def test_a_continuous_parameter_has_no_grid_unless_it_can_never_apply() -> None:
    assert parse_space(OPTIMIZERS).grid_size() is None
    with pytest.raises(
        SearchSpaceError, match=r"lr: 0\.0001 to 1\.0, log scale has no grid; give `step` or `values`"
    ):
        parse_space(OPTIMIZERS).grid()
    unreachable = parse_space(
        {
            "a": {"values": [1, 2]},
            "b": {"values": [1, 2], "when": {"a": 1}},
            "c": {"low": 0.0, "high": 1.0, "when": {"a": 2, "b": 1}},
        }
    )
    assert unreachable.grid_size() == len(list(unreachable.grid())) == 3


def test_wide_ranges_are_counted_and_begun_without_being_listed() -> None:
    space = parse_space({"n": {"low": 0, "high": 10**12}, "m": {"values": [1, 2], "when": {"n": [0, 7]}}})
    assert space.grid_size() == 10**12 + 3
    assert list(islice(space.grid(), 3)) == [{"n": 0, "m": 1}, {"n": 0, "m": 2}, {"n": 1}]


def test_an_empty_space_has_the_empty_configuration() -> None:
    space = SearchSpace({})
    assert list(space.grid()) == [{}] == [space.sample(Random(0))]
    assert space.grid_size() == 1


def test_the_fingerprint_is_a_sha256_of_the_meaning() -> None:
    one = parse_space({"a": {"low": 1, "high": 2, "log": False}, "b": {"values": [1], "when": {"a": [2, 1]}}})
    same = parse_space({"b": {"when": {"a": [1, 2]}, "values": [1]}, "a": {"high": 2, "low": 1, "step": 1}})
    assert one.fingerprint() == same.fingerprint()
    assert len(one.fingerprint()) == 64
    others = [
        {"a": {"low": 1.0, "high": 2.0}},
        {"a": {"low": 1, "high": 2}},
        {"a": {"low": 1, "high": 2, "log": True}},
        {"a": {"values": [1, 2]}},
        {"a": {"values": [2, 1]}},
        {"a": {"values": [1.0, 2.0]}},
        {"A": {"values": [1.0, 2.0]}},
    ]
    assert len({parse_space(other).fingerprint() for other in others}) == len(others)


def test_a_space_cannot_be_changed_from_outside() -> None:
    given = {"a": Parameter(Int(low=1, high=2))}
    space = SearchSpace(given)
    given["b"] = Parameter(Int(low=1, high=2))
    assert tuple(space.parameters) == ("a",)
    with pytest.raises(TypeError):
        space.parameters["b"] = given["b"]  # type: ignore[index]


def test_wrong_conditions_are_named_with_the_closest_name_and_the_possible_values() -> None:
    domain = Choice(values=("sgd", "adam"))
    text = space_error(
        {
            "optimizer": Parameter(domain),
            "a": Parameter(domain, {"optimiser": ("sgd",)}),
            "b": Parameter(domain, {"optimizer": ("sdg", 1)}),
            "c": Parameter(domain, {"optimizer": ()}),
            "not a name": Parameter(domain),
        }
    )
    assert text.splitlines() == [
        "not a name: a name is made of letters, digits, _ and -, in parts joined by dots, "
        "such as model.hidden",
        "a.when.optimiser: there is no parameter 'optimiser'; did you mean 'optimizer'?",
        "b.when.optimizer: optimizer is never sdg (text); valid is sgd, adam",
        "b.when.optimizer: optimizer is never 1 (a whole number); valid is sgd, adam",
        "c.when.optimizer: the list is empty; at least one value is needed",
    ]


def test_conditions_that_go_round_in_a_circle_are_refused() -> None:
    domain = Float(low=0.0, high=1.0)
    loop = {"a": Parameter(domain, {"b": (0.5,)}), "b": Parameter(domain, {"a": (0.5,)})}
    assert space_error(loop) == "a.when: the conditions form a cycle: a -> b -> a; remove one of them"
    assert "a -> a" in space_error({"a": Parameter(domain, {"a": (0.5,)})})


def test_a_condition_that_is_no_tuple_is_refused() -> None:
    with pytest.raises(SearchSpaceError, match=r"when.optimizer: sgd is text; a tuple of values is needed"):
        Parameter(Int(low=1, high=2), {"optimizer": "sgd"})  # type: ignore[dict-item]


def test_a_given_parameter_that_does_not_apply_is_left_out() -> None:
    space = parse_space(OPTIMIZERS)
    assert "momentum" not in space.sample(Random(0), {"optimizer": "adam", "momentum": 0.5})
    assert space.sample(Random(0), {"optimizer": "sgd", "momentum": 0.5})["momentum"] == 0.5
    drawn = [space.sample(Random(seed), {"momentum": 0.5}) for seed in range(20)]
    assert {c.get("momentum", c["optimizer"]) for c in drawn} == {0.5, "adam"}


def test_a_sample_does_not_share_lists_with_what_was_given() -> None:
    known = {"model.hidden": [32]}
    sampled = parse_space({"model.hidden": {"values": [[32], [64]]}}).sample(Random(0), known)
    sampled["model.hidden"].append(0)
    assert known == {"model.hidden": [32]}


def test_a_key_distinguishes_types_and_ignores_how_a_number_was_written() -> None:
    space = parse_space(
        {
            "a": {"values": [1, True, 1.0, "1", [1], "[1]"]},
            "x": {"low": 0.0, "high": 0.3, "step": 0.1},
            "y": {"low": -1.0, "high": 1.0},
        }
    )
    assert len({space.key({"a": value}) for value in [1, True, 1.0, "1", [1], "[1]"]}) == 6
    assert space.key({"x": 0.1 + 0.2, "y": 1}) == space.key({"x": 0.3, "y": 1.0})
    assert space.key({"x": 0, "y": -0.0}) == space.key({"y": 0.0, "x": 0.0})
    assert space.key({"x": 0.1}) != space.key({"x": 0.1, "y": 0.0})
    assert space.key({"y": 0.1}) != space.key({"y": 0.1 + 1e-17 + 2e-17})
    assert space.key({}) == ()
