"""Trials on workers over time: what ran where, what waited, what was promoted, and when a worker was idle."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tune_jobs.display import duration_text
from tune_jobs.events import (
    EpochsReported,
    Event,
    RunEnded,
    RunResumed,
    RunStarted,
    Status,
    TrialEnded,
    TrialPromoted,
    TrialStarted,
    TrialWaits,
    WorkerLost,
)
from tune_jobs.records import RunRecord
from tune_jobs.report.scales import rounded
from tune_jobs.report.style import COLOURS, MAIN, WINNER, label, styled
from tune_jobs.report.words import counted

_LANE = 26
"""Pixels of a worker."""
_MOST_NAMED = 40
"""Lanes whose names are all written."""


class Close(StrEnum):
    """How a stretch of training came to its end."""

    WAITS = "waits at a rung"
    ENDED = "ended"
    LOST = "lost its worker"
    CUT_OFF = "cut off with the run"
    RUNNING = "running"


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A trial on a worker, from when its first epoch began to when the worker was free again.

    Times are in seconds since the start of the run.
    """

    trial_id: str
    worker: str
    lane: int
    start: float
    end: float
    first_epoch: int
    last_epoch: int
    close: Close


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """A trial that waited was let go on."""

    trial_id: str
    epoch: int
    time: float


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """What happened when; all times in seconds since the start of the run."""

    end: float
    lanes: Sequence[str]
    """Names: `worker 1`, with the host where there are several."""
    stretches: Sequence[Stretch]
    promotions: Sequence[Promotion]
    waiting: Sequence[tuple[float, int]]
    """Times at which the number of waiting trials changed, and to what."""
    gaps: Sequence[tuple[float, float]]
    """Between an interruption and its resumption, when no driver ran."""
    first: float
    """When the first epoch of the run began."""

    def busy(self, lane: int) -> float:
        """Seconds that the lane was training."""
        return sum(stretch.end - stretch.start for stretch in self.stretches if stretch.lane == lane)

    @property
    def at_work(self) -> float:
        """Seconds from the first trial to the end, without the gaps."""
        lost = sum(end - max(start, self.first) for start, end in self.gaps if end > self.first)
        return max(self.end - self.first - lost, 0.0)


@dataclass
class _Open:
    """A stretch that has not come to its end; the worker is known from its first report on."""

    start: float
    worker: str = ""
    first_epoch: int = 0
    last_epoch: int = 0


@dataclass
class _Reading:
    """The journal, read up to some event."""

    open: dict[str, _Open] = field(default_factory=dict)
    done: list[tuple[str, _Open, float, Close]] = field(default_factory=list)
    promotions: list[Promotion] = field(default_factory=list)
    waiting: set[str] = field(default_factory=set)
    counts: list[tuple[float, int]] = field(default_factory=list)
    gaps: list[tuple[float, float]] = field(default_factory=list)
    last: float = 0.0

    def apply(self, event: Event, time: float) -> None:
        """Takes one event into account; `time` is since the run's start."""
        match event:
            case RunResumed():
                self._close_all(self.last, Close.CUT_OFF)
                self.gaps.append((self.last, time))
            case TrialStarted():
                self.open[event.trial_id] = _Open(time)
            case EpochsReported():
                self._report(event, time)
            case TrialWaits():
                self._close(event.trial_id, time, Close.WAITS)
                self.waiting.add(event.trial_id)
            case TrialPromoted() if event.trial_id in self.waiting:
                self.promotions.append(Promotion(trial_id=event.trial_id, epoch=event.epoch, time=time))
                self.waiting.discard(event.trial_id)
            case WorkerLost():
                self._close(event.trial_id, time, Close.LOST)
            case TrialEnded():
                close = Close.CUT_OFF if event.resumable else Close.ENDED
                self._close(event.trial_id, time, close)
                if not event.resumable:
                    self.waiting.discard(event.trial_id)
            case RunEnded():
                self._close_all(time, Close.CUT_OFF)
        if not self.counts or self.counts[-1][1] != len(self.waiting):
            self.counts.append((time, len(self.waiting)))
        self.last = time

    def _report(self, event: EpochsReported, time: float) -> None:
        opened = self.open.setdefault(event.trial_id, _Open(time))
        epochs = [int(result["epoch"]) for result in event.results]
        if not opened.worker:  # until its first epoch began, the worker was starting, or the trial on its way
            opened.start = max(opened.start, time - sum(float(result["seconds"]) for result in event.results))
        opened.worker = event.worker
        if epochs:
            opened.first_epoch = opened.first_epoch or min(epochs)
            opened.last_epoch = max(epochs)

    def _close(self, trial_id: str, time: float, close: Close) -> None:
        opened = self.open.pop(trial_id, None)
        if opened is not None and opened.worker:  # what never reported stood on no worker that is known
            self.done.append((trial_id, opened, time, close))

    def _close_all(self, time: float, close: Close) -> None:
        for trial_id in list(self.open):
            self._close(trial_id, time, close)


