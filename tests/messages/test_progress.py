"""What is seen of a run in progress: in a log, and in terminals of two widths; drawn from recorded events."""

import io
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from tests.messages import product, runs
from tests.messages.jobs import JOB
from tests.messages.product import Ending, Event, LiveView, Panel, PlainView, RunProgress, Status, views
from tests.messages.snapshots import check


class Clock:
    """Stands still until it is set."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def moments(job: product.Job) -> dict[str, list[Event]]:
    """A run at several moments."""
    whole = runs.whole(job)
    many = [event for n in range(6) for event in (runs.created(n), runs.begun(n))]
    return {
        "before the first event": [],
        "as the workers start": [runs.started(job), runs.created(0)],
        "with one trial": [*whole[:7], runs.begun(0), runs.epochs(0, 0.5, 0.25)],
        "with a trial of every fate": whole,
        "with failures of many kinds": [
            runs.started(job),
            *many,
            *(runs.ended(n, Status.FAILED, "abcdef"[n] * 4 + " is wrong," + " and long" * 12) for n in range(6)),
        ],
        "with trials that find no place": [
            runs.started(job),
            *many,
            *(runs.unplaced(n, "has waited 30 s for a machine; it asks for 4 CPUs") for n in range(3)),
        ],
        "with workers that were lost": [
            runs.started(job), *many, *(runs.lost(n, "the worker died: killed by the system") for n in range(2)),
        ],
        "at its end": runs.finished(job),
    }  # fmt: skip


def drawn(job: product.Job, events: Iterable[Event], width: int, *, note: str = "") -> str:
    timed = runs.timed(events)
    clock = Clock(runs.BEGUN + 4000 if not timed else timed[-1].time + 1)
    progress = RunProgress(job, timed, asked_at=None if timed else runs.BEGUN, clock=clock)
    progress.note = note
    console = Console(file=io.StringIO(), width=width, color_system=None, emoji=False)
    console.print(Panel(progress))
    assert isinstance(console.file, io.StringIO)
    return f"{console.file.getvalue()}in one line: {progress.line()}"


@pytest.mark.parametrize("width", [60, 80])
def test_the_panel(place: Path, width: int) -> None:
    job = runs.job_in(place)
    said = {name: drawn(job, events, width) for name, events in moments(job).items()}
    said["with a note"] = drawn(job, runs.whole(job), width, note="nothing was heard for 2 min " * 4)
    for method in ("asha_stopping", "median", "none"):
        other = runs.job_in(place, JOB + f"scheduler: {{method: {method}}}\n")
        said[f"under {method}"] = drawn(other, runs.without_waiting(runs.finished(other)), width)
    check(f"panel_{width}", said, {place: "FOLDER"})


def test_lines_of_a_log_and_notices_of_a_terminal(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = runs.job_in(place)
    said = {}
    minutes = count(0, 100)  # so that each line is due
    monkeypatch.setattr(views, "time", SimpleNamespace(monotonic=lambda: float(next(minutes))))
    for name, view in {"log": PlainView, "terminal": LiveView}.items():
        for how, events in {
            "finished": runs.finished(job),
            "interrupted": runs.interrupted(job, Ending.INTERRUPTED),
            "of one unplaced trial": moments(job)["with trials that find no place"],
        }.items():
            file = io.StringIO()
            console = Console(
                file=file, width=80, height=24, color_system=None, force_terminal=name == "terminal"
            )
            timed = runs.timed(events)
            clock = Clock(runs.BEGUN)
            progress = RunProgress(job, asked_at=runs.BEGUN - 2, clock=clock)
            shown = (
                view(progress, console, "small: 6 trials") if view is PlainView else view(progress, console)
            )  # type: ignore[call-arg]
            if view is PlainView:
                with shown:
                    for event in timed:
                        clock.now = event.time
                        shown(event)
                    shown.notice("nothing was heard for 2 min")
                    shown.notice("")
            else:
                for event in timed:
                    shown(event)
            said[f"{name}, {how}"] = file.getvalue()
    check("progress", said, {place: "FOLDER"})
