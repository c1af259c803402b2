import math
from typing import Any

import pytest

from tune_jobs.search_spaces import Choice, Domain, Float, Int, SearchSpaceError
from tune_jobs.search_spaces.wandb_distributions import read_domain


@pytest.mark.parametrize(
    ("entry", "domain"),
    [
        ({"value": [1, 2]}, Choice(values=([1, 2],))),
        ({"value": None, "distribution": "constant"}, Choice(values=(None,))),
        ({"values": ["a", 1]}, Choice(values=("a", 1))),
        ({"values": ["a", 1], "distribution": "categorical"}, Choice(values=("a", 1))),
        ({"min": 1, "max": 8}, Int(low=1, high=8)),
        ({"min": 1, "max": 8, "distribution": "int_uniform"}, Int(low=1, high=8)),
        ({"min": 1, "max": 8.0}, Float(low=1, high=8)),
        ({"min": 0.1, "max": 1}, Float(low=0.1, high=1)),
        ({"min": 1, "max": 8, "distribution": "uniform"}, Float(low=1, high=8)),
        ({"min": 1e-4, "max": 1, "distribution": "log_uniform_values"}, Float(low=1e-4, high=1, log=True)),
        (
            {"min": 1e-4, "max": 1, "distribution": "inv_log_uniform_values"},
            Float(low=1e-4, high=1, log=True),
        ),
    ],
)
def test_distributions_with_an_equivalent_are_imported_without_a_notice(
    entry: dict[str, Any], domain: Domain
) -> None:
    assert read_domain(entry) == (domain, None)


@pytest.mark.parametrize(
    ("name", "entry", "domain"),
    [
        ("log_uniform", {"min": -2, "max": 0}, Float(low=math.exp(-2), high=1, log=True)),
        ("inv_log_uniform", {"min": 0, "max": 2}, Float(low=math.exp(-2), high=1, log=True)),
        ("q_uniform", {"min": 3, "max": 20, "q": 8}, Int(low=0, high=16, step=8)),
        ("q_uniform", {"min": 1, "max": 3, "q": 5}, Int(low=0, high=5, step=5)),
        ("q_uniform", {"min": 0.1, "max": 0.4}, Int(low=0, high=0)),
        ("q_uniform", {"min": 0.5, "max": 3.5}, Int(low=0, high=4)),
        ("q_uniform", {"min": 0.05, "max": 0.3, "q": 0.1}, Float(low=0.0, high=0.3, step=0.1)),
        ("q_log_uniform_values", {"min": 16, "max": 256}, Int(low=16, high=256, log=True)),
        ("q_log_uniform_values", {"min": 16, "max": 256, "q": 16}, Int(low=16, high=256, log=True)),
        ("q_log_uniform_values", {"min": 0.5, "max": 2.0, "q": 0.5}, Float(low=0.5, high=2, log=True)),
        ("q_log_uniform", {"min": 0, "max": 3}, Int(low=1, high=20, log=True)),
        ("normal", {}, Float(low=-2, high=2)),
        ("normal", {"mu": 3, "sigma": 0}, Float(low=3, high=3)),
        ("q_normal", {"mu": 5, "sigma": 1.2}, Int(low=3, high=7)),
        ("q_normal", {"mu": 4, "sigma": 2, "q": 10}, Int(low=0, high=10, step=10)),
        ("log_normal", {"mu": 0, "sigma": 1}, Float(low=math.exp(-2), high=math.exp(2), log=True)),
        ("q_log_normal", {"mu": 2, "sigma": 1}, Int(low=1, high=55, log=True)),
        ("beta", {"a": 2, "b": 3}, Float(low=0, high=1)),
        ("q_beta", {"a": 2, "b": 3, "q": 0.25}, Float(low=0, high=1, step=0.25)),
        (
            "categorical_w_probabilities",
            {"values": [1, 2], "probabilities": [0.1, 0.9]},
            Choice(values=(1, 2)),
        ),
        ("categorical", {"values": [1, 2, 1]}, Choice(values=(1, 2))),
        ("categorical", {"values": [1, True, 1.0, 1]}, Choice(values=(1, True, 1.0))),
    ],
)
def test_distributions_without_an_equivalent_are_approximated_with_a_notice(
    name: str, entry: dict[str, Any], domain: Domain
) -> None:
    found, notice = read_domain({"distribution": name, **entry})
    assert found == domain
    assert notice


