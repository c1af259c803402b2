"""The sections about the search: their defaults, their limits, and the messages about values beyond them."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from tune_jobs.job.job import Job
from tune_jobs.job.settings import (
    LimitSettings,
    ResourceSettings,
    SchedulerSettings,
    SearchSettings,
    TrackingSettings,
)
from tune_jobs.search_spaces import parse_space

Problems = Callable[[Mapping[str, Any]], list[str]]

SECTION = "valid: a section of `key: value` lines"


def test_the_defaults_are_those_of_the_job_file_contract() -> None:
    search = SearchSettings(space=parse_space({}))
    assert (search.method, search.trials, search.points) == ("gp", 48, ())
    assert SchedulerSettings().model_dump() == {"method": "asha", "grace_epochs": 2, "reduction_factor": 3}
    assert ResourceSettings().model_dump() == {
        "workers_per_trial": 1,
        "cpus_per_trial": 1,
        "gpus_per_trial": 0,
        "max_concurrent": None,
    }
    assert LimitSettings().model_dump() == {
        "minutes": None,
        "minutes_per_epoch": None,
        "retries_per_trial": 2,
    }
    assert TrackingSettings().model_dump() == {"wandb": None, "tensorboard": False, "trackers": ()}


@pytest.mark.parametrize(
    ("resources", "bundles"),
    [
        (ResourceSettings(), ({"CPU": 1.0},)),
        (ResourceSettings(cpus_per_trial=0.5, gpus_per_trial=2), ({"CPU": 0.5, "GPU": 2.0},)),
        (ResourceSettings(workers_per_trial=2, cpus_per_trial=3), ({}, {"CPU": 3.0}, {"CPU": 3.0})),
        (
            ResourceSettings(workers_per_trial=2, gpus_per_trial=1),
            ({}, {"CPU": 1.0, "GPU": 1.0}, {"CPU": 1.0, "GPU": 1.0}),
        ),
    ],
)
def test_each_worker_of_a_trial_takes_what_a_trial_of_one_worker_takes(
    resources: ResourceSettings, bundles: tuple[dict[str, float], ...]
) -> None:
    assert resources.bundles == bundles


BROKEN: list[tuple[Mapping[str, Any], str]] = [
    ({"search": ...}, "search: missing; this section is required"),
    ({"search/space": ...}, "search.space: missing; this key is required"),
    ({"search/space": [1]}, f"search.space: given [1]; {SECTION}"),
    ({"search/space": None}, f"search.space: given null; {SECTION}"),
    ({"search/method": "bayes"}, "search.method: given 'bayes'; valid: gp, tpe, random or grid"),
    ({"search/trials": 0}, "search.trials: given 0; valid: a number of at least 1"),
    ({"search/trials": "many"}, "search.trials: given 'many'; valid: a whole number"),
    ({"search/trails": 9}, "search.trails: unknown key; did you mean 'trials'?"),
    ({"search/points": {"lr": 1}}, "search.points: given {'lr': 1}; valid: a list"),
    ({"search/points": [{}, 3]}, f"search.points.1: given 3; {SECTION}"),
    # A parameter of the space, with the path of the space's own checks
    (
        {"search/space/lr": {"low": 1}},
        "search.space.lr.high: missing; a range needs both low and high, but only low is given",
    ),
    (
        {"search/space/lr": {"low": 1, "high": 0.1}},
        "search.space.lr.low: low is 1.0, above high, which is 0.1",
    ),
    (
        {"search/space/lr": {"low": 0, "high": 1, "log": True}},
        "search.space.lr.low: low is 0; a log scale needs it above 0",
    ),
    ({"search/space/lr": {"low": "a", "high": 1}}, "search.space.lr.low: a is text; a number is needed"),
    (
        {"search/space/lr": {}},
        "search.space.lr: there are no values; give low and high, or values: [...]",
    ),
    (
        {"search/space/lr": {"low": 1, "max": 3}},
        "search.space.lr: unknown key 'max'; did you mean 'high'?",
    ),
    (
        {"search/space/batch_size": {"values": []}},
        "search.space.batch_size.values: the list is empty; at least one value is needed",
    ),
    (
        {"search/space/batch_size": {"values": [8, 8]}},
        "search.space.batch_size.values: 8 is given twice; remove one",
    ),
    (
        {"search/space/momentum/when": {"optimizer": "rmsprop"}},
        "search.space.momentum.when.optimizer: optimizer is never rmsprop (text); valid is sgd, adam",
    ),
    (
        {"search/space/momentum/when": {"optimiser": "sgd"}},
        "search.space.momentum.when.optimiser: there is no parameter 'optimiser'; did you mean 'optimizer'?",
    ),
    (
        {"search/space/a b": {"values": [1]}},
        "search.space.a b: a name is made of letters, digits, _ and -, in parts joined by dots, such as "
        "model.hidden",
    ),
    ({"scheduler": None}, f"scheduler: given null; {SECTION}"),
    (
        {"scheduler/method": "ahsa"},
        "scheduler.method: given 'ahsa'; valid: asha, asha_stopping, median or none; did you mean 'asha'?",
    ),
    ({"scheduler/grace_epochs": 0}, "scheduler.grace_epochs: given 0; valid: a number of at least 1"),
    (
        {"scheduler/reduction_factor": 1},
        "scheduler.reduction_factor: given 1; valid: a number of at least 2",
    ),
    ({"scheduler/eta": 4}, "scheduler.eta: unknown key; did you mean 'scheduler.reduction_factor'?"),
    (
        {"selection/mode": "minimum"},
        "selection.mode: given 'minimum'; valid: min or max; did you mean 'min'?",
    ),
    (
        {"resources/cpus_per_trial": 0},
        "resources.cpus_per_trial: given 0; valid: a number of at least 0.0001",
    ),
    (
        {"resources/cpus_per_trial": 10**6},
        "resources.cpus_per_trial: given 1000000; valid: a number of at most 4096",
    ),
    ({"resources/cpus_per_trial": "2"}, "resources.cpus_per_trial: given '2'; valid: a number"),
    (
        {"resources/gpus_per_trial": 1.5},
        "resources.gpus_per_trial: given 1.5; valid: 0, a share of a GPU from 0.0001 to 1, or a whole number",
    ),
    (
        {"resources/gpus_per_trial": 1e-9},
        "resources.gpus_per_trial: given 1e-09; valid: 0, a share of a GPU from 0.0001 to 1, or a whole number",
    ),
    ({"resources/gpus_per_trial": -1}, "resources.gpus_per_trial: given -1; valid: a number of at least 0"),
    (
        {"resources": {"workers_per_trial": 2, "gpus_per_trial": 0.5}},
        "resources: gpus_per_trial is 0.5 for each of 2 workers; a worker of several trains on its own GPU: "
        "set gpus_per_trial to 1, or to 0 for CPUs",
    ),
    (
        {"resources/workers_per_trial": 0},
        "resources.workers_per_trial: given 0; valid: a number of at least 1",
    ),
    ({"resources/max_concurrent": 0}, "resources.max_concurrent: given 0; valid: a number of at least 1"),
    (
        {"resources/cpus": 2},
        "resources.cpus: unknown key; did you mean 'resources.cpus_per_trial'?",
    ),
    ({"limits/minutes": 0}, "limits.minutes: given 0; valid: a number above 0"),
    ({"limits/minutes": "1h"}, "limits.minutes: given '1h'; valid: a number"),
    ({"limits/minutes": float("inf")}, "limits.minutes: given inf; valid: a finite number"),
    ({"limits/retries_per_trial": -1}, "limits.retries_per_trial: given -1; valid: a number of at least 0"),
    (
        {"limits/minutes_per_epoc": 1},
        "limits.minutes_per_epoc: unknown key; did you mean 'minutes_per_epoch'?",
    ),
    ({"tracking/wandb": "demo"}, f"tracking.wandb: given 'demo'; {SECTION}"),
    ({"tracking/wandb": {}}, "tracking.wandb.project: missing; this key is required"),
    (
        {"tracking/wandb": {"project": "a", "mode": "onlin"}},
        "tracking.wandb.mode: given 'onlin'; valid: offline or online; did you mean 'online'?",
    ),
    (
        {"tracking/wandb": {"project": "a", "entiti": "b"}},
        "tracking.wandb.entiti: unknown key; did you mean 'entity'?",
    ),
    ({"tracking/wandb": {"project": "a", "tags": "x"}}, "tracking.wandb.tags: given 'x'; valid: a list"),
    ({"tracking/wandb": {"project": "a", "tags": ["x", 1]}}, "tracking.wandb.tags.1: given 1; valid: text"),
    (
        {"tracking/wandb": {"project": "a/b"}},
        "tracking.wandb.project: given 'a/b'; valid: 1 to 128 characters, none of them / \\ # ? % :",
    ),
    (
        {"tracking/wandb": {"project": "a", "tags": ["b", ""]}},
        "tracking.wandb.tags.1: given ''; valid: 1 to 64 characters",
    ),
    ({"tracking/trackers": "a:b"}, "tracking.trackers: given 'a:b'; valid: a list"),
    (
        {"tracking/trackers": ["my_code"]},
        "tracking.trackers.0: given 'my_code'; valid: `package.module:function`",
    ),
    ({"tracking/tensorboard": 1}, "tracking.tensorboard: given 1; valid: true or false"),
    ({"tracking/mlflow": True}, "tracking.mlflow: unknown key; valid: tensorboard, trackers, wandb"),
]


@pytest.mark.parametrize(("changes", "problem"), BROKEN, ids=[text.partition(";")[0] for _, text in BROKEN])
def test_a_wrong_value_gets_its_path_what_was_given_and_what_is_valid(
    problems: Problems, changes: Mapping[str, Any], problem: str
) -> None:
    assert problems(changes) == [problem]


def test_all_problems_of_a_space_are_listed(problems: Problems) -> None:
    assert problems(
        {
            "search/space/lr": {"min": 1, "max": 3},
            "search/space/batch_size": {"values": 8},
            "search/space/momentum/when": {"optimizer": ["sgd", "lion"]},
        }
    ) == [
        "search.space.lr: unknown key 'min'; did you mean 'low'?",
        "search.space.lr: unknown key 'max'; did you mean 'high'?",
        "search.space.batch_size.values: 8 is a whole number; a list is needed, such as [16, 32, 64]",
        "search.space.momentum.when.optimizer: optimizer is never lion (text); valid is sgd, adam",
    ]


def test_a_null_section_of_tracking_is_made_by_its_keys(make_sections: Callable[..., dict[str, Any]]) -> None:
    job = Job.from_mapping(
        make_sections({"tracking": {"wandb": {"project": "demo", "tags": ["a", "b"]}, "tensorboard": True}})
    )
    assert job.tracking.wandb is not None
    assert (job.tracking.wandb.project, job.tracking.wandb.mode) == ("demo", "offline")
    assert job.tracking.wandb.tags == ("a", "b")


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        SchedulerSettings().method = "none"  # type: ignore[misc]