def timeline(events: Sequence[Event], now: float) -> Timeline | None:
    """The timeline that the events of a journal tell of; None where no trial has reported yet.

    Args:
        events: all of them, with those that a resumption took back.
        now: seconds since the epoch, at which what has no end yet is cut.
    """
    started = next((event.time for event in events if isinstance(event, RunStarted)), None)
    if started is None:
        return None
    reading = _Reading()
    for event in events:
        if not event.type.startswith("holdout"):  # long after the end
            reading.apply(event, event.time - started)
    end = max(reading.last, now - started) if reading.open else reading.last
    reading._close_all(end, Close.RUNNING)
    if not reading.done:
        return None
    lanes, stretches = _in_lanes(reading.done)
    return Timeline(
        end=end,
        lanes=lanes,
        stretches=stretches,
        promotions=reading.promotions,
        waiting=[*reading.counts, (end, len(reading.waiting))],
        gaps=reading.gaps,
        first=min(stretch.start for stretch in stretches),
    )


def _in_lanes(
    done: Iterable[tuple[str, _Open, float, Close]],
) -> tuple[list[str], list[Stretch]]:
    """A lane for each worker; a worker that comes after another of its host has gone takes over its lane.

    A worker may be told to begin a trial a moment before the end of the one before is written: a stretch begins no
    earlier than the one before it on its worker has ended.
    """
    ordered = sorted(done, key=lambda item: (item[1].start, item[2]))
    spans: dict[str, list[float]] = {}
    for _, opened, end, _ in ordered:
        span = spans.setdefault(opened.worker, [opened.start, end])
        span[1] = max(span[1], end)
    lane_of: dict[str, int] = {}
    hosts: list[str] = []
    free_from: list[float] = []
    for worker, (start, end) in spans.items():
        host = worker.rpartition(":")[0]
        free = [n for n, until in enumerate(free_from) if hosts[n] == host and until <= start]
        if free:
            lane_of[worker] = free[0]
            free_from[free[0]] = end
        else:
            lane_of[worker] = len(hosts)
            hosts.append(host)
            free_from.append(end)
    until: dict[str, float] = {}
    stretches = []
    for trial_id, opened, end, close in ordered:
        start = min(max(opened.start, until.get(opened.worker, 0.0)), end)
        until[opened.worker] = end
        stretches.append(
            Stretch(
                trial_id=trial_id,
                worker=opened.worker,
                lane=lane_of[opened.worker],
                start=start,
                end=end,
                first_epoch=opened.first_epoch,
                last_epoch=opened.last_epoch,
                close=close,
            )
        )
    return _lane_names(hosts), stretches


def _lane_names(hosts: Sequence[str]) -> list[str]:
    several = len(set(hosts)) > 1
    counts: dict[str, int] = {}
    names = []
    for host in hosts:
        counts[host] = counts.get(host, 0) + 1
        names.append(f"{host} {counts[host]}" if several else f"worker {counts[host]}")
    return names