def test_a_notice_names_the_imported_domain() -> None:
    _, notice = read_domain({"distribution": "q_log_uniform_values", "min": 16, "max": 256, "q": 16})
    assert notice == "q_log_uniform_values became 16 to 256, whole numbers, log scale; q = 16 was left out"
    _, notice = read_domain({"values": [1, 2], "probabilities": [0.1, 0.9]})
    assert notice == "the probabilities were left out; all values are equally likely"
    _, notice = read_domain({"values": [1, 1], "probabilities": [0.1, 0.9]})
    assert notice == (
        "the probabilities were left out; all values are equally likely; values that are there twice were left out"
    )
    _, notice = read_domain({"distribution": "log_uniform", "min": 0, "max": 1})
    assert notice is not None
    assert notice.startswith("min and max were read as exponents of e: 1.0 to 2.71828182")
    assert notice.endswith("log scale; for values, use log_uniform_values")


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (3, "3 is a whole number; a mapping is needed, such as {value: 3}"),
        ({}, "there are no values; give value, values, min and max, a distribution, or nested parameters"),
        ({"min": 1}, "max: missing; uniform needs min, max"),
        ({"min": 2, "max": 1}, "min: low is 2, above high, which is 1"),
        (
            {"min": "1e-4", "max": 1},
            'min: "1e-4" is text; a finite number is needed. YAML 1.1, which W&B reads, needs a dot: 1.0e-04',
        ),
        ({"min": 1, "max": 2, "q": 1}, "unknown key 'q' for int_uniform; valid are min, max, distribution"),
        (
            {"min": 0, "max": 1, "distribution": "log_uniform_values"},
            "min: low is 0.0; a log scale needs it above 0",
        ),
        (
            {"min": 0.5, "max": 1, "distribution": "int_uniform"},
            "min: 0.5 is a number; a whole number is needed",
        ),
        (
            {"min": 0, "max": 999, "distribution": "log_uniform"},
            "max: e to the power 999 is too large for a number; to give values, use log_uniform_values",
        ),
        ({"min": 3, "max": 3}, "min and max are both 3; for a single value, give value"),
        (
            {"min": 0, "max": 0.0, "q": 1, "distribution": "q_uniform"},
            "min and max are both 0; for a single value, give value",
        ),
        (
            {"values": [1, 2], "probabilities": [1.0]},
            "probabilities: given [1.0]; valid: a list with a number for each value",
        ),
        (
            {"values": [1, 2], "probabilities": ["a", "b"]},
            'probabilities: given ["a", "b"]; valid: a list with a number for each value',
        ),
        (
            {"values": [1, 2], "probabilities": [0.5, 0.6]},
            "probabilities: given [0.5, 0.6]; valid: numbers of 0 or more whose sum is 1",
        ),
        (
            {"values": [1, 2], "probabilities": [-0.5, 1.5]},
            "probabilities: given [-0.5, 1.5]; valid: numbers of 0 or more whose sum is 1",
        ),
        ({"min": 4, "max": 1, "distribution": "q_uniform"}, "min: min is 4, above max, which is 1"),
        ({"min": 1, "max": 4, "q": 0, "distribution": "q_uniform"}, "q: q is 0; it must be above 0"),
        ({"sigma": -1, "distribution": "normal"}, "sigma: sigma is -1; it must not be below 0"),
        ({"sigma": 1e308, "distribution": "q_normal"}, "sigma: mu = 0.0 and sigma = 1e+308 are too large"),
        ({"distribution": "constant"}, "value: missing; constant needs value"),
    ],
)
def test_a_wrong_entry_says_what_was_given_and_what_is_valid(entry: Any, text: str) -> None:
    with pytest.raises(SearchSpaceError) as caught:
        read_domain(entry)
    assert str(caught.value) == text


@pytest.mark.parametrize("name", ["log_unifrom", None, 3, ["uniform"]])
def test_an_unknown_distribution_is_refused_with_all_valid_ones(name: object) -> None:
    with pytest.raises(
        SearchSpaceError, match=r"is not a distribution; valid are constant, .*, q_uniform, .*, q_beta"
    ):
        read_domain({"distribution": name, "min": 1, "max": 2})
