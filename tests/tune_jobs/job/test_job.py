"""A job: read from a file or from Python, with all problems at once, and back again."""

import copy
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tune_jobs.errors import JobError
from tune_jobs.job.file import parse_yaml
from tune_jobs.job.job import Job, job_fields

Sections = dict[str, Any]
MakeSections = Callable[..., Sections]
WriteJob = Callable[..., Path]

EXAMPLE = Path(__file__).parents[3] / "examples" / "digits.yaml"


# From files and from Python


def test_the_smallest_job_has_all_defaults(make_sections: MakeSections) -> None:
    job = Job.from_mapping(
        {
            "name": "small",
            "data": {"source": "wine"},
            "model": {"name": "linear"},
            "training": {"loss": "cross_entropy"},
            "search": {"space": {"lr": {"low": 0.1, "high": 1.0}}},
        }
    )
    assert (job.seed, job.storage, job.trials) == (0, "runs", 48)
    assert job.folder == Path.cwd()
    split = job.kind.data.split
    assert (split.train, split.validation, split.test) == (0.6, 0.2, 0.2)
    assert (job.max_epochs, job.rungs) == (27, (2, 6, 18))
    assert (job.selection.metric, job.selection.mode) == ("val_loss", "min")


def test_a_job_file_is_read_with_1e_4_as_a_number_and_conditions() -> None:
    job = Job.from_file(EXAMPLE)
    assert job.name == "digits"
    assert job.folder == EXAMPLE.parent
    lr = job.search.space.parameters["lr"].domain
    assert lr.to_mapping() == {"low": 1e-4, "high": 1.0, "log": True}
    assert job.search.space.parameters["momentum"].when == {"optimizer": ("sgd",)}
    assert job.search.space.parameters["model.hidden"].domain.to_mapping() == {"values": [[32], [64], [128]]}


def test_overrides_replace_add_and_make_sections(write_job: WriteJob) -> None:
    job = Job.from_file(
        write_job(),
        [
            ("seed", 7),
            ("search.trials", 100),
            ("search.space.lr.high", 0.4),
            ("search.space.model.hidden.values", [[8], [8, 8]]),
            ("search.space.momentum.when", {"optimizer": ["sgd"]}),
            ("training.schedule.name", "cosine"),
            ("tracking.wandb.project", "demo"),
            ("scheduler.method", "none"),
            ("model.arguments.hidden", [2]),
        ],
    )
    assert (job.seed, job.search.trials, job.scheduler.method) == (7, 100, "none")
    space = job.search.space.to_mapping()
    assert space["lr"] == {"low": 1e-3, "high": 0.4, "log": True}
    assert space["model.hidden"] == {"values": [[8], [8, 8]]}
    assert job.kind.training.schedule.name == "cosine"
    assert job.tracking.wandb is not None
    assert job.tracking.wandb.project == "demo"
    assert job.kind.model.arguments == {"hidden": [2]}


def test_wrong_overrides_are_problems_like_those_of_the_file(write_job: WriteJob) -> None:
    path = write_job({"training/loss": "ms"})
    overrides = [("search.trails", 3), ("search.space.lr.heigh", 1), ("sed", 1), ("data.source.deep", 1)]
    with pytest.raises(JobError) as caught:
        Job.from_file(path, overrides)
    assert str(caught.value) == (
        "the command line: 1 problem\n"
        "  data.source.deep  source is 'linear_gaussian', not a section that can hold 'deep'"
    )
    with pytest.raises(JobError) as caught:
        Job.from_file(path, overrides[:-1])
    assert str(caught.value) == (
        f"{path}: 4 problems\n"
        "  sed              unknown key; did you mean 'seed'?\n"
        "  training.loss    given 'ms'; valid: mse, mae, huber, cross_entropy, binary_cross_entropy or "
        "`package.module:function`; did you mean 'mse'?\n"
        "  search.space.lr  unknown key 'heigh'; did you mean 'high'?\n"
        "  search.trails    unknown key; did you mean 'trials'?"
    )


