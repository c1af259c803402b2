"""The differences between two processes."""

import pytest

from tune_jobs.versions import differences, versions_here

HERE = {"python": "3.11.7", "ray": "2.60.0", "torch": "2.13.0+cpu", "tune-jobs": "0.1.0"}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (HERE, ""),
        ({**HERE, "more": "1"}, ""),
        ({**HERE, "torch": "2.13.0+cu130"}, ""),
        ({**HERE, "python": "3.11.9"}, "Python 3.11.7 here and 3.11.9 there"),
        ({**HERE, "torch": "2.12.0+cpu"}, "torch 2.13.0+cpu here and 2.12.0+cpu there"),
        (
            {"python": "3.11.7", "ray": "2.59.0", "tune-jobs": "0.1.0"},
            "Ray 2.60.0 here and 2.59.0 there, torch 2.13.0+cpu here and none there",
        ),
    ],
)
def test_all_required_versions_are_compared_without_builds(found: dict[str, str], words: str) -> None:
    assert differences(HERE, found) == words


@pytest.mark.parametrize(
    ("found", "words"),
    [("3.11.9", ""), ("3.12.7", "Python 3.11.7 on the left and 3.12.7 on the right")],
)
def test_of_python_two_numbers_may_be_enough(found: str, words: str) -> None:
    sides = ("on the left", "on the right")
    assert differences(HERE, {**HERE, "python": found}, sides, python_numbers=2) == words


def test_nothing_is_required_of_an_unknown_process() -> None:
    assert differences({}, HERE) == ""


def test_this_process_has_all_versions_that_must_match() -> None:
    assert versions_here().keys() == {"python", "tune-jobs", "ray"}
    assert versions_here(["no such package"]).keys() == {"python"}
