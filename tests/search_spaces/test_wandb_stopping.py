"""The early stopping of W&B sweep files as rungs."""

from typing import Any

import pytest

from tune_jobs.problem import Problem
from tune_jobs.search_spaces.wandb_stopping import Stopping, read_stopping


def read(given: Any) -> tuple[Stopping | None, list[str], list[str]]:
    problems: list[Problem] = []
    notices: list[str] = []
    found = read_stopping(given, problems, notices)
    return found, list(map(str, problems)), notices


@pytest.mark.parametrize(
    ("given", "stopping"),
    [
        (None, None),
        ({"type": "hyperband", "min_iter": 3}, Stopping(3, 3)),
        ({"type": "hyperband", "min_iter": 3, "eta": 2}, Stopping(3, 2)),
        ({"type": "hyperband", "min_iter": 1, "eta": 2.4, "strict": True}, Stopping(1, 2)),
        ({"type": "hyperband", "max_iter": 18, "eta": 3, "s": 2}, Stopping(2, 3)),
        ({"type": "hyperband", "max_iter": 27, "s": 9}, Stopping(1, 3)),
        ({"type": "hyperband", "max_iter": 27}, None),
        ({"type": "hyperband", "max_iter": 2, "s": 1}, None),
    ],
)
def test_rungs_are_those_of_the_file(given: Any, stopping: Stopping | None) -> None:
    found, problems, notices = read(given)
    assert (found, problems) == (stopping, [])
    assert (notices == []) == (given is None)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("hyperband", "early_terminate: hyperband is text; a mapping is needed"),
        ({"type": "median", "min_iter": 3}, "early_terminate.type: median is no type; valid is hyperband"),
        ({"min_iter": 3}, "early_terminate.type: missing; valid is hyperband"),
        ({"type": "hyperband"}, "early_terminate: needs min_iter, or max_iter and s"),
        (
            {"type": "hyperband", "min_iter": 0},
            "early_terminate.min_iter: 0 (a whole number) is not a whole number",
        ),
        (
            {"type": "hyperband", "max_iter": "9"},
            'early_terminate.max_iter: "9" (text) is not a whole number',
        ),
        ({"type": "hyperband", "min_iter": 3, "eta": 1}, "early_terminate.eta: 1 is not a number above 1"),
        (
            {"type": "hyperband", "min_iter": 3, "etta": 2},
            "early_terminate: unknown key 'etta'; did you mean 'eta'",
        ),
    ],
)
def test_what_wandb_refuses_is_refused(given: Any, problem: str) -> None:
    found, problems, _ = read(given)
    assert found is None
    assert len(problems) == 1
    assert problems[0].startswith(problem)
