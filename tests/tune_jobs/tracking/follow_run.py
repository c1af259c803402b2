"""Let W&B follow a run in the folder RUN: `python -m tests.tune_jobs.tracking.follow_run JOB RUN EVENTS PATIENCE`.

It stops in the middle, says so, and continues after the next line of its input.
"""

import json
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tune_jobs import Job
from tune_jobs.record.events import Event, event_from_mapping, in_force
from tune_jobs.record.journal import Journal
from tune_jobs.tracking import Guest, TrackedRun
from tune_jobs.tracking.wandb_tracker import WandbTracker


def write_report(path: Path) -> Path:
    report = path / "report.html"
    report.write_text("<!doctype html><title>A report</title>")
    return report


def write_events(path: Path, events: Iterable[Event]) -> None:
    """Write events for another process; a journal takes no part of a run without its beginning."""
    path.write_text("".join(json.dumps(event.to_mapping()) + "\n" for event in events))


def read_events(path: Path) -> list[Event]:
    return [event_from_mapping(json.loads(line)) for line in path.read_text().splitlines()]


def main() -> None:
    job, path, events, patience = (
        Job.from_file(sys.argv[1]),
        Path(sys.argv[2]),
        Path(sys.argv[3]),
        float(sys.argv[4]),
    )
    coming = read_events(events)
    with ExitStack() as stack, Journal(path / "journal" / "events.jsonl") as journal:
        past = in_force([*journal.past, *coming[:1]]) if journal.past else []
        tracker = WandbTracker(TrackedRun(job, path, past, partial(write_report, path)), patience=patience)
        journal.follow(stack.enter_context(Guest(tracker, "W&B")))
        for number, event in enumerate(coming):
            if number == len(coming) // 2:
                print("half", flush=True)
                sys.stdin.readline()
            journal.append(event)


if __name__ == "__main__":
    main()
