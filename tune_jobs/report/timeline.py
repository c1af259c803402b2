"""Read the timeline of a run from its events: stretches of training, pauses, promotions, and idle workers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from tune_jobs.record.events import (
    EpochsReported,
    Event,
    HoldoutEvaluated,
    HoldoutUnsealed,
    RunEnded,
    RunResumed,
    RunStarted,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
    TrialStarted,
    WinnerSelected,
    WorkerLost,
)


class Close(StrEnum):
    """The way in which a stretch of training ended."""

    PAUSED = "paused"
    ENDED = "ended"
    LOST = "lost"
    CUT_OFF = "cut_off"
    RUNNING = "running"


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A trial on a worker, from the start of its first epoch until the worker was free again.

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
class PausedPromotion:
    """The promotion of a paused trial."""

    trial_id: str
    epoch: int
    time: float


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The events of a run over time, in seconds since its start."""

    end: float
    lanes: Sequence[str]
    """Names of the lanes: `worker 1`, with the host if there are several."""
    stretches: Sequence[Stretch]
    promotions: Sequence[PausedPromotion]
    waiting: Sequence[tuple[float, int]]
    """Times at which the number of paused trials changed, with the new number."""
    gaps: Sequence[tuple[float, float]]
    """Times between an interruption and the resumption, when no driver ran."""
    first: float
    """Time at which the first epoch of the run began."""
    lost: int
    """Workers that were lost, including those that had not begun an epoch."""
    unseen: int
    """Trials that ended without an epoch; their worker is unknown."""

    def busy(self, lane: int) -> float:
        """Return the seconds that the lane was training."""
        return sum(stretch.end - stretch.start for stretch in self.stretches if stretch.lane == lane)

    @property
    def at_work(self) -> float:
        """Return the seconds from the first trial to the end, without the gaps."""
        lost = sum(end - max(start, self.first) for start, end in self.gaps if end > self.first)
        return max(self.end - self.first - lost, 0.0)


@dataclass
class _Open:
    """A stretch that has not ended. Its first report says which worker it is on."""

    start: float
    worker: str = ""
    first_epoch: int = 0
    last_epoch: int = 0


@dataclass
class _Reading:
    """The state after some event of the journal."""

    open: dict[str, _Open] = field(default_factory=dict)
    done: list[tuple[str, _Open, float, Close]] = field(default_factory=list)
    promotions: list[PausedPromotion] = field(default_factory=list)
    waiting: set[str] = field(default_factory=set)
    counts: list[tuple[float, int]] = field(default_factory=list)
    gaps: list[tuple[float, float]] = field(default_factory=list)
    last: float = 0.0
    lost: int = 0
    ended: set[str] = field(default_factory=set)

    def apply(self, event: Event, time: float) -> None:
        """Apply one event; `time` is in seconds since the run's start."""
        match event:
            case RunResumed():
                self.close_all(self.last, Close.CUT_OFF)
                self.gaps.append((self.last, time))
            case TrialStarted():
                self.open[event.trial_id] = _Open(time)
            case EpochsReported():
                self._report(event, time)
            case TrialPaused():
                self._close(event.trial_id, time, Close.PAUSED)
                self.waiting.add(event.trial_id)
            case TrialPromoted() if event.trial_id in self.waiting:
                self.promotions.append(PausedPromotion(trial_id=event.trial_id, epoch=event.epoch, time=time))
                self.waiting.discard(event.trial_id)
            case WorkerLost():
                self.lost += 1
                self._close(event.trial_id, time, Close.LOST)
            case TrialEnded():
                close = Close.CUT_OFF if event.resumable else Close.ENDED
                self._close(event.trial_id, time, close)
                if not event.resumable:
                    self.ended.add(event.trial_id)
                    self.waiting.discard(event.trial_id)
            case RunEnded():
                self.close_all(time, Close.CUT_OFF)
        if not self.counts or self.counts[-1][1] != len(self.waiting):
            self.counts.append((time, len(self.waiting)))
        self.last = time

    def _report(self, event: EpochsReported, time: float) -> None:
        opened = self.open.setdefault(event.trial_id, _Open(time))
        epochs = [int(result["epoch"]) for result in event.results]
        if (
            not opened.worker
        ):  # until its first epoch, the worker was starting, or the trial was on its way to it
            opened.start = max(opened.start, time - sum(float(result["seconds"]) for result in event.results))
        opened.worker = event.worker
        if epochs:
            opened.first_epoch = opened.first_epoch or min(epochs)
            opened.last_epoch = max(epochs)

    def _close(self, trial_id: str, time: float, close: Close) -> None:
        opened = self.open.pop(trial_id, None)
        if opened is not None and opened.worker:  # the worker of a trial that never reported is unknown
            self.done.append((trial_id, opened, time, close))

    def close_all(self, time: float, close: Close) -> None:
        for trial_id in list(self.open):
            self._close(trial_id, time, close)


