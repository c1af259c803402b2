"""Show a run in progress: a live view in a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live

from tune_jobs.cli.panel import Panel
from tune_jobs.cli.progress import RunProgress
from tune_jobs.cli.screen import Escaped
from tune_jobs.record.events import (
    EpochsReported,
    Event,
    NoticeAdded,
    RunEnded,
    RunResumed,
    RunStarted,
    TrialEnded,
    TrialPaused,
    TrialUnplaceable,
)
from tune_jobs.text import one_line

SECONDS_BETWEEN_LINES = 5.0
"""Smallest number of seconds between two lines of progress in plain output."""

SECONDS_WITHOUT_A_LINE = 60.0
"""Seconds without a line after which plain output prints one although no trial has ended."""

DRAWS_PER_SECOND = 4
"""Number of times per second that the live view is drawn."""

KINDS_OF_FAILURE = 10
"""Largest number of reasons for which plain output prints the first failure."""


class View(Protocol):
    """Shows the events of a run while it lasts."""

    def __call__(self, event: Event, /) -> None: ...
    def notice(self, text: str, /) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class LiveView:
    """A few lines at the foot of a terminal, kept up to date.

    Args:
        progress: The progress of the run; the view applies the events to it.
        console: The terminal.
    """

    def __init__(self, progress: RunProgress, console: Console) -> None:
        self._progress = progress
        escaped = Escaped(Panel(progress))
        self._live = Live(
            console=console,
            get_renderable=lambda: escaped,
            refresh_per_second=DRAWS_PER_SECOND,
        )

    def __call__(self, event: Event) -> None:
        self._progress.apply(event)
        for notice in _notices(event):
            self._live.console.print(f"notice: {notice}", style="yellow", markup=False, soft_wrap=True)

    def notice(self, text: str) -> None:
        """Show a notice that no event holds, until the next one; an empty text removes it."""
        self._progress.note = text

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)


class PlainView:
    """A line from time to time, for files and logs.

    Args:
        progress: The progress of the run; the view applies the events to it.
        console: The console on which the lines are printed.
        beginning: The first line.
    """

    def __init__(self, progress: RunProgress, console: Console, beginning: str) -> None:
        self._progress = progress
        self._console = console
        self._beginning = beginning
        self._printed = time.monotonic()
        self._reported = len(progress.failures)

    def __call__(self, event: Event) -> None:
        self._progress.apply(event)
        silent = time.monotonic() - self._printed
        due = (isinstance(event, TrialEnded | TrialPaused) and silent > SECONDS_BETWEEN_LINES) or (
            isinstance(event, EpochsReported) and silent > SECONDS_WITHOUT_A_LINE
        )
        for notice in _notices(event):
            self._print(f"notice: {notice}")
        if due or isinstance(event, RunEnded):
            self._print(self._progress.line())
        if (
            isinstance(event, TrialEnded)
            and self._reported < len(self._progress.failures) <= KINDS_OF_FAILURE
        ):
            self._reported = len(self._progress.failures)
            self._print(f"trial {event.trial_id} failed: {one_line(event.reason)}")

    def notice(self, text: str) -> None:
        """Print a notice that no event holds, once; an empty text prints nothing."""
        if text and text != self._progress.note:
            self._print(f"notice: {text}")
        self._progress.note = text

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, markup=False, highlight=False)
        self._printed = time.monotonic()

    def __enter__(self) -> Self:
        self._print(self._beginning)
        return self

    def __exit__(self, *_: object) -> None:
        return


def _notices(event: Event) -> tuple[str, ...]:
    if isinstance(event, NoticeAdded):
        return (event.text,)
    if isinstance(event, TrialUnplaceable):
        return (f"trial {event.trial_id} {event.reason}",)
    return tuple(event.notices) if isinstance(event, RunStarted | RunResumed) else ()


def make_view(progress: RunProgress, console: Console, beginning: str) -> View:
    """Return the view that suits `console`; `beginning` is the first line if it is no terminal."""
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveView(progress, console)
    return PlainView(progress, console, beginning)
