"""A job of another kind of training than PyTorch: its sections, its checks, and what stays the same."""

import copy
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.slope import Slope, register_slope
from tune_jobs.driver.train_alone import split_configuration
from tune_jobs.errors import JobError
from tune_jobs.job.checks import with_default_metric
from tune_jobs.job.file import apply_overrides, dump_yaml, parse_overrides
from tune_jobs.job.fingerprint import job_fingerprint
from tune_jobs.job.job import Job
from tune_jobs.trainers import kinds
from tune_jobs.trainers.facts import KindFacts, Metric
from tune_jobs.trainers.settings import ScoreSettings

JOB: Mapping[str, Any] = {
    "name": "line",
    "slope": {"epochs": 9},
    "search": {"space": {"rate": {"low": 0.01, "high": 0.5, "log": True}}, "trials": 4},
    "selection": {"metric": "error"},
}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "ENTRIES", dict(kinds.ENTRIES))
    register_slope()


def sections(changes: Mapping[str, Any]) -> dict[str, Any]:
    return apply_overrides(copy.deepcopy(dict(JOB)), list(changes.items()))


def problems(changes: Mapping[str, Any]) -> list[str]:
    with pytest.raises(JobError) as caught:
        Job.from_mapping(sections(changes))
    return list(map(str, caught.value.problems))


def test_its_section_chooses_the_kind() -> None:
    job = Job.from_mapping(sections({}))
    assert isinstance(job.kind, Slope)
    assert job.kind.slope.rows == 40
    assert (job.max_epochs, job.rungs, job.trials) == (9, (2, 6), 4)
    assert job.facts.title == "a line through points"


def test_all_problems_are_listed_at_once_with_their_keys() -> None:
    assert problems(
        {
            "slope.rows": 0,
            "slope.speeding": 3,
            "search.space.rate": {"values": [0.1, -1.0]},
            "search.space.lr": 0.1,
            "selection.metric": "val_loss",
            "resources.workers_per_trial": 2,
            "storage": "",
        }
    ) == [
        "slope.rows: given 0; valid: a number of at least 1",
        "slope.speeding: unknown key; valid: ballast, epochs, fail_at, folder, hold, pause, rows, settled",
        "selection.metric: given 'val_loss'; valid: error",
        "search.space.rate: given -1.0; valid: a number above 0",
        "search.space.lr: unknown key; valid: bad, decay, how, rate",
        "storage: given ''; valid: the path of a folder, such as runs, or s3://bucket/prefix",
        "resources.workers_per_trial: given 2; valid: 1, because several workers cannot train one model of this kind "
        "together",
    ]


@pytest.mark.parametrize("selection", [None, {}, {"mode": "min"}])
def test_a_job_that_names_no_metric_is_selected_by_the_default_of_its_kind(
    selection: dict[str, str] | None,
) -> None:
    given = {name: section for name, section in JOB.items() if name != "selection"}
    job = Job.from_mapping(given if selection is None else {**given, "selection": selection})
    assert job.selection == ScoreSettings(metric="error", mode="min")
    assert job_fingerprint(job) == job_fingerprint(Job.from_mapping(sections({})))
    assert job.to_mapping()["selection"] == {"metric": "error", "mode": "min"}


@pytest.mark.parametrize(
    ("default", "given", "expected"),
    [
        (Metric(name="reward", direction="max"), {}, {"metric": "reward", "mode": "max"}),
        (Metric(name="reward", direction="max"), {"mode": "min"}, {"metric": "reward", "mode": "min"}),
        (Metric(name="reward"), {}, {"metric": "reward", "mode": "min"}),
        (Metric(name="reward"), {"metric": "cost"}, {"metric": "cost"}),
        (None, {"mode": "max"}, {"mode": "max"}),
        (Metric(name="reward"), "reward", "reward"),
    ],
)
def test_the_default_metric_brings_its_direction_and_what_is_given_stays(
    default: Metric | None, given: object, expected: object
) -> None:
    facts = KindFacts(default_metric=default)
    assert with_default_metric(given, facts) == expected


