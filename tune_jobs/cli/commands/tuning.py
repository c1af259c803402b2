"""The commands that tune, and the one that watches it: `run`, `resume`, `watch`."""

import argparse
import time
from pathlib import Path

from rich.console import Console

from tune_jobs.cli.commands.cluster import (
    NOTHING_LEFT,
    address_to_resume,
    is_jobs_address,
    refuse_jobs_address,
    resume_on_cluster,
)
from tune_jobs.cli.parser import JOB, RUN, Commands
from tune_jobs.cli.progress import RunProgress
from tune_jobs.cli.summary import print_tuned
from tune_jobs.cli.views import make_view
from tune_jobs.cli.watching import Watched, watch
from tune_jobs.driver.conclusion import raise_unless_succeeded
from tune_jobs.driver.lifecycle import resume, run
from tune_jobs.driver.resumption import is_over, job_to_resume
from tune_jobs.errors import Interrupted
from tune_jobs.holdout.rows import refuse_copy
from tune_jobs.job.file import parse_overrides
from tune_jobs.job.job import Job
from tune_jobs.record.journal import read_journal, refuse_if_in_use
from tune_jobs.remote.working_copy import address_text, open_folder
from tune_jobs.results import open_run
from tune_jobs.submission.handover import Handover
from tune_jobs.text import quoted


def add_commands(commands: Commands) -> None:
    """Add the commands to the command line."""
    tune = commands.add(
        "run", _run, "Tune: search, select a winner, leave a run folder.", JOB, overrides=True
    )
    continuing = commands.add(
        "resume", _resume, "Continue a run that was interrupted, or extend it: `--search.trials 100`.", RUN,
        overrides=True,
    )  # fmt: skip
    for parser in (tune, continuing):
        parser.add_argument(
            "--address", metavar="HOST:PORT", help="head of a running Ray cluster; `auto`: this machine's"
        )
    watching = commands.add(
        "watch", _watch, "Show a run in progress, from another terminal or machine; Ctrl-C leaves the run alone.",
        RUN,
    )  # fmt: skip
    watching.set_defaults(only_shows=True)


def _run(options: argparse.Namespace, rest: list[str], console: Console) -> None:
    refuse_jobs_address(options.address)
    handover = Handover.from_environment()
    announcers = [] if handover is None else [handover.make_announcer(console)]
    if handover is not None:
        handover.check_versions()
    job = Job.from_file(options.job, parse_overrides(rest))
    beginning = f"{job.name}: {job.trials} trials; {_preparing(options.address)}"

    def tune() -> Path:
        with make_view(RunProgress(job, asked_at=time.time()), console, beginning) as view:
            return run(job, address=options.address, listeners=[view, *announcers], handover=handover).path

    print_tuned(tune, console)


def _preparing(address: str | None) -> str:
    ray = "starting Ray and its workers" if address is None else "joining the cluster"
    return f"reading the data, {ray}"


def _resume(options: argparse.Namespace, rest: list[str], console: Console) -> None:
    address = address_to_resume(options.run, options.address)
    if is_jobs_address(address):
        resume_on_cluster(options.run, address, rest, console)
        return
    handover = Handover.from_environment()
    announcers = [] if handover is None else [handover.make_announcer(console)]
    overrides = parse_overrides(rest)
    folder = open_folder(options.run)
    refuse_copy(folder)
    if handover is not None:
        handover.enter(folder)
    refuse_if_in_use(folder.journal)  # before anything is announced
    past = read_journal(folder.journal)
    job = job_to_resume(folder, past, overrides)

    def tune() -> Path:
        if is_over(job, past):
            console.print(NOTHING_LEFT, markup=False)
            return resume(folder.path, overrides).path
        progress = RunProgress(job, past, asked_at=time.time())
        made = len(progress.record.trials)
        beginning = f"{job.name}: {job.trials} trials, of which {made} were made before; {_preparing(options.address)}"
        with make_view(progress, console, beginning) as view:
            return resume(folder.path, overrides, address=options.address, listeners=[view, *announcers]).path

    print_tuned(tune, console)


def _watch(options: argparse.Namespace, rest: list[str], console: Console) -> None:
    folder = open_folder(options.run)
    watched = watch(folder, console)
    if watched is Watched.LEFT:
        console.print(
            f"no longer watched; the run continues: tune-jobs watch {quoted(folder.address)}",
            markup=False,
        )
        console.print(f"run: {address_text(str(folder.path))}", markup=False)
        return

    def ended() -> Path:
        if watched is Watched.KILLED:
            raise Interrupted(
                "the run's process was killed; everything reported so far is saved. Continue with "
                f"`tune-jobs resume {quoted(folder.path)}`",
                folder.path,
            )
        return raise_unless_succeeded(open_run(folder.path)).path

    print_tuned(ended, console)