def timeline_figure(given: Timeline, record: RunRecord, winner: str | None) -> go.Figure:
    """A bar a stretch, in the colour of how it came to its end; below, how many trials wait.

    Args:
        given: the timeline.
        record: of the run, for the states in which trials have ended.
        winner: id of the trial that is shown in a colour of its own.
    """
    unit, divisor = _unit(given.end)
    lanes = max(_LANE * len(given.lanes), 60) if len(given.lanes) <= _MOST_NAMED else 14 * len(given.lanes)
    panels = [lanes, 80] if any(count for _, count in given.waiting) else [lanes]
    figure = make_subplots(
        rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=min(0.3, 30 / (lanes + 110)),
        row_heights=panels,
    )  # fmt: skip
    groups: dict[tuple[str, str], list[Stretch]] = {}
    for stretch in given.stretches:
        groups.setdefault(_group(stretch, record, winner), []).append(stretch)
    for (name, colour), stretches in groups.items():
        figure.add_trace(_bars(stretches, record, name, colour, divisor), row=1, col=1)
    if given.promotions:
        figure.add_trace(_promotions(given, record, divisor), row=1, col=1)
    if len(panels) > 1:
        figure.add_trace(_waiting(given, divisor), row=2, col=1)
    for start, end in given.gaps:
        figure.add_vrect(
            x0=start / divisor, x1=end / divisor, fillcolor="rgba(128,136,150,0.2)", line_width=0
        )
    styled(
        figure,
        height=sum(panels) + 150,
        showlegend=True,
        barmode="overlay",
        bargap=0.25,
        hovermode="closest",
        margin={"l": 110, "t": 20, "b": 50},
        legend={"y": -0.0, "yref": "container", "yanchor": "bottom"},
    )
    texts = [f"{name} · {_share(given, lane)}" for lane, name in enumerate(given.lanes)]
    every = max(1, len(texts) // _MOST_NAMED)
    figure.update_yaxes(
        row=1, col=1, tickvals=list(range(len(texts)))[::every], ticktext=texts[::every], showgrid=False,
        range=[len(texts) - 0.4, -0.6],
    )  # fmt: skip
    if len(panels) > 1:
        figure.update_yaxes(row=2, col=1, title={"text": "waiting"}, rangemode="tozero", nticks=4)
    figure.update_xaxes(range=[0, given.end / divisor])
    figure.update_xaxes(row=len(panels), col=1, title={"text": f"{unit} since the start"})
    return figure


def caption(given: Timeline) -> str:
    """What the timeline adds up to."""
    available = given.at_work * len(given.lanes)
    busy = sum(stretch.end - stretch.start for stretch in given.stretches)
    share = f"busy {busy / available:.0%} of " if available > 0 else ""
    pauses = sum(stretch.close is Close.WAITS for stretch in given.stretches)
    lost = sum(stretch.close is Close.LOST for stretch in given.stretches)
    parts = [
        f"{counted(len(given.lanes), 'worker')}, {share}{duration_text(given.at_work)} from the first trial on",
        f"{counted(pauses, 'pause')} at rungs, {counted(len(given.promotions), 'promotion')} after one",
        *([f"{counted(lost, 'worker')} lost"] if lost else []),
        *([f"{counted(len(given.gaps), 'interruption')} (grey)"] if given.gaps else []),
    ]
    triangles = " A triangle is a trial that goes on after it has waited." if given.promotions else ""
    return (
        f"{'; '.join(parts)}. Where a lane is empty no epoch was computed there: the worker was starting, changing "
        f"trials, or without one.{triangles}"
    )


def _group(stretch: Stretch, record: RunRecord, winner: str | None) -> tuple[str, str]:
    """Name and colour of the kind of a stretch."""
    if stretch.trial_id == winner:
        return "winner", WINNER
    match stretch.close:
        case Close.ENDED:
            status = record.trials[stretch.trial_id].status
            return label(status), COLOURS[status]
        case Close.WAITS:
            return "then waits", COLOURS[Status.WAITING]
        case Close.LOST:
            return "worker lost", "#7a1f2b"
        case Close.CUT_OFF:
            return "cut off with the run", COLOURS[Status.INTERRUPTED]
        case Close.RUNNING:
            return "running", COLOURS[Status.RUNNING]


def _bars(stretches: Sequence[Stretch], record: RunRecord, name: str, colour: str, divisor: float) -> go.Bar:
    def text(stretch: Stretch) -> str:
        epochs = (
            f"epoch {stretch.first_epoch}"
            if stretch.first_epoch == stretch.last_epoch
            else f"epochs {stretch.first_epoch} to {stretch.last_epoch}"
        )
        return f"{epochs}, {stretch.end - stretch.start:.2g} s"

    return go.Bar(
        orientation="h",
        y=[stretch.lane for stretch in stretches],
        base=[rounded(stretch.start / divisor) for stretch in stretches],
        x=[rounded((stretch.end - stretch.start) / divisor) for stretch in stretches],
        customdata=[record.trials[stretch.trial_id].number for stretch in stretches],
        text=[text(stretch) for stretch in stretches],
        textposition="none",
        name=name,
        marker={"color": colour, "line": {"width": 0}, "opacity": 0.9},
        hovertemplate=f"trial %{{customdata}}: %{{text}}, {name}<extra></extra>",
    )


def _promotions(given: Timeline, record: RunRecord, divisor: float) -> go.Scatter:
    """At the stretch that each promotion led to, as far as there is one."""
    places = []
    for promotion in given.promotions:
        led_to = next(
            (s for s in given.stretches if s.trial_id == promotion.trial_id and s.end >= promotion.time), None
        )
        if led_to is not None:
            places.append((led_to, promotion))
    return go.Scatter(
        x=[rounded(stretch.start / divisor) for stretch, _ in places],
        y=[stretch.lane - 0.42 for stretch, _ in places],
        customdata=[record.trials[promotion.trial_id].number for _, promotion in places],
        text=[str(promotion.epoch) for _, promotion in places],
        mode="markers",
        name="promoted",
        marker={"symbol": "triangle-down", "size": 7, "color": MAIN},
        hovertemplate="trial %{customdata} goes on from epoch %{text}<extra></extra>",
    )


def _waiting(given: Timeline, divisor: float) -> go.Scatter:
    return go.Scatter(
        x=[rounded(time / divisor) for time, _ in given.waiting],
        y=[count for _, count in given.waiting],
        mode="lines",
        line={"shape": "hv", "color": COLOURS[Status.WAITING], "width": 1.5},
        fill="tozeroy",
        hovertemplate="%{y} waiting<extra></extra>",
        showlegend=False,
    )


def _share(given: Timeline, lane: int) -> str:
    return f"{min(given.busy(lane) / given.at_work, 1.0):.0%}" if given.at_work > 0 else ""


def _unit(seconds: float) -> tuple[str, float]:
    if seconds < 300:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds < 3 * 3600 else ("hours", 3600.0)