def test_problems_within_between_and_around_sections_come_in_one_list(
    write_job: WriteJob, tmp_path: Path
) -> None:
    path = write_job(
        {
            "name": "a b",
            "data": {"source": "rows.parquet", "target": "y"},
            "model/name": "mine:net",
            "training/metrics": ["accuracy"],
            "selection/metric": "loss",
            "search/points": [{"lr": 7.0}],
            "search/space/momentm": 0.5,
            "scheduler": {"grace_epochs": 99},
            "resources/gpus": 1,
            "storage": "http://runs",
        }
    )
    with pytest.raises(JobError) as caught:
        Job.from_file(path)
    assert caught.value.exit_code == 2
    assert [problem.path for problem in caught.value.problems] == [
        "name",
        "resources.gpus",
        "training.metrics",
        "selection.metric",
        "search.space.momentm",
        "search.points.0.lr",
        "scheduler.grace_epochs",
        "storage",
        "data.source",
        "model.name",
    ]
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{path}: 10 problems"
    assert (
        lines[1]
        == "  name                    given 'a b'; valid: letters, digits, - _ and . with a letter or digit first"
    )
    assert lines[9] == f"  data.source             no such file: {tmp_path / 'rows.parquet'}"


def test_python_gets_the_same_problems_but_for_files(make_sections: MakeSections) -> None:
    sections = make_sections({"seed": -1, "scheduler": {"grace_epochs": 10}, "data/source": "rows.csv"})
    for make in (lambda: Job(**sections), lambda: Job.from_mapping(sections)):
        with pytest.raises(JobError) as caught:
            make()
        assert [problem.path for problem in caught.value.problems] == ["seed", "scheduler.grace_epochs"]
    assert Job(**make_sections()) == Job.from_mapping(make_sections())


@pytest.mark.parametrize("key", ["_folder", "self", "folder", "model_config", 3, None, ""])
def test_no_key_is_taken_for_anything_but_a_section(make_sections: MakeSections, key: Any) -> None:
    with pytest.raises(JobError, match="unknown key"):
        Job.from_mapping({**make_sections(), key: 1})


def test_a_job_is_frozen_and_leaves_its_input_alone(make_sections: MakeSections) -> None:
    sections = make_sections()
    before = copy.deepcopy(sections)
    job = Job.from_mapping(sections)
    with pytest.raises(ValidationError, match="frozen"):
        job.seed = 3  # type: ignore[misc]
    job.to_mapping()["search"]["space"]["lr"]["low"] = 5
    assert sections == before
    assert job == Job.from_mapping(before)


@pytest.mark.parametrize("method", ["gp", "tpe", "random", "grid"])
def test_trials_are_no_more_than_a_finite_space_holds(make_sections: MakeSections, method: str) -> None:
    space = {
        "lr": {"values": [0.1, 0.2]},
        "optimizer": {"values": ["sgd", "adam"]},
        "momentum": {"values": [0.0, 0.9], "when": {"optimizer": "sgd"}},
    }
    changes = {"search/space": space, "search/method": method, "search/trials": 9}
    job = Job.from_mapping(make_sections(changes))
    assert (job.trials, job.search.trials) == (6, 9)
    assert Job.from_mapping(make_sections({**changes, "search/trials": 3})).trials == 3


def test_an_infinite_space_gives_as_many_trials_as_requested(make_sections: MakeSections) -> None:
    endless = {"search/space": {"lr": {"low": 0.1, "high": 1.0}}, "search/trials": 10_000}
    assert Job.from_mapping(make_sections(endless)).trials == 10_000
    wide = {
        "search/space": {"weight_decay": {"low": 0.0, "high": 1.0, "step": 1e-9}},
        "search/trials": 10_000,
    }
    assert Job.from_mapping(make_sections(wide)).trials == 10_000


# Round trips


def there_and_back(job: Job) -> Iterator[Job]:
    yield Job.from_mapping(job.to_mapping(), job.folder)
    yield Job.from_mapping(parse_yaml(job.to_yaml()), job.folder)
    yield pickle.loads(pickle.dumps(job))


