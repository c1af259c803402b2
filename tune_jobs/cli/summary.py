"""Print the result of a run: its best trials, its failures, its winner and its place."""

from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from tune_jobs.cli.tables import failures_display, outcome_lines, trials_display
from tune_jobs.errors import TuneJobsError, UnfinishedRun
from tune_jobs.record.folder import RunFolder
from tune_jobs.remote.working_copy import address_text
from tune_jobs.results import open_run
from tune_jobs.text import quoted
from tune_jobs.tracking.opening import reminders

TRIALS_AT_THE_END = 5
"""Trials that are printed when a run has ended."""


def print_tuned(tune: Callable[[], Path], console: Console) -> None:
    """Call `tune`, which returns the path of a run, and print what came of it, in whatever way it ended."""
    try:
        path = tune()
    except UnfinishedRun as error:
        try:
            print_run(error.path, console, TRIALS_AT_THE_END)
        except TuneJobsError:  # such as no selection on a full disk; why the run ended matters more
            console.print(f"run: {address_text(str(error.path))}", markup=False)
        raise
    print_run(path, console, TRIALS_AT_THE_END)


def print_run(path: Path, console: Console, most: int) -> None:
    """Print the `most` best trials of a run, its failures and its winner; the last line is `run: PATH`."""
    opened = open_run(path)
    address = address_text(str(path))
    console.print(trials_display(opened.record, most))
    hidden = len(opened.record.trials) - most
    if hidden > 0:
        more = f"and {hidden} more: tune-jobs show {quoted(address)} --most {len(opened.record.trials)}"
        console.print(more, style="dim", markup=False)
    for line in failures_display(opened.record):
        console.print(line, style="red", markup=False)
    left = reminders(RunFolder(opened.path)) if opened.ending else []
    for line in (*outcome_lines(opened), *left):
        console.print(line, markup=False)
    if opened.ending is not None and opened.record.trials:
        console.print(f"report: tune-jobs report {quoted(address)}", style="dim", markup=False)
    console.print(f"run: {address}", markup=False)
