"""The commands for a remote cluster: they call the Jobs server of its Ray over HTTP."""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from rich.console import Console

from tune_jobs.cli.parser import JOB, Commands
from tune_jobs.cli.screen import make_console
from tune_jobs.driver.preparation import prepare
from tune_jobs.errors import (
    ClusterError,
    DamagedRun,
    RunFolderError,
    SubmissionEnded,
    SubmissionError,
)
from tune_jobs.files import exists
from tune_jobs.job.file import parse_overrides
from tune_jobs.job.fingerprint import check_changeable
from tune_jobs.job.job import Job
from tune_jobs.location import is_uri
from tune_jobs.record.folder import RunFolder, new_run_name
from tune_jobs.results import open_run
from tune_jobs.submission.handover import Handover, has_begun
from tune_jobs.submission.package import JOB_FILE, job_to_submit, make_package
from tune_jobs.submission.progress import (
    Submission,
    SubmissionState,
    complaint_in,
    exit_code_of,
    find_submission,
    later_than,
    status_lines,
    table_lines,
)
from tune_jobs.submission.sending import whole_run
from tune_jobs.text import count_text, quoted
from tune_jobs.versions import ALIKE, versions_here

if TYPE_CHECKING:
    from tune_jobs.submission.client import JobsServer

ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
"""Environment variable with the cluster's address, for commands without `--address`."""
DEFAULT_ADDRESS = "http://127.0.0.1:8265"
"""Address if neither the option nor the variable is given."""
SECONDS_TO_BEGIN = 180.0
"""Seconds that `submit` waits until the driver has started the run, or refused it."""
SECONDS_TO_STOP = 150.0
"""Seconds that `stop` waits until the run has ended."""
NOTHING_LEFT = (
    "nothing is left to do; `--search.trials N` asks for more trials, `--limits.minutes M` for more time"
)
"""Message of `resume` for a finished run."""
SECONDS_BETWEEN_STATUS_CHECKS = 0.5
"""Seconds between two checks of a submission's state."""


def add_commands(commands: Commands) -> None:
    """Add the commands to the command line."""
    submission = ("ID", "submission, as `tune-jobs submit` prints it")
    submit = commands.add("submit", _submit, "Run a job on a cluster, through Ray Jobs.", JOB, overrides=True)
    submit.add_argument(
        "--include", action="append", default=[], metavar="PATH",
        help="send this file or folder too, from beside the job file; may be given several times",
    )  # fmt: skip
    status = commands.add("status", _status, "How a submission stands; without ID, all of them.")
    status.set_defaults(only_shows=True)
    status.add_argument("id", nargs="?", metavar="ID", help=submission[1])
    logs = commands.add("logs", _logs, "What the run on the cluster has printed.", submission)
    logs.set_defaults(only_shows=True)
    logs.add_argument(
        "--follow", action="store_true", help="follow the run to its end, and exit with its exit code"
    )
    stop = commands.add("stop", _stop, "Stop a run on the cluster; it can be resumed.", submission)
    fetch = commands.add(
        "fetch", _fetch, "Copy a run folder here, with the best trial's checkpoints alone.",
        ("RUN", "submission, or the run folder as the cluster sees it"),
    )  # fmt: skip
    fetch.add_argument(
        "--output", type=Path, default=Path("runs"), metavar="FOLDER", help="where to put it (default runs)"
    )
    for parser in (submit, status, logs, stop, fetch):
        parser.add_argument(
            "--address", metavar="URL", default=os.environ.get(ADDRESS_VARIABLE, DEFAULT_ADDRESS),
            help=f"dashboard of the cluster's head (default ${ADDRESS_VARIABLE}, else {DEFAULT_ADDRESS})",
        )  # fmt: skip


def refuse_jobs_address(address: str | None) -> None:
    """Refuse the address of a Jobs server where the address of a Ray to join is needed.

    Raises:
        ClusterError: The address is that of a Jobs server.
    """
    if is_jobs_address(address):
        raise ClusterError(
            f"--address {address}: `run` joins the Ray at HOST:PORT, from a machine of the cluster; "
            f"`tune-jobs submit JOB --address {quoted(address)}` sends the job there"
        )


def address_to_resume(run: str, address: str | None) -> str | None:
    """Return `address` if given; else that of the environment if `run` is no run of this machine; else None."""
    if address is not None or is_uri(run) or os.sep in run or exists(Path(run)):
        return address
    return os.environ.get(ADDRESS_VARIABLE)


def is_jobs_address(address: str | None) -> TypeGuard[str]:
    """Return whether `address` is that of a Jobs server, and not that of a Ray to join."""
    return address is not None and "://" in address


