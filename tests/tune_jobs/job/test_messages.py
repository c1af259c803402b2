"""Messages about wrong values of a job, in the words of a job file: one for each place."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from tune_jobs import Job
from tune_jobs.errors import JobError
from tune_jobs.job.file import dump_yaml
from tune_jobs.job.sections import check_sections
from tune_jobs.trainers.messages import unknown_key
from tune_jobs.trainers.settings import Settings

Problems = Callable[[Mapping[str, Any]], list[str]]

SECTION = "valid: a section of `key: value` lines"
FUNCTION = "`package.module:function`"
SECTIONS = (
    "data, limits, model, name, resources, scheduler, search, seed, selection, storage, tracking, training"
)

BROKEN: list[tuple[Mapping[str, Any], str]] = [
    # The top of the file
    ({"name": ...}, "name: missing; this section is required"),
    ({"name": ""}, "name: given ''; valid: letters, digits, - _ and . with a letter or digit first"),
    ({"name": "a b"}, "name: given 'a b'; valid: letters, digits, - _ and . with a letter or digit first"),
    (
        {"name": "../up"},
        "name: given '../up'; valid: letters, digits, - _ and . with a letter or digit first",
    ),
    ({"name": "x" * 81}, f"name: given '{'x' * 56}...; valid: text of at most 80 characters"),
    ({"name": 3}, "name: given 3; valid: text"),
    ({"serach": {}}, "serach: unknown key; did you mean 'search'?"),
    ({"nothing like it": 1}, f"nothing like it: unknown key; valid: {SECTIONS}"),
    ({"seed": -1}, "seed: given -1; valid: a number of at least 0"),
    ({"seed": 2**32}, "seed: given 4294967296; valid: a number of at most 4294967295"),
    ({"seed": 1.5}, "seed: given 1.5; valid: a whole number"),
    ({"seed": "0"}, "seed: given '0'; valid: a whole number"),
    ({"seed": None}, "seed: given null; valid: a whole number"),
    ({"seed": True}, "seed: given true; valid: a whole number"),
    ({"data": ...}, "data: missing; this section is required"),
    ({"data": None}, f"data: given null; {SECTION}"),
    ({"data": [1]}, f"data: given [1]; {SECTION}"),
    ({"scheduler": "asha"}, f"scheduler: given 'asha'; {SECTION}"),
    ({"storage": 3}, "storage: given 3; valid: text"),
    # Data
    ({"data/source": ...}, "data.source: missing; this key is required"),
    ({"data/source": 3}, "data.source: given 3; valid: text"),
    ({"data/sorce": "x"}, "data.sorce: unknown key; did you mean 'source'?"),
    ({"data/arguments": [1]}, f"data.arguments: given [1]; {SECTION}"),
    ({"data/target": 3}, "data.target: given 3; valid: text or a list"),
    ({"data/target": ["a", 3]}, "data.target.1: given 3; valid: text"),
    ({"data/split/train": 0}, "data.split.train: given 0; valid: a number above 0"),
    (
        {"data/split/train": 0.5},
        "data.split: train + validation + test is 0.9; the three shares must add up to 1",
    ),
    (
        {"data/split/method": "stratify"},
        "data.split.method: given 'stratify'; valid: random, stratified, group, time or column; "
        "did you mean 'stratified'?",
    ),
    ({"data/split/method": "group"}, "data.split: method 'group' needs a column: add `by: COLUMN`"),
    (
        {"data/split/by": "x"},
        "data.split: method 'random' uses no column: remove `by`, or choose group, time or column",
    ),
    ({"data/split": {"trian": 0.6}}, "data.split.trian: unknown key; did you mean 'train'?"),
    ({"data/standardize": "yes"}, "data.standardize: given 'yes'; valid: true or false"),
    ({"data/missing": "drop"}, "data.missing: given 'drop'; valid: error or mean"),
    # Model and training
    ({"model": "mlp"}, f"model: given 'mlp'; {SECTION}"),
    (
        {"model/name": "mpl"},
        f"model.name: given 'mpl'; valid: linear, mlp, cnn or {FUNCTION}; did you mean 'mlp'?",
    ),
    ({"model/name": "my.net"}, f"model.name: given 'my.net'; valid: linear, mlp, cnn or {FUNCTION}"),
    ({"training/loss": ...}, "training.loss: missing; this key is required"),
    (
        {"training/loss": "crossentropy"},
        "training.loss: given 'crossentropy'; valid: mse, mae, huber, cross_entropy, binary_cross_entropy "
        f"or {FUNCTION}; did you mean 'cross_entropy'?",
    ),
    ({"training/metrics": "mae"}, "training.metrics: given 'mae'; valid: a list"),
    (
        {"training/metrics": ["mae", "acuracy"]},
        "training.metrics.1: given 'acuracy'; valid: accuracy, f1, mse, mae, rmse, r2, param_error "
        f"or {FUNCTION}; did you mean 'accuracy'?",
    ),
    ({"training/max_epochs": 0}, "training.max_epochs: given 0; valid: a number of at least 1"),
    ({"training/max_epochs": 2.5}, "training.max_epochs: given 2.5; valid: a whole number"),
    ({"training/device": "gpu"}, "training.device: given 'gpu'; valid: auto, cpu, mps, cuda or cuda:N"),
    (
        {"training/device": "cuda:256"},
        "training.device: given 'cuda:256'; valid: auto, cpu, mps, cuda or cuda:N",
    ),
    ({"training/schedule": "cosine"}, f"training.schedule: given 'cosine'; {SECTION}"),
    (
        {"training/schedule": {"name": "cosin"}},
        "training.schedule.name: given 'cosin'; valid: constant, step, exponential, cosine, one_cycle, "
        "plateau or `package.module:function`; did you mean 'cosine'?",
    ),
    ({"training/schedule": {"gamma": 2}}, "training.schedule.gamma: given 2; valid: a number of at most 1"),
    ({"training/schedule": {"warmup": 1}}, "training.schedule.warmup: given 1; valid: a number below 1"),
    (
        {"training/early_stopping": {"threshold": float("nan")}},
        "training.early_stopping.threshold: given nan; valid: a finite number",
    ),
]


@pytest.mark.parametrize(("changes", "problem"), BROKEN, ids=[text.partition(";")[0] for _, text in BROKEN])
def test_a_wrong_value_gets_its_path_what_was_given_and_what_is_valid(
    problems: Problems, changes: Mapping[str, Any], problem: str
) -> None:
    assert problems(changes) == [problem]


def test_all_problems_of_all_sections_come_at_once(problems: Problems) -> None:
    found = problems(
        {
            "name": "no spaces, please",
            "data/split/train": 0,
            "data/standardize": 1,
            "model/name": "mpl",
            "training/loss": 3,
            "training/device": "tpu",
            "search/trials": 0,
            "search/space/lr": {"min": 0.1, "high": 1},
            "extra": {},
        }
    )
    assert [line.partition(":")[0] for line in found] == [
        "extra",
        "name",
        "data.split.train",
        "data.standardize",
        "model.name",
        "training.loss",
        "training.device",
        "search.space.lr",
        "search.trials",
    ]


def test_a_section_with_keys_that_are_not_text_is_refused(problems: Problems) -> None:
    assert problems({"data/split": {3: 0.6}}) == ["data.split.3: given 3; valid: keys that are text"]


def test_long_values_are_cut_in_messages(problems: Problems) -> None:
    assert problems({"seed": "9" * 500}) == [f"seed: given '{'9' * 56}...; valid: a whole number"]


def test_unknown_keys_are_answered_with_the_closest_key_or_with_all_keys() -> None:
    assert unknown_key("methd", ["trials", "method"]) == "unknown key; did you mean 'method'?"
    assert unknown_key("zzz", ["trials", "method"]) == "unknown key; valid: method, trials"


class Inner(Settings):
    depth: Annotated[int, Field(ge=1, lt=9)] = 1
    kind: Literal["flat", "deep"] | None = None


class Outer(Settings):
    inner: Inner = Inner()
    count: Annotated[int, Field(ge=0)]


def test_valid_sections_come_back_parsed_with_defaults_beside_the_problems_of_others() -> None:
    checked = check_sections(Outer.model_fields, {"inner": {"depth": 4}, "count": -1})
    assert checked.valid == {"inner": Inner(depth=4)}
    assert list(map(str, checked.problems)) == ["count: given -1; valid: a number of at least 0"]
    checked = check_sections(Outer.model_fields, {"inner": {"depth": 9, "kind": "dep"}, "count": 0})
    assert checked.valid == {"count": 0}
    assert list(map(str, checked.problems)) == [
        "inner.depth: given 9; valid: a number below 9",
        "inner.kind: given 'dep'; valid: flat or deep; did you mean 'deep'?",
    ]
    checked = check_sections(Outer.model_fields, {"count": 3})
    assert (checked.valid, checked.problems) == ({"inner": Inner(), "count": 3}, [])


def test_a_section_with_wrong_keys_is_parsed_without_them_for_checks_that_do_not_read_them() -> None:
    checked = check_sections(Outer.model_fields, {"inner": {"depth": 9, "kind": "deep", "x": 1}, "count": 0})
    assert checked.partial["inner"] == Inner(kind="deep")
    assert checked.reading("inner", frozenset({"kind"})) == Inner(kind="deep")
    assert checked.reading("inner", frozenset({"depth"})) is None
    assert "inner" not in checked.valid


def test_a_section_with_an_unknown_key_alone_is_valid_without_it() -> None:
    checked = check_sections(Outer.model_fields, {"inner": {"depth": 4, "x": 1}, "count": 0})
    assert checked.valid == {"inner": Inner(depth=4), "count": 0}
    assert [problem.path for problem in checked.problems] == ["inner.x"]


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["inner", "count", "x"]), st.integers() | st.none() | st.text() | st.lists(st.none())
    )
)
def test_a_problem_has_a_path_and_one_line(sections: dict[str, Any]) -> None:
    checked = check_sections(Outer.model_fields, sections)
    assert bool(checked.problems) == (checked.valid.keys() != Outer.model_fields.keys() or "x" in sections)
    for problem in checked.problems:
        assert problem.path
        assert "\n" not in problem.message


WRONG: dict[str, Any] = {
    "name": "demo",
    "data": {"source": "digitz", "split": {"train": 0.9, "validation": 0.3, "test": 0.2}},
    "model": {"name": "linear", "argumentz": {}},
    "training": {"max_epochs": 2, "loss": "cross_entropy", "patience": 3},
    "search": {
        "space": {"epochs": {"values": [1, 2]}, "lr": {"low": 2, "high": 1}, "momentum": 7},
        "num_samples": 2, "method": "rondom",
    },
    "tracking": {"wandb": 3, "trackers": ["nowhere:Tracker"]},
}  # fmt: skip


def test_all_that_can_be_known_without_reading_data_is_said_at_once(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(dump_yaml(WRONG))
    with pytest.raises(JobError) as caught:
        Job.from_file(file)
    assert {problem.path for problem in caught.value.problems} == {
        "data.source", "data.split", "model.argumentz", "training.patience", "search.space.epochs",
        "search.space.lr.low", "search.space.momentum", "search.num_samples", "search.method",
        "tracking.wandb", "tracking.trackers",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "path", "meant"),
    [
        ({"epochs": 3}, "epochs", "training.max_epochs"),
        ({"lr": 3}, "lr", "search.space.lr"),
        ({"n_trials": 3}, "n_trials", "search.trials"),
        ({"search": {"num_samples": 3}}, "search.num_samples", "search.trials"),
        ({"search": {"space": {"epochs": [1, 2]}}}, "search.space.epochs", "training.max_epochs"),
        ({"search": {"space": {"n_epochs": 3}}}, "search.space.n_epochs", "training.max_epochs"),
        ({"search": {"space": {"learning_rate": 0.1}}}, "search.space.learning_rate", "lr"),
        ({"search": {"space": {"Batch-Size": 8}}}, "search.space.Batch-Size", "batch_size"),
        ({"search": {"space": {"patience": 8}}}, "search.space.patience", "training.early_stopping.patience"),
        ({"scheduler": {"grace_period": 8}}, "scheduler.grace_period", "scheduler.grace_epochs"),
        ({"resources": {"gpus": 1}}, "resources.gpus", "resources.gpus_per_trial"),
        ({"training": {"lr": 1}}, "training.lr", "search.space.lr"),
        ({"wandb": {"project": "p"}}, "wandb", "tracking.wandb"),
    ],
)
def test_names_of_other_tools_are_answered_with_the_key_of_a_job(
    changes: dict[str, Any], path: str, meant: str
) -> None:
    sound: dict[str, Any] = {
        "name": "demo", "data": {"source": "digits"}, "model": {"name": "linear"},
        "training": {"max_epochs": 2, "loss": "cross_entropy"}, "search": {"space": {"lr": 0.1}},
    }  # fmt: skip
    sections = {**sound, **{key: {**sound.get(key, {}), **value} if isinstance(value, dict) else value
                            for key, value in changes.items()}}  # fmt: skip
    with pytest.raises(JobError) as caught:
        Job.from_mapping(sections)
    (message,) = [problem.message for problem in caught.value.problems if problem.path == path]
    assert message.endswith(f"; did you mean {meant!r}?")


@pytest.mark.parametrize(("trials", "left_out"), [(48, 16), (63, 1), (64, None), (100, None)])
def test_a_grid_that_is_not_tried_in_full_is_a_notice(trials: int, left_out: int | None) -> None:
    eight = {"values": list(range(1, 9))}
    job = Job.from_mapping(
        {
            "name": "demo", "data": {"source": "digits"}, "model": {"name": "linear"},
            "training": {"max_epochs": 2, "loss": "cross_entropy"},
            "search": {"space": {"lr": eight, "eps": eight}, "method": "grid", "trials": trials},
        }
    )  # fmt: skip
    said = [notice for notice in job.notices() if "left out" in notice]
    assert len(said) == (left_out is not None)
    assert all(notice.startswith("the grid has 64 configurations") for notice in said)
    assert all(f": {left_out} " in notice and "search.trials to 64" in notice for notice in said)
