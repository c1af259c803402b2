"""What is wrong with a node, from what it answers."""

import pytest

from tune_jobs.cluster.survey import Answer, problem_of, versions_here

HERE = {"python": "3.11.7", "torch": "2.13.0+cpu", "ray": "2.60.0"}


def test_the_build_of_a_package_is_no_difference() -> None:
    assert problem_of(Answer({**HERE, "torch": "2.13.0+cu130"}, None), HERE) is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            Answer({**HERE, "torch": "2.12.0"}, None),
            "torch 2.12.0 there and 2.13.0+cpu here; install the same",
        ),
        (Answer({"python": "3.11.7", "ray": "2.60.0"}, None), "torch is missing there and 2.13.0+cpu here"),
        (Answer(HERE, "cannot see /shared"), "cannot see /shared"),
        ("did not answer", "did not answer"),
    ],
)
def test_a_problem_is_one_line(answer: Answer | str, words: str) -> None:
    problem = problem_of(answer, HERE)
    assert problem is not None
    assert words in problem


def test_this_process_has_all_that_must_be_alike() -> None:
    assert versions_here().keys() == {"python", "tune-jobs", "torch", "ray"}