def _submit(options: argparse.Namespace, rest: list[str], console: Console) -> None:
    checked = job_to_submit(Path(options.job), parse_overrides(rest))
    job = checked.job
    server = _server(options.address)
    if checked.data_here:
        prepare(job)
        console.print(f"{job.name}: valid; {count_text(job.trials, 'trial')}", markup=False)
    else:
        console.print(
            f"{job.name}: valid but for the data, which the cluster checks: {', '.join(job.facts.files.values())}",
            markup=False,
        )
    with tempfile.TemporaryDirectory(prefix="tune-jobs-") as folder:
        size = make_package(checked, Path(folder), options.include)
        run = new_run_name(job.name)
        _send(server, job, run, Path(folder))
    shown = f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
    console.print(f"{shown} sent to {server.address}", markup=False)
    try:
        _wait_for_begin(server, run, console)
    except KeyboardInterrupt:
        console.print(
            f"no longer waited for; `tune-jobs stop {quoted(run)} --address {quoted(server.address)}` ends it",
            markup=False,
        )
    except SubmissionEnded as error:
        files = [file for file in job.facts.files.values() if Path(file).is_absolute()]
        if any(file in str(error) for file in files):
            raise SubmissionEnded(
                f"{error}. An absolute path is one of the cluster; a path relative to the job file is sent along",
                error.exit_code,
            ) from error
        raise
    console.print(f"run: {job.storage.rstrip('/')}/{run}", markup=False)
    console.print(f"submission: {run}", markup=False)


def _send(server: "JobsServer", job: Job, run: str, package: Path) -> None:
    server.submit(
        f"tune_jobs run {JOB_FILE} --address auto",
        run,
        metadata={"run": f"{job.storage.rstrip('/')}/{run}", "name": job.name},
        environment=Handover(run, versions_here((*ALIKE, *job.facts.packages))).to_environment(),
        package=package,
    )


def _status(options: argparse.Namespace, rest: list[str], console: Console) -> None:
    server = _server(options.address)
    if options.id is not None:
        submission, later = _find_submission(server, options.id)
        try:
            log = server.log(submission.id)
        except ClusterError:  # the machine that had the log is gone
            log = ""
        for line in status_lines(submission, log, server.address, later):
            console.print(line, markup=False)
        return
    submissions = server.submissions()
    if not submissions:
        console.print(f"no submissions at {server.address}", markup=False)
        return
    for line in table_lines(submissions):
        console.print(line, markup=False)


def _logs(options: argparse.Namespace, rest: list[str], console: Console) -> None:
    server = _server(options.address)
    submission, later = _find_submission(server, options.id)
    if not options.follow:
        console.print(server.log(submission.id), markup=False, end="")
        _print_later(later, server)
        return
    try:
        for text in server.follow(submission.id):
            console.print(text, markup=False, end="")
    except KeyboardInterrupt:
        at = f"--address {quoted(server.address)}"
        console.print("\nno longer followed; the run continues", markup=False)
        console.print(f"tune-jobs stop {submission.id} {at} ends it", markup=False)
        return
    submission, later = _find_submission(server, submission.id)
    _print_later(later, server)
    _raise_ending(server, submission)


def _stop(options: argparse.Namespace, rest: list[str], console: Console) -> None:
    server = _server(options.address)
    submission, later = _find_submission(server, options.id)
    if later is not None:
        console.print(f"{later.id} has gone on with the run of {submission.id}", markup=False)
        submission = later
    if submission.over:
        raise SubmissionError(f"{submission.id}: is over ({submission.state.text}); there is nothing to stop")
    server.stop(submission.id)
    deadline = time.monotonic() + SECONDS_TO_STOP
    while not (submission := server.submission(submission.id)).over:
        if time.monotonic() > deadline:
            raise ClusterError(
                f"{submission.id}: was asked to stop, and has not yet; `tune-jobs status {submission.id} --address "
                f"{quoted(server.address)}` shows how it stands"
            )
        time.sleep(SECONDS_BETWEEN_STATUS_CHECKS)
    if not has_begun(server.log(submission.id)):
        console.print("stopped before the run had begun; there is nothing to resume", markup=False)
        return
    console.print("stopped; what was reported is kept", markup=False)
    console.print(
        f"resume: tune-jobs resume {quoted(submission.run)} --address {quoted(server.address)}", markup=False
    )