def test_a_kind_without_a_default_metric_asks_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Slope, "facts", staticmethod(lambda _: KindFacts()))
    given = {name: section for name, section in JOB.items() if name != "selection"}
    with pytest.raises(JobError) as caught:
        Job.from_mapping(given)
    assert list(map(str, caught.value.problems)) == ["selection.metric: missing; this key is required"]


def test_several_workers_a_trial_need_a_kind_that_divides_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Slope, "capabilities", replace(Slope.capabilities, data_parallel=True))
    assert Job.from_mapping(sections({"resources.workers_per_trial": 2})).kind.capabilities.data_parallel


def test_a_scheduler_that_pauses_trials_needs_a_kind_that_resumes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Slope, "capabilities", replace(Slope.capabilities, resumes=False))
    assert problems({}) == [
        "scheduler.method: given 'asha', which pauses trials, and trainings of this kind cannot continue; set it to "
        "asha_stopping, median or none"
    ]
    assert Job.from_mapping(sections({"scheduler.method": "none"})).rungs == ()


def test_rungs_and_directions_are_checked_with_the_facts_of_the_kind() -> None:
    assert problems({"scheduler.grace_epochs": 10, "selection.mode": "max"}) == [
        "selection.mode: max of error would select the worst trial; set it to min",
        "scheduler.grace_epochs: given 10; valid: at most slope.epochs, which is 9",
    ]


def test_sections_of_two_kinds_do_not_go_together() -> None:
    given = sections({"data.source": "wine", "model.name": "linear", "training.loss": "cross_entropy"})
    given["search"]["space"] = {"lr": 0.1}
    given["selection"] = {}
    with pytest.raises(JobError) as caught:
        Job.from_mapping(given)
    (found,) = map(str, caught.value.problems)
    assert found == (
        "slope: does not go with data, model, training; a job has sections of one kind of training: remove this one, "
        "or those"
    )


def test_a_section_whose_keys_have_defaults_may_be_empty_and_comes_back_whole(tmp_path: Path) -> None:
    job = Job.from_mapping(sections({"slope": {}}))
    assert list(job.to_mapping())[:4] == ["name", "seed", "slope", "search"]
    assert Job.from_mapping(job.to_mapping()) == job
    (tmp_path / "job.yaml").write_text(job.to_yaml())
    assert Job.from_file(tmp_path / "job.yaml", parse_overrides(["--slope.rows", "30"])).kind == Slope(
        slope=job.kind.slope.model_copy(update={"rows": 30})
    )


def test_jobs_with_other_sections_differ_and_have_other_fingerprints() -> None:
    one, other = (Job.from_mapping(sections({"slope.rows": rows})) for rows in (30, 40))
    assert one != other
    assert job_fingerprint(one) != job_fingerprint(other)
    assert job_fingerprint(one) == job_fingerprint(Job.from_mapping(sections({"slope.rows": 30})))


def test_train_takes_keys_of_the_section_as_overrides() -> None:
    assert split_configuration([("rate", 0.1), ("slope.rows", 30)]) == ({"rate": 0.1}, [("slope.rows", 30)])


def test_a_job_without_sections_of_any_kind_asks_for_those_of_pytorch() -> None:
    given = sections({})
    del given["slope"]
    with pytest.raises(JobError) as caught:
        Job.from_mapping(given)
    assert [problem.path for problem in caught.value.problems] == ["data", "model", "training"]


def test_the_job_is_checked_without_torch_and_ray(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(dump_yaml(sections({})))
    code = f"""
import sys
from tests.trainers.slope import register_slope
register_slope()
from tune_jobs.cli.main import main
assert main(["validate", {str(tmp_path / "job.yaml")!r}]) == 0
assert not {{"torch", "ray"}} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "selection  min error on validation rows" in done.stdout
    assert "training   at most 9 epochs a trial, 36 in all" in done.stdout
