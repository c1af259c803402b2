from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_jobs.search_spaces import Choice, Domain, Float, Int, SearchSpaceError, parse_space
from tune_jobs.search_spaces.values import plain

KEYS = st.sampled_from(["low", "high", "log", "step", "type", "values", "when", "hihg", "min"])
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.just("int")
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


def problems(mapping: Any) -> list[str]:
    with pytest.raises(SearchSpaceError) as caught:
        parse_space(mapping)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("entry", "domain"),
    [
        ({"low": 1, "high": 4}, Int(low=1, high=4)),
        ({"low": 1, "high": 9, "step": 2}, Int(low=1, high=9, step=2)),
        ({"low": 1, "high": 9, "step": None}, Int(low=1, high=9)),
        ({"low": 1, "high": 64, "log": True}, Int(low=1, high=64, log=True)),
        ({"low": 1, "high": 4, "type": "float"}, Float(low=1, high=4)),
        ({"low": 1, "high": 4.0}, Float(low=1, high=4)),
        ({"low": 0, "high": 1, "step": 0.5}, Float(low=0, high=1, step=0.5)),
        ({"low": 1, "high": 1e3, "type": "int"}, Int(low=1, high=1000)),
        ({"low": 1e-4, "high": 1.0, "log": True}, Float(low=1e-4, high=1.0, log=True)),
        ({"values": [16, "full"]}, Choice(values=(16, "full"))),
        ("sgd", Choice(values=("sgd",))),
        (None, Choice(values=(None,))),
        (True, Choice(values=(True,))),
        ([64, 64], Choice(values=([64, 64],))),
    ],
)
def test_each_form_of_an_entry_becomes_its_domain(entry: Any, domain: Domain) -> None:
    assert parse_space({"x": entry}).parameters["x"].domain == domain


def test_conditions_take_one_value_or_a_list_of_alternatives() -> None:
    space = parse_space(
        {
            "optimizer": {"values": ["sgd", "rmsprop", "adam"]},
            "hidden": {"values": [[32], [64]]},
            "a": {"values": [1, 2], "when": {"optimizer": "sgd"}},
            "b": {"low": 1, "high": 2, "when": {"optimizer": ["sgd", "rmsprop"], "hidden": [[32]]}},
        }
    )
    assert dict(space.parameters["a"].when) == {"optimizer": ("sgd",)}
    assert dict(space.parameters["b"].when) == {"optimizer": ("sgd", "rmsprop"), "hidden": ([32],)}


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"low": 1, "hihg": 2}, ["x: unknown key 'hihg'; did you mean 'high'?"]),
        (
            {"min": 1, "max": 2},
            [f"x: unknown key '{m}'; did you mean '{v}'?" for m, v in [("min", "low"), ("max", "high")]],
        ),
        ({"value": 3}, ["x: unknown key 'value'; did you mean 'values'?"]),
        (
            {"values": [1], "zzz": 3},
            ["x: unknown key 'zzz'; valid are low, high, log, step, type, values, when"],
        ),
        ({"low": 1}, ["x.high: missing; a range needs both low and high, but only low is given"]),
        (
            {"log": True},
            [
                f"x.{key}: missing; a range needs both low and high, but only log is given"
                for key in ("low", "high")
            ],
        ),
        ({}, ["x: there are no values; give low and high, or values: [...]"]),
        (
            {"values": [1], "low": 1},
            ["x: values cannot go together with low; keep either the list or the range"],
        ),
        ({"values": 5}, ["x.values: 5 is a whole number; a list is needed, such as [16, 32, 64]"]),
        (
            {"low": "1e-4", "high": True},
            [
                'x.low: "1e-4" is text; a number is needed',
                "x.high: true is a truth value; a number is needed",
            ],
        ),
        ({"low": 1, "high": 2, "type": "flaot"}, ["x.type: flaot is not a type; valid are int, float"]),
        ({"low": 0.5, "high": 2, "type": "int"}, ["x.low: 0.5 is a number; a whole number is needed"]),
        ({"low": 3, "high": 1}, ["x.low: low is 3, above high, which is 1"]),
        (
            {"values": [1], "when": 3},
            ["x.when: 3 is a whole number; a mapping is needed, such as {optimizer: sgd}"],
        ),
        ({1, 2}, ["x: {1, 2} is a Python set; valid are text, numbers, true, false, null, lists, mappings"]),
    ],
)
def test_a_wrong_entry_says_what_was_given_and_what_is_valid(entry: Any, text: list[str]) -> None:
    assert problems({"x": entry}) == text


def test_all_problems_of_all_entries_come_at_once() -> None:
    mapping = {
        "lr": {"low": "a", "hihg": 1, "log": 2},
        "momentum": {"low": 0.0, "high": 0.9, "when": {"optimzer": "sgd", "lr": 3}},
        "optimizer": {"values": ["sgd", "sgd"]},
        "a": {"low": 2, "high": 1, "when": {"b": 1}},
        "b": {"low": 1, "high": 2, "when": {"a": 1}},
        "5": 5,
    }
    assert problems(mapping) == [
        "lr: unknown key 'hihg'; did you mean 'high'?",
        "lr.low: a is text; a number is needed",
        "lr.log: 2 is a whole number; true or false is needed",
        "optimizer.values: sgd is given twice; remove one",
        "a.low: low is 2, above high, which is 1",
        "5: a name is made of letters, digits, _ and -, in parts joined by dots, such as model.hidden",
        "momentum.when.optimzer: there is no parameter 'optimzer'; did you mean 'optimizer'?",
        "a.when: the conditions form a cycle: a -> b -> a; remove one of them",
    ]


def test_a_condition_on_a_broken_entry_is_not_blamed() -> None:
    assert problems({"a": {"low": 1}, "b": {"values": [1], "when": {"a": 1}}}) == [
        "a.high: missing; a range needs both low and high, but only low is given"
    ]


def test_a_space_that_is_no_mapping_is_refused() -> None:
    assert problems([1]) == ["[1] is a list; a mapping of names to entries is needed"]


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "b"]) | st.integers(), ANYTHING, max_size=3))
def test_anything_is_either_parsed_or_refused_with_problems(mapping: dict) -> None:
    try:
        space = parse_space(mapping)
    except SearchSpaceError as error:
        refused = [problem.message for problem in error.problems]
    else:
        refused = None
        assert plain(space.to_mapping()) == space.to_mapping()
    assert refused is None or (refused and all(refused))
