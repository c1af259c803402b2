"""The status of a submission, from the messages of Ray and of the driver."""

from dataclasses import replace

import pytest

from tune_jobs.submission.progress import (
    Submission,
    SubmissionState,
    complaint_in,
    exit_code_of,
    find_submission,
    later_than,
    state_of,
    status_lines,
    table_lines,
)

ADDRESS = "http://127.0.0.1:8265"
RUNNING = Submission(
    "a-1-abcd", SubmissionState.RUNNING, {"run": "/shared/a-1-abcd"}, begun=1000.0, ended=None, exit_code=None
)


@pytest.mark.parametrize(
    ("status", "code", "state", "ends_with"),
    [
        ("SUCCEEDED", 0, SubmissionState.DONE, 0),
        ("FAILED", 2, SubmissionState.REFUSED, 2),
        ("FAILED", 1, SubmissionState.FAILED, 1),
        ("FAILED", 130, SubmissionState.INTERRUPTED, 130),
        ("FAILED", -9, SubmissionState.LOST, 130),
        ("FAILED", None, SubmissionState.LOST, 130),
        ("FAILED", 127, SubmissionState.FAILED, 127),
        ("STOPPED", None, SubmissionState.STOPPED, 130),
    ],
)
def test_how_a_submission_has_ended(
    status: str, code: int | None, state: SubmissionState, ends_with: int
) -> None:
    assert state_of(status, code) is state
    assert state.over
    assert exit_code_of(replace(RUNNING, state=state, exit_code=code)) == ends_with


@pytest.mark.parametrize("status", ["PENDING", "RUNNING"])
def test_submissions_that_have_not_ended(status: str) -> None:
    assert not state_of(status, None).over


def test_the_message_of_a_command_is_found_in_its_output() -> None:
    log = "small: 4 trials\ntune-jobs: job.yaml: 1 problem\n  storage  is full\n"
    assert complaint_in(log) == "job.yaml: 1 problem\n  storage  is full"
    assert complaint_in("a\nb\n") == "a\nb"
    assert complaint_in("") == "its process printed nothing"
    absent = "/opt/bin/python3: Error while finding module specification: No module named 'tune_jobs'\n"
    assert complaint_in(absent).startswith("tune-jobs is not installed on the cluster's head")


def test_the_status_of_a_run_in_progress() -> None:
    lines = status_lines(RUNNING, "begun: a-1-abcd\n5 s: 1 of 4 trials ended\n\n", ADDRESS)
    assert lines[1].startswith("state: running (for ")
    assert lines[2:] == [
        "last: 5 s: 1 of 4 trials ended",
        "run: /shared/a-1-abcd",
        f"next: tune-jobs logs a-1-abcd --follow --address {ADDRESS}; or tune-jobs stop a-1-abcd --address {ADDRESS}",
    ]


@pytest.mark.parametrize(
    ("state", "log", "expected"),
    [
        (
            SubmissionState.DONE,
            "winner: trial 0001\nrun: x\n",
            ["winner: trial 0001", f"next: tune-jobs fetch a-1-abcd --address {ADDRESS}"],
        ),
        (
            SubmissionState.STOPPED,
            "tune-jobs: interrupted. Continue with `tune-jobs resume /shared/a-1-abcd`\n",
            [
                f"reason: interrupted. Continue with `tune-jobs resume /shared/a-1-abcd --address {ADDRESS}`",
                f"next: tune-jobs resume /shared/a-1-abcd --address {ADDRESS}",
            ],
        ),
        (
            SubmissionState.REFUSED,
            "tune-jobs: no GPU\n",
            ["reason: no GPU", f"next: tune-jobs logs a-1-abcd --address {ADDRESS}"],
        ),
    ],
)
def test_the_status_of_a_submission_that_is_over_says_why_and_names_the_next_step(
    state: SubmissionState, log: str, expected: list[str]
) -> None:
    lines = status_lines(replace(RUNNING, state=state, ended=1090.0), log, ADDRESS)
    assert lines[1] == f"state: {state.text} (after 1 min 30 s)"
    assert [lines[2], lines[-1]] == expected


def of_run(id_: str, begun: float, state: SubmissionState = SubmissionState.STOPPED) -> Submission:
    return replace(RUNNING, id=id_, begun=begun, state=state)


def test_a_submission_knows_the_one_that_continued_its_run() -> None:
    first, second = of_run("a-1-abcd", 1.0), of_run("a-1-abcd-r2", 2.0)
    third = of_run("a-1-abcd-r3", 3.0, SubmissionState.RUNNING)
    refused = of_run("a-1-abcd-r4", 4.0, SubmissionState.REFUSED)
    other = replace(of_run("b-1-abcd", 5.0), metadata={"run": "/shared/b-1-abcd"})
    known = [other, refused, third, second, first]
    assert later_than(first, known) == later_than(second, known) == third
    assert later_than(third, known) is None
    assert later_than(other, known) is None
    lines = status_lines(first, "tune-jobs: interrupted\n", ADDRESS, third)
    assert lines[0] == "submission: a-1-abcd"
    assert lines[-3:] == [
        "later: a-1-abcd-r3: running",
        "run: /shared/a-1-abcd",
        f"next: tune-jobs logs a-1-abcd-r3 --follow --address {ADDRESS}; or tune-jobs stop a-1-abcd-r3 --address "
        f"{ADDRESS}",
    ]


def test_a_run_whose_first_submission_the_cluster_does_not_know_is_found_by_its_name() -> None:
    second, third = of_run("a-1-abcd-r2", 2.0), of_run("a-1-abcd-r3", 3.0)
    assert find_submission("a-1-abcd", [second, third]) == third
    assert find_submission("a-1-abcd-r2", [second, third]) == second
    assert find_submission("a-1", [second, third]) is None


def test_the_table_breaks_no_line() -> None:
    run = f"/shared/{'deep/' * 40}a-1-abcd"
    lines = table_lines(
        [replace(RUNNING, metadata={"run": run}, ended=1003.0), of_run("b", 1.0, SubmissionState.WAITING)]
    )
    assert [line.split() for line in lines[:2]] == [
        ["submission", "state", "for", "run"],
        ["a-1-abcd", "running", "3", "s", run],
    ]
    assert lines[2].startswith("b           waiting to be started  ")
