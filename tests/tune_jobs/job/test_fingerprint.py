"""The keys of a job that may change after its run has begun, and the keys that its fingerprint covers."""

from collections.abc import Callable
from typing import Any

import pytest

from tune_jobs.errors import JobError
from tune_jobs.job.fingerprint import CHANGEABLE, check_changeable, job_fingerprint
from tune_jobs.job.job import Job

MakeSections = Callable[..., dict[str, Any]]


def fingerprint(make_sections: MakeSections, changes: dict[str, Any]) -> str:
    return job_fingerprint(Job.from_mapping(make_sections(changes)))


@pytest.mark.parametrize(
    "changes", [{"search/trials": 99}, {"limits/minutes": 3}, {"name": "other"}, {"storage": "elsewhere"}]
)
def test_keys_that_may_change_leave_the_fingerprint_as_it_is(
    make_sections: MakeSections, changes: dict[str, Any]
) -> None:
    assert fingerprint(make_sections, changes) == fingerprint(make_sections, {})


@pytest.mark.parametrize("changes", [{"seed": 7}, {"search/method": "random"}, {"training/max_epochs": 99}])
def test_every_other_key_changes_it(make_sections: MakeSections, changes: dict[str, Any]) -> None:
    assert fingerprint(make_sections, changes) != fingerprint(make_sections, {})


def test_a_section_that_may_change_may_change_in_all_its_keys() -> None:
    check_changeable([("search.trials", 9), ("limits.minutes", 3), ("tracking.wandb.project", "demo")], "run")


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("seed", None),
        ("search.method", None),
        ("search.trialsx", "search.trials"),
        ("limit.minutes", "limits.minutes"),
    ],
)
def test_other_keys_are_refused_with_those_that_may(name: str, close: str | None) -> None:
    with pytest.raises(JobError, match=r"^resume demo: 1 problem\n") as caught:
        check_changeable([(name, 1), ("search.trials", 9)], "demo")
    (problem,) = caught.value.problems
    assert problem.path == name
    assert all(key in problem.message for key in CHANGEABLE)
    assert problem.message.endswith("?") is (close is not None)
    assert close is None or f"did you mean {close!r}?" in problem.message
