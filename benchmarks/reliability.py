"""Measure the cost of reliability: the journal by record and as a share of a run, and the start of a resumed run."""

import os
import signal
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.runs import (
    DIGITS_JOB,
    FinishedRun,
    journal_so_far,
    private_folder,
    run_tune_jobs,
    started,
    tune_jobs_command,
)
from benchmarks.timing import ratio_table, side_by_side
from tune_jobs.record.events import EpochsReported, Event, RunResumed, TrialEnded
from tune_jobs.record.journal import Journal

TARGET_MILLISECONDS = 1.0
TARGET_SHARE = 0.02
LENGTHS = (1_000, 10_000, 100_000)
"""Lengths of the journal, in records, at which the cost of one more record is shown."""
TIMED_RECORDS = 1_000
"""Records before each of these lengths that are timed."""
ENDED_BEFORE_THE_KILL = 20


def time_appends(events: Sequence[Event], path: Path) -> list[float]:
    """Append `events` to a new journal at `path` and return the seconds that each took."""
    seconds = []
    with Journal(path) as journal:
        for event in events:
            began = time.perf_counter()
            journal.append(event)
            seconds.append(time.perf_counter() - began)
    return seconds


def repeat(events: Sequence[Event], length: int) -> list[Event]:
    """Return `length` events: those of a run, repeated."""
    return [replace(events[number % len(events)]) for number in range(length)]


def seconds_to_first_epoch(events: Sequence[Event], since: float) -> float:
    """Return the seconds from `since` to the beginning of the first epoch that was reported later.

    Raises:
        ValueError: No epoch was reported after `since`.
    """
    for event in events:
        if isinstance(event, EpochsReported) and event.time > since:
            return event.time - sum(float(result["seconds"]) for result in event.results) - since
    raise ValueError(f"No epoch was reported after {since}, in {len(events)} events.")


def resumed_run() -> float:
    """Kill a run in its middle, resume it, and return the seconds from the start of the process to the first epoch."""
    with private_folder() as folder:
        storage = folder / "runs"
        with started(["-c", _KILLED.format(command=tune_jobs_command(DIGITS_JOB, storage))], folder):
            while (
                sum(isinstance(event, TrialEnded) for event in journal_so_far(storage))
                < ENDED_BEFORE_THE_KILL
            ):
                time.sleep(0.1)
            (run,) = storage.iterdir()
            os.kill(int(Path(folder, "pid").read_text()), signal.SIGKILL)
        began = time.time()
        with started(["-m", "tune_jobs", "resume", str(run)], folder):
            pass
        events = journal_so_far(storage)
    place = next(number for number, event in enumerate(events) if isinstance(event, RunResumed))
    return seconds_to_first_epoch(events[place:], began)


_KILLED = """
import os, pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, *{command!r}])
pathlib.Path(os.environ["TMPDIR"], "pid").write_text(str(child.pid))
child.wait()
"""
"""A parent process that outlives the run: the killed run is then no failure of the measurement."""


def fresh_run() -> float:
    """Return the seconds from the start of the process to the first epoch of a new run."""
    run = run_tune_jobs(DIGITS_JOB)
    return seconds_to_first_epoch(run.events, run.started)


def journal_table(run: FinishedRun, folder: Path) -> str:
    """Return a Markdown table of the cost of a record by journal length, and the share of the run for its records."""
    rows = ["| Records | bytes a record | ms for one more, median | 95th percentile |", "|---|---|---|---|"]
    seconds = time_appends(repeat(run.events, max(LENGTHS)), folder / "long.jsonl")
    size = (folder / "long.jsonl").stat().st_size / max(LENGTHS)
    for length in LENGTHS:
        last = sorted(seconds[length - TIMED_RECORDS : length])
        rows.append(
            f"| {length:,} | {size:.0f} | {1e3 * statistics.median(last):.3f} | "
            f"{1e3 * last[int(0.95 * TIMED_RECORDS)]:.3f} |"
        )
    own = sum(time_appends(run.events, folder / "own.jsonl"))
    rows.append(
        f"\nThe {len(run.events)} records of a run of 64 trials take {own:.3f} s of its {run.wall_seconds:.1f} s: "
        f"{100 * own / run.wall_seconds:.2f} % (bar {100 * TARGET_SHARE:.0f} %)."
    )
    return "\n".join(rows)


def report(repeats: int) -> str:
    """Measure and return a Markdown section."""
    run = run_tune_jobs(DIGITS_JOB)
    with private_folder() as folder:
        journal = journal_table(run, folder)
    times = side_by_side({"a new run": fresh_run, "a resumed run": resumed_run}, repeats)
    return (
        f"## Reliability\n\n### The journal (bar: {TARGET_MILLISECONDS:g} ms a record)\n\n{journal}\n\n"
        "### From the start of the process to the first new epoch\n\n"
        + ratio_table(times, baseline="a new run", unit="seconds")
    )