def timeline(events: Sequence[Event], now: float | None) -> Timeline | None:
    """Return the timeline that the events of a journal describe; None if no trial has reported yet.

    Args:
        events: All events, with those that a resumption took back.
        now: Unix time at which open stretches are cut; None if no process is at work on the run: then they were cut
            off at the last event.
    """
    started = next((event.time for event in events if isinstance(event, RunStarted)), None)
    if started is None:
        return None
    reading = _Reading()
    for event in events:
        if not isinstance(
            event, WinnerSelected | HoldoutUnsealed | HoldoutEvaluated
        ):  # perhaps long after the end
            reading.apply(event, event.time - started)
    end = reading.last if now is None or not reading.open else max(reading.last, now - started)
    reading.close_all(end, Close.CUT_OFF if now is None else Close.RUNNING)
    if not reading.done:
        return None
    lanes, stretches = _assign_lanes(reading.done)
    return Timeline(
        end=end,
        lanes=lanes,
        stretches=stretches,
        promotions=reading.promotions,
        waiting=[*reading.counts, (end, len(reading.waiting))],
        gaps=reading.gaps,
        first=min(stretch.start for stretch in stretches),
        lost=reading.lost,
        unseen=len(reading.ended - {stretch.trial_id for stretch in stretches}),
    )


def _assign_lanes(
    done: Iterable[tuple[str, _Open, float, Close]],
) -> tuple[list[str], list[Stretch]]:
    """Place the stretches in a lane for each worker. A new worker takes over the lane of one of its host that is gone.

    Lanes of a host lie side by side, in the order in which they were first used.

    The event that starts a trial on a worker may come a moment before the one that ends the trial before it. A
    stretch therefore begins no earlier than the end of the stretch before it on its worker.
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
    by_host = sorted(range(len(hosts)), key=lambda lane: (hosts[lane], lane))
    place = {lane: n for n, lane in enumerate(by_host)}
    until: dict[str, float] = {}
    stretches = []
    for trial_id, opened, end, close in ordered:
        start = min(max(opened.start, until.get(opened.worker, 0.0)), end)
        until[opened.worker] = max(end, until.get(opened.worker, 0.0))
        stretches.append(
            Stretch(
                trial_id=trial_id,
                worker=opened.worker,
                lane=place[lane_of[opened.worker]],
                start=start,
                end=end,
                first_epoch=opened.first_epoch,
                last_epoch=opened.last_epoch,
                close=close,
            )
        )
    return _lane_names([hosts[lane] for lane in by_host]), stretches


def _lane_names(hosts: Sequence[str]) -> list[str]:
    several = len(set(hosts)) > 1
    counts: dict[str, int] = {}
    names = []
    for host in hosts:
        counts[host] = counts.get(host, 0) + 1
        names.append(f"{host} {counts[host]}" if several else f"worker {counts[host]}")
    return names
