"""What a person sees of a run in progress: a live view in a terminal, plain lines elsewhere."""

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tune_jobs.display import configuration_text, duration_text, number_text
from tune_jobs.events import (
    EpochsReported,
    Event,
    RunEnded,
    RunResumed,
    RunStarted,
    Status,
    TrialEnded,
    TrialWaits,
    in_force,
)
from tune_jobs.job import Job
from tune_jobs.records import RunRecord

SECONDS_BETWEEN_LINES = 5.0
"""Plain output says how the run stands at most this often."""

_STATES = (
    (Status.RUNNING, "running", "cyan"),
    (Status.WAITING, "waiting", "blue"),
    (Status.COMPLETED, "completed", "green"),
    (Status.STOPPED_EARLY, "stopped early", "yellow"),
    (Status.FAILED, "failed", "red"),
)


class Standing:
    """How a run stands: the record of its events, and what follows from it and the clock.

    Args:
        job: of the run.
        past: events of a run that is resumed; speed and time left count from now on.
    """

    def __init__(self, job: Job, past: Sequence[Event] = ()) -> None:
        self.record = RunRecord.replay(in_force(past), job.selection)
        self.asked = job.trials
        self._past = past
        self._epochs_before = self._epochs
        self._passed_before = self.passed
        self._begun = time.time()
        self._first_report: float | None = None
        self._lock = threading.RLock()

    def apply(self, event: Event) -> None:
        """Takes one event into account; the view may be drawn by another thread."""
        with self._lock:
            self.record.apply(event)
            if isinstance(event, RunStarted | RunResumed):
                self.asked = event.trials
            if isinstance(event, RunResumed):
                self.record = RunRecord.replay(in_force([*self._past, event]), self.record.score)
                self._passed_before = self.passed
            if self._first_report is None and isinstance(event, EpochsReported):
                self._first_report = event.time - sum(float(result["seconds"]) for result in event.results)

    @property
    def ended(self) -> int:
        return sum(trial.status.ended for trial in self.record.trials.values())

    @property
    def passed(self) -> int:
        """Trials that have ended or wait: few of those that wait go on, so that most of their work is done."""
        return self.ended + self.count(Status.WAITING)

    @property
    def seconds(self) -> float:
        """Since the run was asked for, up to now or to its end."""
        end = self.record.ended.time if self.record.ended else time.time()
        return end - self._begun

    @property
    def first_epoch_seconds(self) -> float | None:
        return None if self._first_report is None else self._first_report - self._begun

    @property
    def epochs_per_second(self) -> float:
        """Since the first trial began."""
        begun = self.first_epoch_seconds
        epochs = self._epochs - self._epochs_before
        return 0.0 if begun is None else epochs / max(self.seconds - begun, 1e-9)

    @property
    def _epochs(self) -> int:
        return sum(len(trial.epochs) for trial in self.record.trials.values())

    @property
    def seconds_left(self) -> float | None:
        """As long as the trials so far suggest; None before the first has passed, and after the run."""
        begun, passed = self.first_epoch_seconds, self.passed - self._passed_before
        if begun is None or passed <= 0 or self.record.ended is not None:
            return None
        return (self.seconds - begun) / passed * (self.asked - self.passed)

    def count(self, status: Status) -> int:
        return len(self.record.with_status(status))

    def line(self) -> str:
        """The standing in one line of text."""
        counts = ", ".join(
            f"{self.count(status)} {name}" for status, name, _ in _STATES if self.count(status)
        )
        parts = [
            f"{duration_text(self.seconds)}: {self.ended} of {self.asked} trials ended ({counts or 'starting'})"
        ]
        if (best := self.best_text()) is not None:
            parts.append(f"best {best}")
        parts.append(self.speed_text())
        if self.seconds_left is not None:
            parts.append(f"about {duration_text(self.seconds_left)} left")
        return "; ".join(parts)

    def speed_text(self) -> str:
        """`214 epochs/s`, `0.37 epochs/s`."""
        speed = self.epochs_per_second
        return f"{speed:.0f} epochs/s" if speed >= 10 else f"{speed:.2g} epochs/s"

    def best_text(self) -> str | None:
        """`val_loss 0.0712 (trial 0007, epoch 9)`; None before the first score."""
        scored = [(best, t) for t in self.record.trials.values() if (best := self.record.best(t.trial_id))]
        if not scored:
            return None
        sign = 1 if self.record.score.mode == "min" else -1
        best, trial = min(scored, key=lambda pair: sign * pair[0].score)
        where = f"(trial {trial.trial_id}, epoch {best.epoch})"
        configuration = configuration_text(trial.configuration)
        return f"{self.record.score.metric} {number_text(best.score)} {where}: {configuration}"

    def panel(self) -> RenderableType:
        """The standing as a few coloured lines."""
        with self._lock:
            return self._panel()

    def _panel(self) -> RenderableType:
        counts = Text("  ").join(
            Text.assemble((str(self.count(status)), colour), f" {name}")
            for status, name, colour in _STATES
            if self.count(status)
        )
        facts = Table.grid(padding=(0, 2))
        facts.add_column(style="dim")
        facts.add_column()
        facts.add_row(
            "trials", Text.assemble((str(self.ended), "bold"), f" of {self.asked} ended   ", counts)
        )
        facts.add_row("best", Text(self.best_text() or "no score yet"))
        left = self.seconds_left
        remaining = "" if left is None else f"   about {duration_text(left)} left"
        begun = self.first_epoch_seconds is not None
        speed = self.speed_text() if begun else "starting Ray and its workers"
        facts.add_row("time", f"{duration_text(self.seconds)}   {speed}{remaining}")
        bar = Table.grid()  # a bar by itself ends without a new line
        bar.add_row(ProgressBar(total=max(self.asked, 1), completed=self.passed, width=40))
        return Group(bar, facts)