FULL: Mapping[str, Any] = {
    "data/target": ["y", "z"],
    "data/arguments": {"deep": {"list": [1, 2.5, None, True, "1e-4", "no", "größe", ""]}},
    "data/split": {"method": "group", "by": "patient id"},
    "model/arguments/hidden": [8, 4],
    "training/early_stopping": {"patience": 3, "threshold": -1e-9},
    "training/clip_grad_norm": 1,
    "search/points": [{"lr": 0.1}, {}],
    "search/space/model.hidden": {"values": [[32], [64, 64], []]},
    "search/space/model.dropout": {"low": 0.0, "high": 0.5, "step": 0.1, "when": {"model.hidden": [[32]]}},
    "search/space/nesterov": True,
    "scheduler": {"method": "none"},
    "resources": {"cpus_per_trial": 0.5, "max_concurrent": 3},
    "limits": {"minutes": 1e-3},
    "tracking/wandb": {"project": "null", "tags": ["2020-01-01", "a: b"]},
    "storage": "/some where/with spaces",
}


@pytest.mark.parametrize("changes", [{}, FULL], ids=["small", "full"])
def test_a_job_comes_back_from_its_mapping_its_text_and_its_pickle(
    make_sections: MakeSections, tmp_path: Path, changes: Mapping[str, Any]
) -> None:
    job = Job.from_mapping(make_sections(changes), tmp_path)
    for again in there_and_back(job):
        assert again == job
        assert again.folder == tmp_path
        assert again.to_yaml() == job.to_yaml()
        assert again.search.space.fingerprint() == job.search.space.fingerprint()


def test_the_example_comes_back() -> None:
    job = Job.from_file(EXAMPLE)
    for again in there_and_back(job):
        assert again == job


def test_the_text_of_a_job_names_every_key(make_sections: MakeSections) -> None:
    written = parse_yaml(Job.from_mapping(make_sections()).to_yaml())
    assert list(written) == list(job_fields({}))
    assert written["training"]["early_stopping"] == {"patience": None, "min_delta": 0.0, "threshold": None}
    assert written["resources"]["max_concurrent"] is None
    assert written["search"]["space"]["momentum"]["when"] == {"optimizer": ["sgd"]}


# Any mapping

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(
        ["mlp", "full", "a:b", "..:x", "sgd", "group", "grid", "rows.csv", "max", 10**30, 1e-320]
    )
)
KEYS = st.text(max_size=6) | st.sampled_from(
    ["low", "high", "values", "when", "log", "step", "split", "by", "lr"]
)
JSON = st.recursive(
    SCALARS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=3),
    max_leaves=6,
)


def paths(tree: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    below = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in below:
        yield (*above, key)
        yield from paths(value, (*above, key))


def mutated(sections: Sections, changes: list[tuple[tuple[Any, ...], str, Any]]) -> Sections:
    """Return `sections` with values set, added or removed at paths. Missing paths are skipped."""
    for (*above, key), how, value in changes:
        below: Any = sections
        try:
            for part in above:
                below = below[part]
            if how == "put":
                below[key] = value
            elif how == "add":
                below[f"{key}x"] = value
            else:
                del below[key]
        except (KeyError, IndexError, TypeError):
            continue
    return sections


EVERY_KEY = Job.from_mapping(
    {
        **Job.from_file(EXAMPLE).to_mapping(),
        "tracking": {"wandb": {"project": "demo", "tags": ["a"]}},
        "search": {**Job.from_file(EXAMPLE).to_mapping()["search"], "points": [{"lr": 0.1}]},
    }
).to_mapping()
CHANGES = st.lists(
    st.tuples(st.sampled_from(list(paths(EVERY_KEY))), st.sampled_from(["put", "put", "add", "cut"]), JSON),
    min_size=1,
    max_size=3,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CHANGES)
def test_a_damaged_job_is_refused_with_problems_or_comes_back_equal(
    changes: list[tuple[tuple[Any, ...], str, Any]],
) -> None:
    sections = mutated(copy.deepcopy(EVERY_KEY), changes)
    try:
        job = Job.from_mapping(sections)
    except JobError as error:
        assert error.problems  # noqa: PT017 (either outcome is right)
        return
    for again in there_and_back(job):
        assert again == job


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(list(job_fields({}))) | KEYS, JSON, max_size=5))
def test_any_mapping_is_a_job_or_a_list_of_problems(sections: Sections) -> None:
    try:
        Job.from_mapping(sections)
    except JobError as error:
        assert error.problems  # noqa: PT017 (either outcome is right)
