"""Rules between the sections of a job, and files and modules that a job names but that are missing."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tune_jobs.errors import JobError
from tune_jobs.job.job import Job
from tune_jobs.job.user_code import module_path
from tune_jobs.trainers.data import SUFFIXES

Problems = Callable[[Mapping[str, Any]], list[str]]
WriteJob = Callable[..., Path]

PLAIN = "valid: text, finite numbers, true, false, null, lists and sections"
NAMES = (
    "optimizer, lr, batch_size, weight_decay, momentum, nesterov, beta1, beta2, alpha, eps, max_iter, "
    "history_size, model.hidden, model.activation, model.dropout, model.batch_norm, training.batching, "
    "training.clip_grad_norm, training.schedule.name, training.schedule.every, training.schedule.step_size, "
    "training.schedule.gamma, "
    "training.schedule.patience, training.schedule.min_lr, training.schedule.warmup, "
    "training.early_stopping.patience, training.early_stopping.min_delta, training.early_stopping.threshold"
)

BROKEN: list[tuple[Mapping[str, Any], list[str]]] = [
    # Model and training
    (
        {"model/arguments": {"hiden": [3]}},
        ["model.arguments: model mlp has no argument 'hiden'; did you mean 'hidden'?"],
    ),
    (
        {"model": {"name": "linear", "arguments": {"depth": 3}}},
        ["model.arguments: model linear has no argument 'depth'; it takes bias"],
    ),
    (
        {"training/metrics": ["accuracy"]},
        [
            "training.metrics: metric accuracy does not fit loss mse; mse goes with mse, mae, rmse, r2, param_error"
        ],
    ),
    ({"training/metrics": ["mae", "mae"]}, ["training.metrics: metric mae is listed twice; name it once"]),
    # Selection
    (
        {"selection/metric": "val_los"},
        ["selection.metric: given 'val_los'; valid: val_loss, mae; did you mean 'val_loss'?"],
    ),
    (
        {"selection/metric": "accuracy"},
        [
            "selection.metric: given 'accuracy'; valid: val_loss, mae; "
            "other metrics must be listed in training.metrics"
        ],
    ),
    (
        {"selection/mode": "max"},
        ["selection.mode: max of val_loss would select the worst trial; set it to min"],
    ),
    (
        {"training/metrics": ["r2"], "selection/metric": "r2"},
        ["selection.mode: min of r2 would select the worst trial; set it to max"],
    ),
    # Names and values of the search space, for the trainer
    ({"search/space/learnin_rate": 1}, [f"search.space.learnin_rate: unknown parameter; valid: {NAMES}"]),
    (
        {"search/space/batchsize": 1},
        ["search.space.batchsize: unknown parameter; did you mean 'batch_size'?"],
    ),
    ({"search/space/seed": 1}, [f"search.space.seed: unknown parameter; valid: {NAMES}"]),
    ({"search/space/score.metric": "mae"}, [f"search.space.score.metric: unknown parameter; valid: {NAMES}"]),
    (
        {"search/space/model.hiden": {"values": [[8]]}},
        ["search.space.model.hiden: unknown parameter; did you mean 'model.hidden'?"],
    ),
    (
        {"search/space/training.schedul.name": "cosine"},
        ["search.space.training.schedul.name: unknown parameter; did you mean 'training.schedule.name'?"],
    ),
    (
        {"search/space/training.max_epochs": {"values": [1, 2]}},
        [
            "search.space.training.max_epochs: cannot be searched: trials with different max_epochs "
            "cannot be compared"
        ],
    ),
    (
        {"search/space/training.loss": "mae"},
        ["search.space.training.loss: cannot be searched: trials with different loss cannot be compared"],
    ),
    ({"search/space/lr": {"low": 0, "high": 1}}, ["search.space.lr: given 0; valid: a number above 0"]),
    (
        {"search/space/momentum": {"low": 0, "high": 1}},
        ["search.space.momentum: given 1; valid: a number below 1"],
    ),
    (
        {"search/space/batch_size": {"values": [0, "ful"]}},
        [
            "search.space.batch_size: given 0; valid: a number of at least 1 or full",
            "search.space.batch_size: given 'ful'; valid: a whole number or full; did you mean 'full'?",
        ],
    ),
    (
        {"search/space/optimizer": {"values": ["sgd", "adm"]}},
        [
            "search.space.optimizer: given 'adm'; valid: sgd, adam, adamw, rmsprop, adagrad, lbfgs or "
            "`package.module:function`; did you mean 'adam'?"
        ],
    ),
    (
        {"search/space/training.schedule.name": {"values": ["constant", "cosin"]}},
        [
            "search.space.training.schedule.name: given 'cosin'; valid: constant, step, exponential, cosine, "
            "one_cycle, plateau or `package.module:function`; did you mean 'cosine'?"
        ],
    ),
    # Points
    (
        {"search/points": [{"lr": 5.0}]},
        ["search.points.0.lr: 5.0 (a number) is not valid; valid is 0.001 to 0.5, log scale"],
    ),
    (
        {"search/points": [{"lr": 0.1}, {"optimizer": "adam", "momentum": 0.5}]},
        [
            "search.points.1.momentum: given, but it applies only when optimizer is sgd (it is adam); "
            "leave it out"
        ],
    ),
    (
        {"search/points": [{"learning_rate": 0.1}]},
        [
            "search.points.0.learning_rate: there is no such parameter; "
            "valid are lr, batch_size, optimizer, momentum"
        ],
    ),
    # Method, scheduler and storage
    (
        {"search/method": "grid"},
        [
            "search.space.lr: has infinitely many values; method grid needs `values: [...]` or a `step`",
            "search.space.momentum: has infinitely many values; method grid needs `values: [...]` or a `step`",
        ],
    ),
    (
        {"training/device": "cuda:1", "resources/workers_per_trial": 2},
        [
            "training.device: given 'cuda:1'; valid with several workers a trial (`resources.workers_per_trial`): "
            "auto, cpu or cuda, since each trains on the CPU or on its own GPU"
        ],
    ),
    (
        {"scheduler/grace_epochs": 10},
        ["scheduler.grace_epochs: given 10; valid: at most training.max_epochs, which is 9"],
    ),
    (
        {"storage": "ftp://bucket/runs"},
        ["storage: given 'ftp://bucket/runs'; valid: a folder, or s3://bucket/prefix, or gs://bucket/prefix"],
    ),
    (
        {"storage": "s3://Bucket"},
        [
            "storage: given 's3://Bucket', whose bucket is 'Bucket'; valid: 3 to 63 lower-case letters, digits, - and "
            "., as in s3://bucket/prefix"
        ],
    ),
    (
        {"storage": ""},
        ["storage: given ''; valid: the path of a folder, such as runs, or s3://bucket/prefix"],
    ),
    (
        {"storage": "a\0b"},
        ["storage: given 'a\\x00b'; valid: the path of a folder, such as runs, or s3://bucket/prefix"],
    ),
    # Values that the run's copy of the job cannot hold
    ({"data/arguments/n": float("nan")}, [f"data.arguments.n: given nan; {PLAIN}"]),
    ({"data/arguments/n": np.float64(3)}, [f"data.arguments.n: given np.float64(3.0); {PLAIN}"]),
    ({"data/arguments/n": [1, {"a": b"x"}]}, [f"data.arguments.n.1.a: given b'x'; {PLAIN}"]),
    (
        {"data/arguments/n": {3: 4}},
        ["data.arguments.n: given the key 3; valid: keys that are text"],
    ),
    (
        {"model": {"name": "my_code:net", "arguments": {"act": max}}},
        [f"model.arguments.act: given <built-in function max>; {PLAIN}"],
    ),
    ({"search/points": [{"lr": float("inf")}]}, [f"search.points.0.lr: given inf; {PLAIN}"]),
]


@pytest.mark.parametrize(
    ("changes", "expected"), BROKEN, ids=[texts[0].partition(";")[0] for _, texts in BROKEN]
)
def test_sections_that_do_not_go_together_are_refused(
    problems: Problems, changes: Mapping[str, Any], expected: list[str]
) -> None:
    assert problems(changes) == expected


@pytest.mark.parametrize(
    ("arguments", "telling"),
    [
        ({"hidden": [0]}, "model mlp: argument hidden.0 is 0: "),
        ({"hidden": 64}, "model mlp: argument hidden is 64: "),
        ({"dropout": 1.0}, "model mlp: argument dropout is 1.0: "),
        ({"activation": "rel"}, "model mlp: argument activation is 'rel': "),
    ],
)
def test_values_of_model_arguments_are_checked_in_the_model_and_in_the_space(
    problems: Problems, arguments: dict[str, Any], telling: str
) -> None:
    (found,) = problems({"model/arguments": arguments})
    assert found.startswith(f"model.arguments: {telling}")
    ((name, value),) = arguments.items()
    (found,) = problems({f"search/space/model.{name}": {"values": [value]}})
    assert found.startswith(f"search.space.model.{name}: {telling}")


def test_a_bad_section_does_not_hide_what_is_wrong_between_the_others(problems: Problems) -> None:
    assert problems({"data/source": 3, "selection/mode": "max", "scheduler/grace_epochs": 10}) == [
        "data.source: given 3; valid: text",
        "selection.mode: max of val_loss would select the worst trial; set it to min",
        "scheduler.grace_epochs: given 10; valid: at most training.max_epochs, which is 9",
    ]


def test_a_function_model_may_have_any_argument(make_sections: Callable[..., dict[str, Any]]) -> None:
    Job.from_mapping(
        make_sections(
            {"model": {"name": "my_code:net"}, "search/space/model.deep.er": {"values": [{"a": [1]}]}}
        )
    )


def test_grid_takes_steps_values_and_ranges_too_wide_to_list(
    problems: Problems, make_sections: Callable[..., dict[str, Any]]
) -> None:
    grid = {
        "search/method": "grid",
        "search/space/lr": {"low": 0.1, "high": 0.5, "step": 0.1},
        "search/space/momentum": {"values": [0.0, 0.9], "when": {"optimizer": "sgd"}},
    }
    assert Job.from_mapping(make_sections(grid)).search.space.grid_size() == 2 * 5 * (2 + 1)
    wide = {
        **grid,
        "search/space/batch_size": {"low": 1, "high": 10**15},
        "search/space/eps": {"low": 1, "high": 2.5},
    }
    assert problems(wide) == [
        "search.space.eps: has infinitely many values; method grid needs `values: [...]` or a `step`"
    ]


def test_no_grace_is_asked_of_a_run_without_a_scheduler(make_sections: Callable[..., dict[str, Any]]) -> None:
    Job.from_mapping(make_sections({"scheduler": {"method": "none", "grace_epochs": 10}}))


# Files and functions


def surroundings(path: Path) -> list[str]:
    with pytest.raises(JobError) as caught:
        Job.from_file(path)
    assert caught.value.name == str(path)
    return list(map(str, caught.value.problems))


def test_files_and_modules_that_a_job_names_must_exist(write_job: WriteJob, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def net(): ...\n\ndef loss(): ...\n")
    path = write_job(
        {
            "data/source": "rows.csv",
            "model": {"name": "mine:nett"},
            "training/loss": "mein:loss",
            "training/metrics": ["mine:loss", "mine:accuracy_of"],
        }
    )
    assert surroundings(path) == [
        f"data.source: no such file: {tmp_path / 'rows.csv'}",
        "data.target: missing; a table needs the name of its target column",
        "model.name: mine:nett: module 'mine' has no 'nett'; did you mean 'net'?",
        "training.loss: mein:loss: there is no module 'mein' in the job's folder or among the installed packages"
        "; did you mean 'mine'?",
        "training.metrics: mine:accuracy_of: module 'mine' has no 'accuracy_of'",
    ]


def test_a_file_name_that_is_too_long_is_a_missing_file(write_job: WriteJob, tmp_path: Path) -> None:
    name = "x" * 5000 + ".csv"
    path = write_job({"data/source": name, "data/target": "y", "data/arguments": {}})
    assert surroundings(path) == [f"data.source: no such file: {tmp_path / name}"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("linear_gausian", "; did you mean 'linear_gaussian'?"),
        ("rows.xlsx", ""),
    ],
)
def test_an_unknown_source_is_answered_with_the_three_kinds_of_sources(
    write_job: WriteJob, source: str, said: str
) -> None:
    (found,) = surroundings(write_job({"data/source": source}))
    assert found == (
        f"data.source: given {source!r}; valid: digits, breast_cancer, wine, diabetes, linear_gaussian; a file "
        f"({', '.join(SUFFIXES)}); or `package.module:function`{said}"
    )


def test_files_and_modules_are_looked_for_in_the_folder_of_the_job(
    write_job: WriteJob, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("x,y\n1,2\n")
    (tmp_path / "mine.py").write_text(
        "raise RuntimeError('the module is read, not imported')\ndef net(): ...\n"
    )
    job = Job.from_file(
        write_job({"data": {"source": "rows.csv", "target": "y"}, "model": {"name": "mine:net"}})
    )
    assert job.folder == tmp_path
    assert module_path(job.folder) == (str(tmp_path), str(Path.cwd()))


def test_modules_that_the_values_of_a_search_name_are_looked_for(write_job: WriteJob, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def layerwise(model): ...\ndef warm_up(optimizer): ...\n")
    space = {"lr": 0.1, "optimizer": {"values": ["sgd", "mine:layerwise", "mine:layers"]}}
    given = {"search/space": space, "training/schedule": {"name": "mine:warm_down"}}
    assert surroundings(write_job(given)) == [
        "training.schedule.name: mine:warm_down: module 'mine' has no 'warm_down'; did you mean 'warm_up'?",
        "search.space.optimizer: mine:layers: module 'mine' has no 'layers'; did you mean 'layerwise'?",
    ]
    space["optimizer"]["values"].pop()
    job = Job.from_file(write_job({"search/space": space}))
    assert job.facts.references == [("search.space.optimizer", "mine:layerwise")]
    assert job.facts.starts_user_code


def test_parameters_that_do_nothing_are_noticed(make_sections: Callable[..., dict[str, Any]]) -> None:
    space = {
        "search/space/optimizer": {"values": ["sgd", "adam"]},
        "search/space/momentum": {"low": 0.0, "high": 0.9},
        "scheduler": {"method": "none"},
    }
    assert Job.from_mapping(make_sections(space)).notices() == [
        "search.space.momentum does nothing for adam; add `when: {optimizer: [sgd]}`"
    ]
