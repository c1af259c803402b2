"""A W&B sweep file as a job file: its content is kept, and the user fills in the rest."""

from typing import Any

import pytest

from tune_jobs.errors import JobError
from tune_jobs.job.file import parse_yaml
from tune_jobs.job.from_sweep import job_from_sweep
from tune_jobs.job.job import Job
from tune_jobs.search_spaces import SearchSpaceError

SWEEP: dict[str, Any] = {
    "program": "train.py",
    "name": "my sweep: no 1",
    "method": "bayes",
    "run_cap": 40,
    "metric": {"name": "val/acc", "goal": "maximize"},
    "parameters": {
        "learning_rate": {"distribution": "log_uniform_values", "min": 1e-4, "max": 0.1},
        "batch_size": {"values": [16, 32]},
        "opt": {"values": ["sgd", "adam"]},
    },
}


def test_a_sweep_becomes_a_job_with_our_names_and_notices() -> None:
    text = job_from_sweep(SWEEP)
    assert text == (
        "# program was left out: a job names its data, model and training instead\n"
        "# method: bayes became gp, a Gaussian process too; it compares trials at one epoch\n"
        "# learning_rate is called lr here\n"
        "# opt is called optimizer here\n"
        "name: my-sweep--no-1\n"
        "# Fill in these sections, which a sweep file does not have:\n"
        "data: {source: FILE_OR_NAME, target: COLUMN}\n"
        "model: {name: mlp}\n"
        "training: {max_epochs: 27, loss: cross_entropy, metrics: []}\n"
        "search:\n"
        "  space:\n"
        "    lr: {low: 0.0001, high: 0.1, log: true}\n"
        "    batch_size:\n"
        "      values: [16, 32]\n"
        "    optimizer:\n"
        "      values: [sgd, adam]\n"
        "  method: gp\n"
        "  trials: 40\n"
        "scheduler: {method: none}\n"
        "selection: {metric: val/acc, mode: max}\n"
    )


def test_a_grid_without_a_limit_tries_all_of_it() -> None:
    grid = {"method": "grid", "parameters": {"a": {"values": list(range(8))}, "b": {"min": 1, "max": 8}}}
    assert parse_yaml(job_from_sweep(grid))["search"]["trials"] == 64
    assert parse_yaml(job_from_sweep({**grid, "run_cap": 5}))["search"]["trials"] == 5


@pytest.mark.parametrize(
    ("early_terminate", "scheduler", "rungs"),
    [
        (None, {"method": "none"}, []),
        ({"type": "hyperband", "min_iter": 3}, {"grace_epochs": 3, "reduction_factor": 3}, [3, 9]),
        (
            {"type": "hyperband", "min_iter": 5, "eta": 2},
            {"grace_epochs": 5, "reduction_factor": 2},
            [5, 10, 20],
        ),
        ({"type": "hyperband", "max_iter": 18, "s": 2}, {"grace_epochs": 2, "reduction_factor": 3}, [2, 6]),
    ],
)
def test_the_early_stopping_of_a_sweep_becomes_stopping_rungs(
    early_terminate: dict[str, Any] | None, scheduler: dict[str, Any], rungs: list[int]
) -> None:
    stops = {"early_terminate": early_terminate} if early_terminate else {}
    sections = parse_yaml(
        job_from_sweep({"method": "random", "parameters": {"lr": {"min": 0.1, "max": 1.0}}, **stops})
    )
    given = dict(sections["scheduler"])
    assert given.pop("method") == ("asha_stopping" if stops else "none")
    assert given == {key: value for key, value in scheduler.items() if key != "method"}
    longest = (early_terminate or {}).get("max_iter", 27)
    training = {**sections["training"], "max_epochs": longest}
    job = Job.from_mapping({**sections, "data": {"source": "digits"}, "training": training})
    assert list(job.rungs) == rungs


def test_the_goal_of_a_sweep_is_that_of_the_job() -> None:
    sweep = {**SWEEP, "metric": {"name": "accuracy", "goal": "maximize"}}
    sections = parse_yaml(job_from_sweep(sweep))
    training = {**sections["training"], "metrics": ["accuracy"]}
    job = Job.from_mapping({**sections, "data": {"source": "digits"}, "training": training})
    assert (job.selection.metric, job.selection.mode) == ("accuracy", "max")


def test_filled_in_it_is_a_valid_job() -> None:
    sections = parse_yaml(job_from_sweep(SWEEP))
    with pytest.raises(JobError, match=r"selection\.metric +given 'val/acc'"):
        Job.from_mapping({**sections, "data": {"source": "digits"}})
    job = Job.from_mapping({**sections, "data": {"source": "digits"}, "selection": {"metric": "val_loss"}})
    assert (job.name, job.search.method, job.search.trials) == ("my-sweep--no-1", "gp", 40)
    assert list(job.search.space.parameters) == ["lr", "batch_size", "optimizer"]


def test_a_sweep_without_a_limit_leaves_the_number_of_trials_to_the_default() -> None:
    text = job_from_sweep({"method": "random", "parameters": {"lr": {"min": 0.1, "max": 1.0}}})
    assert "trials" not in parse_yaml(text)["search"]
    assert "#" not in text.replace("# Fill in", "")


@pytest.mark.parametrize("taken", ["lr", "learning_rate"])
def test_two_parameters_never_become_one(taken: str) -> None:
    parameters = {"learning_rate": {"value": 0.1}, "lr": {"value": 0.2}}
    ordered = {taken: parameters[taken], **parameters}
    space = parse_yaml(job_from_sweep({"method": "grid", "parameters": ordered}))["search"]["space"]
    assert space == {"learning_rate": {"values": [0.1]}, "lr": {"values": [0.2]}}
    both = {"batch": {"value": 8}, "bs": {"value": 16}}
    space = parse_yaml(job_from_sweep({"method": "grid", "parameters": both}))["search"]["space"]
    assert space == {"batch_size": {"values": [8]}, "bs": {"values": [16]}}


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("digits", "digits"),
        ("größe & more", "gr--e---more"),
        ("--x", "x"),
        ("...", "sweep"),
        ("", "sweep"),
        (None, "sweep"),
        ("x" * 200, "x" * 80),
    ],
)
def test_the_name_of_a_sweep_becomes_a_valid_name(name: str | None, ours: str) -> None:
    sweep = {"method": "random", "parameters": {"lr": {"value": 0.1}}}
    sections = parse_yaml(job_from_sweep(sweep if name is None else {**sweep, "name": name}))
    assert sections["name"] == ours
    assert Job.from_mapping({**sections, "data": {"source": "digits"}}).name == ours


def test_parts_without_an_equivalent_are_refused() -> None:
    with pytest.raises(SearchSpaceError, match="method: bayesian is not a method"):
        job_from_sweep({"method": "bayesian", "parameters": {"lr": {"value": 0.1}}})
