from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_jobs.search_spaces import SearchSpaceError, import_sweep, parse_space
from tune_jobs.search_spaces.wandb_stopping import Stopping

SWEEP: dict[str, Any] = {
    "program": "train.py",
    "method": "bayes",
    "name": "mnist",
    "run_cap": 40,
    "metric": {"name": "val/acc", "goal": "maximize", "target": 0.99},
    "early_terminate": {"type": "hyperband", "min_iter": 3},
    "command": ["${env}", "python", "${program}"],
    "parameters": {
        "lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 0.1},
        "batch_size": {"distribution": "q_uniform", "min": 16, "max": 64, "q": 16},
        "epochs": {"value": 5},
        "model": {
            "parameters": {
                "hidden": {"values": [[32], [64]]},
                "act": {"parameters": {"name": {"value": "relu"}}},
            }
        },
    },
}


def problems(sweep: Any) -> list[str]:
    with pytest.raises(SearchSpaceError) as caught:
        import_sweep(sweep)
    return str(caught.value).splitlines()


def test_a_sweep_becomes_a_search_with_notices_of_every_lost_part() -> None:
    imported = import_sweep(SWEEP)
    assert imported.space == parse_space(
        {
            "lr": {"low": 1e-4, "high": 0.1, "log": True},
            "batch_size": {"low": 16, "high": 64, "step": 16},
            "epochs": 5,
            "model.hidden": {"values": [[32], [64]]},
            "model.act.name": "relu",
        }
    )
    assert (imported.method, imported.metric, imported.mode) == ("gp", "val/acc", "max")
    assert (imported.trials, imported.name) == (40, "mnist")
    assert imported.stopping == Stopping(first=3, factor=3)
    assert imported.notices == (
        "program was left out: a job names its data, model and training instead",
        "command was left out: a job starts its trials by itself",
        "method: bayes became gp, a Gaussian process too; it compares trials at one epoch",
        "metric.target was left out: it has no equal here",
        "early_terminate: W&B compares runs after 3, 9, 27, … calls of wandb.log; here trials are compared after "
        "3, 9, 27, … epochs, up to training.max_epochs",
        "parameters.batch_size: q_uniform became the multiples of q nearest to min and max, and between, equally "
        "likely: 16 to 64 in steps of 16, whole numbers",
    )


def test_a_small_sweep_needs_no_metric_and_gives_no_notices() -> None:
    imported = import_sweep({"method": "grid", "parameters": {"a": {"values": [1, 2]}}})
    assert (imported.method, imported.metric, imported.mode) == ("grid", None, "min")
    assert (imported.trials, imported.name, imported.notices) == (2, None, ())
    assert imported.stopping is None


def test_the_import_leaves_its_input_as_it_was() -> None:
    before = repr(SWEEP)
    import_sweep(SWEEP).space.to_mapping()["model.hidden"]["values"][0].append(1)
    assert repr(SWEEP) == before


def test_all_problems_of_a_sweep_come_at_once() -> None:
    sweep = {
        "method": "bayesian",
        "runcap": 3,
        "run_cap": 0,
        "name": 3,
        "metric": {"nam": "loss", "goal": "min"},
        "parameters": {
            "lr": {"min": 1},
            "model": {"parameters": {"hidden": 3, "b.c": {"value": 1}}, "value": 3},
            "model.b": {"parameters": {"c": {"value": 1}}},
            "empty": {"parameters": {}},
            "not a name": {"value": 1},
        },
    }
    assert problems(sweep) == [
        "unknown key 'runcap'; did you mean 'run_cap'?",
        "method: bayesian is not a method; valid are bayes, random, grid",
        "metric: unknown key 'nam'; did you mean 'name'?",
        "metric.name: null is an empty value; the name of a metric is needed",
        "metric.goal: min is not a goal; valid are minimize, maximize",
        "run_cap: 0 (a whole number) is not a whole number above 0",
        "name: 3 is a whole number; text is needed",
        "parameters.lr.max: missing; uniform needs min, max",
        "parameters.model: nested parameters stand alone in an entry; remove value",
        "parameters.model.parameters.hidden: 3 is a whole number; a mapping is needed, such as {value: 3}",
        "parameters.model.b.parameters.c: two parameters have the name 'model.b.c'; rename one",
        "parameters.empty.parameters: {} is a mapping; a mapping with at least one parameter is needed",
        "parameters.not a name: a name is made of letters, digits, _ and -, in parts joined by dots, "
        "such as model.hidden",
    ]


@pytest.mark.parametrize(
    ("sweep", "text"),
    [
        ([], "[] is a list; a mapping of keys is needed"),
        ({"parameters": {"a": {"value": 1}}}, "method: missing; valid are bayes, random, grid"),
        (
            {"method": "grid"},
            "parameters: null is an empty value; a mapping with at least one parameter is needed",
        ),
        (
            {"method": "grid", "metric": "loss", "parameters": {"a": {"value": 1}}},
            "metric: loss is text; a mapping is needed, such as {name: val_loss, goal: minimize}",
        ),
    ],
)
def test_an_incomplete_sweep_is_refused(sweep: Any, text: str) -> None:
    assert problems(sweep) == [text]


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["normal", "q_uniform", "q_normal"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["min", "max", "q", "mu", "sigma", "distribution", "value", "values", "parameters"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@settings(max_examples=300, deadline=None)
@given(JUNK)
def test_any_entry_is_either_imported_or_refused_with_problems(entry: Any) -> None:
    try:
        imported = import_sweep({"method": "random", "parameters": {"x": entry}})
    except SearchSpaceError as error:
        refused = [problem.message for problem in error.problems]
    else:
        refused = None
        assert parse_space(imported.space.to_mapping()) == imported.space
    assert refused is None or (refused and all(refused))
