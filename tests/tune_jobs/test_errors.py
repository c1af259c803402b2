"""The tree of errors: the exit code of each, and the display of a list of problems."""

import re
from pathlib import Path

import pytest

from tune_jobs import errors
from tune_jobs.errors import EXIT_CODES as BY_FAULT
from tune_jobs.errors import (
    ExpectedError,
    Fault,
    Interrupted,
    JobError,
    RunFailed,
    TuneJobsError,
    exit_code_for,
)
from tune_jobs.search_spaces import Problem, SearchSpaceError
from tune_jobs.trainers.errors import CheckpointMissing, DataError, Diverged

EXIT_CODES = {
    "TrainingFailed": 1,
    "JobError": 2,
    "RunFolderError": 2,
    "RunInUse": 2,
    "UnknownKind": 2,
    "ResourceError": 2,
    "ClusterError": 2,
    "SubmissionError": 2,
    "SubmissionEnded": 1,
    "HoldoutOpened": 3,
    "RunFailed": 1,
    "Interrupted": 130,
    "StorageFailed": 130,
    "EarlierVersion": 2,
    "LaterVersion": 2,
    "DamagedRun": 1,
}


def test_every_error_has_the_exit_code_of_the_contract_and_its_place_in_the_drawn_tree() -> None:
    classes = {name: value for name, value in vars(errors).items() if isinstance(value, type)}
    raised = {
        name: value
        for name, value in classes.items()
        if issubclass(value, TuneJobsError) and name not in {"TuneJobsError", "UnfinishedRun", "OtherVersion"}
    }
    assert {name: value.exit_code for name, value in raised.items()} == EXIT_CODES
    drawn = re.findall(r"── (\w+) +(\d+)", errors.__doc__ or "")
    assert {name: int(code) for name, code in drawn} == EXIT_CODES


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("text"), 2),
        (SearchSpaceError([]), 2),
        (Diverged("text"), 1),
        (CheckpointMissing("text"), 1),
        (JobError([]), 2),
        (errors.SubmissionEnded("text", 7), 7),
    ],
)
def test_errors_of_all_trees_have_an_exit_code(error: ExpectedError, code: int) -> None:
    assert exit_code_for(error) == code
    assert set(BY_FAULT) == set(Fault)


def test_problems_are_shown_in_columns() -> None:
    error = JobError([Problem("seed", "missing"), Problem("search.space.lr", "too high")], name="job.yaml")
    assert str(error) == "job.yaml: 2 problems\n  seed             missing\n  search.space.lr  too high"
    assert error.problems == (Problem("seed", "missing"), Problem("search.space.lr", "too high"))
    assert str(JobError([Problem("seed", "missing")])) == "the job: 1 problem\n  seed  missing"


def test_a_very_long_path_does_not_push_the_other_messages_away() -> None:
    error = JobError([Problem("a", "one"), Problem("x" * 60, "two")])
    assert str(error).splitlines()[1:] == [f"  a{' ' * 35}  one", f"  {'x' * 60}  two"]


@pytest.mark.parametrize("kind", [RunFailed, Interrupted])
def test_an_unfinished_run_knows_its_folder(kind: type[RunFailed]) -> None:
    error = kind("no trial succeeded", Path("runs/a"))
    assert (str(error), error.path) == ("no trial succeeded", Path("runs/a"))