class View(Protocol):
    """Shows the events of a run while it lasts."""

    def __call__(self, event: Event, /) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class LiveView:
    """A few lines at the foot of a terminal that are kept up to date."""

    def __init__(self, job: Job, console: Console, past: Sequence[Event] = ()) -> None:
        self._standing = Standing(job, past)
        self._live = Live(console=console, get_renderable=self._standing.panel, refresh_per_second=4)

    def __call__(self, event: Event) -> None:
        self._standing.apply(event)
        if isinstance(event, RunStarted | RunResumed):
            for notice in event.notices:
                self._live.console.print(f"notice: {notice}", style="yellow", markup=False, soft_wrap=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)


class PlainView:
    """A line now and then, for files and logs."""

    def __init__(self, job: Job, console: Console, past: Sequence[Event] = ()) -> None:
        self._standing = Standing(job, past)
        self._console = console
        self._printed = time.monotonic()
        made = f", of which {len(self._standing.record.trials)} were made before" if past else ""
        self._beginning = (
            f"{job.name}: {job.trials} trials{made}; reading the data, starting Ray and its workers"
        )

    def __call__(self, event: Event) -> None:
        self._standing.apply(event)
        due = time.monotonic() - self._printed > SECONDS_BETWEEN_LINES
        if isinstance(event, RunStarted | RunResumed):
            for notice in event.notices:
                self._print(f"notice: {notice}")
        elif isinstance(event, RunEnded) or (isinstance(event, TrialEnded | TrialWaits) and due):
            self._print(self._standing.line())

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, markup=False, highlight=False)
        self._printed = time.monotonic()

    def __enter__(self) -> Self:
        self._print(self._beginning)
        return self

    def __exit__(self, *_: object) -> None:
        return


def make_view(job: Job, console: Console, past: Sequence[Event] = ()) -> View:
    """The view that suits where `console` writes to; `past` are the events of a run that is resumed."""
    return (LiveView if console.is_terminal else PlainView)(job, console, past)