def resume_on_cluster(run: str, address: str, rest: Sequence[str], console: Console) -> None:
    """Resume a run on a cluster. `run` is its submission, or its path as the cluster sees it."""
    check_changeable(parse_overrides(rest), _id_in(run))  # what this machine can check needs no cluster
    server = _server(address)
    submissions = server.submissions()
    place = _place_of(run, submissions, server)
    name = place.rstrip("/").rpartition("/")[2]
    for one in submissions:
        if one.run == place and not one.over:
            shows = f"tune-jobs logs {one.id} --follow --address {quoted(server.address)}"
            raise SubmissionError(f"{one.id}: is {one.state.text}; `{shows}` shows it")
    known = {one.id for one in submissions}
    number = next(n for n in range(2, len(known) + 3) if f"{name}-r{n}" not in known)
    words = " ".join(map(quoted, rest))
    server.submit(
        f"tune_jobs resume {quoted(place)} --address auto {words}".rstrip(),
        f"{name}-r{number}",
        metadata={"run": place, "name": name.rsplit("-", 2)[0]},
        environment=Handover(name).to_environment(),
    )
    _wait_for_begin(server, f"{name}-r{number}", console)
    console.print(f"run: {place}", markup=False)
    console.print(f"submission: {name}-r{number}", markup=False)


def _fetch(options: argparse.Namespace, rest: list[str], console: Console) -> None:
    from tune_jobs.submission.fetching import fetch_seen, fetch_through  # noqa: PLC0415 (imports Ray)

    folder = _open_visible(options.run, console)
    if folder is None:
        server = _server(options.address)
        place = _place_of(options.run, server.submissions(), server)
        folder = _open_visible(place, console) if place != options.run else None
    path = fetch_seen(folder, options.output) if folder else fetch_through(server, place, options.output)
    with suppress(DamagedRun):  # a command that opens it says so
        if open_run(path).ending is None:
            console.print(
                "the run has not ended: this is how it stood; later, fetch it once more, with another --output",
                markup=False,
            )
    console.print(f"run: {path}", markup=False)


def _server(address: str) -> "JobsServer":
    from tune_jobs.submission.client import JobsServer, parse_url  # noqa: PLC0415 (imports Ray)

    return JobsServer(parse_url(address))


def _wait_for_begin(server: "JobsServer", submission_id: str, console: Console) -> None:
    """Wait until the driver has started the run, for at most `SECONDS_TO_BEGIN`.

    Raises:
        SubmissionEnded: The driver refused the run, or failed.
    """
    deadline = time.monotonic() + SECONDS_TO_BEGIN
    while time.monotonic() < deadline:
        submission = server.submission(submission_id)
        begun = has_begun(server.log(submission_id))
        if submission.over:
            _raise_ending(server, submission)
        if begun or submission.over:
            console.print("the run has begun" if begun else NOTHING_LEFT, markup=False)
            return
        time.sleep(SECONDS_BETWEEN_STATUS_CHECKS)
    console.print(
        f"the run has not begun within {SECONDS_TO_BEGIN:g} s; it is not waited for any longer, and may begin yet: "
        f"tune-jobs status {submission_id} --address {quoted(server.address)}",
        markup=False,
    )


def _raise_ending(server: "JobsServer", submission: Submission) -> None:
    """Raise `SubmissionEnded` unless the run came to its end."""
    if submission.state is SubmissionState.DONE:
        return
    raise SubmissionEnded(
        f"{submission.id}: {submission.state.text}: {complaint_in(server.log(submission.id))}",
        exit_code_of(submission),
    )


def _place_of(run: str, submissions: Sequence[Submission], server: "JobsServer") -> str:
    """Return the path on the cluster of the run that a submission or a path names."""
    for one in submissions:
        if run in {one.id, one.name, one.run}:
            return one.run
    if run.startswith("/") or "://" in run:
        return run.rstrip("/")
    return server.submission(run).run  # raises if there is none


def _open_visible(place: str, console: Console) -> RunFolder | None:
    """Return the folder of a run that this machine can read, on a disk or in a store; None if only the cluster can."""
    if not is_uri(place) and not RunFolder(Path(place).resolve()).is_run:
        return None
    try:
        return whole_run(place)
    except RunFolderError as error:
        if not is_uri(place):
            raise
        console.print(f"{error}; the cluster is asked for it", markup=False)
        return None


def _find_submission(server: "JobsServer", text: str) -> tuple[Submission, Submission | None]:
    """Return the submission that a text names, and the latest one that has resumed the same run since, if any."""
    submissions = server.submissions()
    name = _id_in(text)
    submission = find_submission(name, submissions) or server.submission(name)  # raises if there is none
    return submission, later_than(submission, submissions)


def _print_later(later: Submission | None, server: "JobsServer") -> None:
    """Say on the error stream that a later submission has resumed the run: the log may go into a file."""
    if later is not None:
        shows = f"tune-jobs logs {later.id} --follow --address {quoted(server.address)}"
        make_console(stderr=True).print(
            f"{later.id} has gone on with the run ({later.state.text}): {shows}", markup=False
        )


def _id_in(text: str) -> str:
    """Return the id of a submission, also from the path of its run folder, which has the same name."""
    return text.rstrip("/").rpartition("/")[2]
