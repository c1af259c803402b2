"""Determine the state of a submission and the next commands, from Ray's details and the driver's log."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from tune_jobs.errors import Interrupted, JobError, RunFailed
from tune_jobs.text import COMPLAINT, WINNER, duration_text, quoted


class SubmissionState(StrEnum):
    """State of a submission, as a code that is compared."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    STOPPED = "stopped"
    LOST = "lost"

    @property
    def text(self) -> str:
        """Return the text that people read."""
        return _STATE_TEXTS[self]

    @property
    def over(self) -> bool:
        return self not in {SubmissionState.WAITING, SubmissionState.RUNNING}

    @property
    def resumable(self) -> bool:
        return self in {SubmissionState.INTERRUPTED, SubmissionState.STOPPED, SubmissionState.LOST}


_STATE_TEXTS = {
    SubmissionState.WAITING: "waiting to be started",
    SubmissionState.RUNNING: "running",
    SubmissionState.DONE: "done",
    SubmissionState.REFUSED: "refused",
    SubmissionState.FAILED: "failed",
    SubmissionState.INTERRUPTED: "interrupted, and can be resumed",
    SubmissionState.STOPPED: "stopped, and can be resumed",
    SubmissionState.LOST: "lost with its process, and can be resumed",
}
"""The text of each `SubmissionState`."""


class Details(Protocol):
    """Ray's details of a submission."""

    submission_id: str | None
    status: Any
    metadata: dict[str, str] | None
    start_time: int | None
    end_time: int | None
    driver_exit_code: int | None


@dataclass(frozen=True)
class Submission:
    """A run on a cluster, from its submission to its end."""

    id: str
    state: SubmissionState
    metadata: Mapping[str, str]
    begun: float | None
    """Unix time at which the cluster took the submission."""
    ended: float | None
    exit_code: int | None
    """Exit code of its driver; None before its end, or if the driver was killed together with its watchers."""

    @property
    def over(self) -> bool:
        return self.state.over

    @property
    def run(self) -> str:
        """Return the address of the run on the cluster: a path, or `s3://bucket/prefix/run`."""
        return self.metadata.get("run", "")

    @property
    def name(self) -> str:
        """Return the name of the run."""
        return self.run.rstrip("/").rpartition("/")[2]

    def age(self) -> str:
        """Return how long the submission has run so far or, after its end, ran; empty if it has not started."""
        if self.begun is None:
            return ""
        return duration_text(max((self.ended or time.time()) - self.begun, 0.0))


def submission_of(details: Details) -> Submission:
    """Return the submission that Ray's `details` describe."""
    return Submission(
        id=str(details.submission_id),
        state=state_of(str(getattr(details.status, "value", details.status)), details.driver_exit_code),
        metadata=details.metadata or {},
        begun=_seconds(details.start_time),
        ended=_seconds(details.end_time),
        exit_code=details.driver_exit_code,
    )


def state_of(status: str, exit_code: int | None) -> SubmissionState:
    """Return the state that follows from Ray's status and the exit code of the driver."""
    plain = {
        "PENDING": SubmissionState.WAITING,
        "RUNNING": SubmissionState.RUNNING,
        "SUCCEEDED": SubmissionState.DONE,
        "STOPPED": SubmissionState.STOPPED,
    }
    if status in plain:
        return plain[status]
    if exit_code is None or exit_code < 0:  # killed
        return SubmissionState.LOST
    codes = {JobError.exit_code: SubmissionState.REFUSED, Interrupted.exit_code: SubmissionState.INTERRUPTED}
    return codes.get(exit_code, SubmissionState.FAILED)


def exit_code_of(submission: Submission) -> int:
    """Return the exit code of a command that waited for the end of the run."""
    if submission.state is SubmissionState.DONE:
        return 0
    if submission.state.resumable:
        return Interrupted.exit_code
    return submission.exit_code or RunFailed.exit_code


def complaint_in(log: str) -> str:
    """Return why the driver ended: its last message, or its last lines if it has none."""
    lines = log.rstrip().splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith(COMPLAINT)]
    if starts:
        return "\n".join(lines[starts[-1] :]).removeprefix(COMPLAINT)
    if any("No module named 'tune_jobs" in line or "No module named tune_jobs" in line for line in lines):
        return (
            "tune-jobs is not installed on the cluster's head, or for another Python than its Ray's; install it in the "
            "same way on every node"
        )
    return "\n".join(lines[-5:]) or "its process printed nothing"


def last_line(log: str) -> str:
    """Return the last line that the driver printed; empty if there is none."""
    lines = [line for line in log.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def find_submission(text: str, submissions: Iterable[Submission]) -> Submission | None:
    """Return the submission with the ID `text`, or the latest one of the run with that name; None if there is none."""
    found = list(submissions)
    by_id = next((one for one in found if one.id == text), None)
    return by_id or max((one for one in found if one.name == text), key=_begun, default=None)


def later_than(submission: Submission, submissions: Iterable[Submission]) -> Submission | None:
    """Return the latest submission that resumed the same run afterwards and was not refused; None if there is none."""
    of_run = [
        one for one in submissions if one.run == submission.run and one.state is not SubmissionState.REFUSED
    ]
    latest = max([submission, *of_run], key=_begun)
    return None if latest.id == submission.id else latest


def _begun(submission: Submission) -> float:
    return submission.begun or 0.0


def table_lines(submissions: Sequence[Submission]) -> list[str]:
    """Return the lines of `tune-jobs status`, headings first. No line is broken, whatever its width."""
    rows = [("submission", "state", "for", "run")]
    rows += [(one.id, one.state.text, one.age(), one.run) for one in submissions]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def status_lines(
    submission: Submission, log: str, address: str, later: Submission | None = None
) -> list[str]:
    """Return the lines of `tune-jobs status ID`; `later` has resumed the same run."""
    since = f"for {submission.age()}" if not submission.over else f"after {submission.age()}"
    lines = [f"submission: {submission.id}", f"state: {submission.state.text} ({since})"]
    if submission.over and submission.state is not SubmissionState.DONE:
        resume = f"tune-jobs resume {quoted(submission.run)}"  # the command on the cluster; here it needs --address
        reason = complaint_in(log).replace(f"`{resume}`", f"`{resume} --address {address}`")
        lines.append(f"reason: {reason}")
    elif not submission.over and (last := last_line(log)):
        lines.append(f"last: {last}")
    if submission.state is SubmissionState.DONE:
        lines += [line for line in log.splitlines() if line.startswith(WINNER)][-1:]
    if later is not None:
        lines.append(f"later: {later.id}: {later.state.text}")
    commands = next_commands(later or submission, address)
    return [*lines, f"run: {submission.run}", f"next: {'; or '.join(commands)}"]


def next_commands(submission: Submission, address: str) -> Sequence[str]:
    """Return the commands that make sense now."""
    at = f"--address {quoted(address)}"
    if not submission.over:
        return [f"tune-jobs logs {submission.id} --follow {at}", f"tune-jobs stop {submission.id} {at}"]
    if submission.state is SubmissionState.DONE:
        return [f"tune-jobs fetch {submission.id} {at}"]
    if submission.state.resumable:
        return [f"tune-jobs resume {quoted(submission.run)} {at}"]
    return [f"tune-jobs logs {submission.id} {at}"]


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
