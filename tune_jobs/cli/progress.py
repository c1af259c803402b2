"""The progress of a run: what follows from its events and the clock, kept up to date with each event."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tune_jobs.job.job import Job
from tune_jobs.record.events import (
    EpochsReported,
    Event,
    RunResumed,
    RunStarted,
    Status,
    TrialEnded,
    TrialStarted,
    TrialUnplaced,
    WorkerLost,
    in_force,
)
from tune_jobs.record.run_record import RunRecord, TrialRecord, failures
from tune_jobs.scheduling.rungs import RungSummary, make_tables
from tune_jobs.text import configuration_text, duration_text, number_text
from tune_jobs.trainers.scores import BestEpoch

STATES = (
    Status.RUNNING,
    Status.WAITING,
    Status.COMPLETED,
    Status.STOPPED_EARLY,
    Status.FAILED,
    Status.INTERRUPTED,
)
"""States as they are counted, in this order; trials that have no worker yet are not counted."""


@dataclass(frozen=True)
class Best:
    """The best trial so far."""

    trial: TrialRecord
    epoch: BestEpoch


@dataclass(frozen=True)
class Failure:
    """Failed trials of one reason."""

    count: int
    example: str
    """Id of the first."""
    reason: str


@dataclass(frozen=True)
class RungProgress:
    """How many trials have come to a rung at which none pauses, and what became of them."""

    epoch: int
    reached: int
    advanced: int
    ended: int
    """Trials of which it was the last epoch."""


class RunProgress:
    """The progress of a run. One thread may apply events while another one reads.

    Elapsed time, speed and time left are those of one driver: they begin with the run, and anew where it is
    resumed. They follow from the times of the events, so that they are the same for whoever joins later.

    Args:
        job: of the run.
        events: of the run so far.
        asked_at: when the run, or that it goes on, was asked for, in seconds since the epoch; None where that
            was the first event, or the last `RunResumed`.
        clock: gives the time.
    """

    def __init__(
        self,
        job: Job,
        events: Iterable[Event] = (),
        *,
        asked_at: float | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.asked = job.trials
        self.note = ""
        """What is to be said of the run beside its events."""
        self._job = job
        self._clock = clock or time.time
        self._lock = threading.RLock()
        self._events: list[Event] = []
        self._asked_at: float | None = None
        self._fold(())
        self._begin(None)
        for event in events:
            self.apply(event)
        if asked_at is not None:
            self._begin(asked_at)
        self._asked_at = asked_at

    @property
    def lock(self) -> threading.RLock:
        """Held while an event is taken into account."""
        return self._lock

    def _begin(self, begun: float | None) -> None:
        """What comes from here on counts for speed and time left."""
        self._begun: float | None = begun
        self._last: float = begun or 0.0
        self._first_report: float | None = None
        self._epochs_before = self.epochs
        self._passed_before = self.passed

    def apply(self, event: Event) -> None:
        """Takes one event into account."""
        with self._lock:
            self._events.append(event)
            if isinstance(event, RunResumed):
                self._fold(in_force(self._events))
            else:
                self._add(event)
            if isinstance(event, RunStarted | RunResumed):
                self.asked = event.trials
                self._begin(event.time if self._asked_at is None else self._asked_at)
                self._asked_at = None
            if self.record.ended is None:
                self._last = max(self._last, event.time)
            if self._first_report is None and isinstance(event, EpochsReported):
                seconds = sum(float(result["seconds"]) for result in event.results)
                self._first_report = event.time - seconds

    def _fold(self, events: Iterable[Event]) -> None:
        """All that is kept up, from `events` that are in force."""
        self.record = RunRecord(self._job.selection)
        self.epochs = 0
        """That were reported; those that were done again count once."""
        self.workers_lost = 0
        self.last_loss: WorkerLost | None = None
        self.unplaced: dict[str, str] = {}
        """Trials that no machine has room for, and why."""
        job = self._job
        self._tables = make_tables(job.scheduler, job.max_epochs, job.selection)
        self._rung_epochs = () if job.scheduler.pauses_trials else job.rungs
        self._counts: Counter[Status] = Counter()
        self._best: Best | None = None
        self._failures: list[Failure] | None = []
        for event in events:
            self._add(event)

    def _add(self, event: Event) -> None:
        self._tables.apply(event)
        trial_id: str | None = getattr(event, "trial_id", None)
        before = self.record.trials.get(trial_id) if trial_id else None
        status, epochs = (before.status, len(before.epochs)) if before else (None, 0)
        self.record.apply(event)
        if trial_id is None:
            self._counts = Counter(trial.status for trial in self.record.trials.values())
            return
        trial = self.record.trials[trial_id]
        if status is not trial.status:
            self._counts[trial.status] += 1
            if status is not None:
                self._counts[status] -= 1
            if Status.FAILED in {status, trial.status}:
                self._failures = None
        if isinstance(event, EpochsReported):
            self.epochs += len(trial.epochs) - epochs
            self._compare(trial)
        if isinstance(event, WorkerLost):
            self.workers_lost += 1
            self.last_loss = event
        if isinstance(event, TrialUnplaced):
            self.unplaced[trial_id] = event.reason
        if isinstance(event, TrialStarted | TrialEnded):
            self.unplaced.pop(trial_id, None)

    def _compare(self, trial: TrialRecord) -> None:
        if self._best is not None and self._best.trial is trial:  # epochs that were done again may be worse
            self._best = None
            candidates: Iterable[TrialRecord] = self.record.trials.values()
        else:
            candidates = (trial,)
        for candidate in candidates:
            best = self.record.best(candidate.trial_id)
            if best is not None and (
                self._best is None or self._order(candidate, best) < self._order_of_best()
            ):
                self._best = Best(candidate, best)

    def _order_of_best(self) -> tuple[float, int]:
        assert self._best is not None
        return self._order(self._best.trial, self._best.epoch)

    def _order(self, trial: TrialRecord, best: BestEpoch) -> tuple[float, int]:
        return self.record.score.cost(best.score), trial.number

    def count(self, status: Status) -> int:
        """Trials in that state."""
        return self._counts[status]

    @property
    def ended(self) -> int:
        """Trials that have ended, and not only with the run."""
        return sum(
            count
            for status, count in self._counts.items()
            if status.ended and status is not Status.INTERRUPTED
        )

    @property
    def passed(self) -> int:
        """Trials that have ended or wait: few of those that wait go on, so that most of their work is done."""
        return self.ended + self.count(Status.WAITING)

    @property
    def best(self) -> Best | None:
        """The best trial so far, whether it may win or not; None before the first score."""
        return self._best

    @property
    def curve(self) -> list[float]:
        """Values of the selection metric of the best trial, by epoch."""
        if self._best is None:
            return []
        epochs = self._best.trial.epochs
        return [float(epochs[epoch][self.record.score.metric]) for epoch in sorted(epochs)]

    @property
    def rungs(self) -> Sequence[RungSummary]:
        """The rungs at which trials wait; none under another scheduler."""
        return self._tables.summary()

    @property
    def rung_progress(self) -> Sequence[RungProgress]:
        """The rungs of a scheduler under which no trial waits."""
        return [self._rung_progress(epoch) for epoch in self._rung_epochs]

    def _rung_progress(self, epoch: int) -> RungProgress:
        trials = self.record.trials.values()
        return RungProgress(
            epoch,
            reached=sum(trial.curve.last_epoch >= epoch for trial in trials),
            advanced=sum(trial.curve.last_epoch > epoch for trial in trials),
            ended=sum(trial.curve.last_epoch == epoch and trial.status.ended for trial in trials),
        )

    @property
    def failures(self) -> Sequence[Failure]:
        """Failed trials by reason, the commonest first."""
        if self._failures is None:
            groups = failures(self.record.with_status(Status.FAILED))
            self._failures = [Failure(len(group), group[0].trial_id, reason) for reason, group in groups]
        return self._failures

    @property
    def seconds(self) -> float:
        """Since the run was asked for, up to now or to its end."""
        end = self.record.ended.time if self.record.ended else self._clock()
        return 0.0 if self._begun is None else max(end, self._last) - self._begun

    @property
    def seconds_of_training(self) -> float | None:
        """Since the first trial began; None before it has reported."""
        if self._begun is None or self._first_report is None:
            return None
        return max(self.seconds - (self._first_report - self._begun), 1e-9)

    @property
    def epochs_per_second(self) -> float:
        """Since the first trial began."""
        seconds = self.seconds_of_training
        return 0.0 if seconds is None else (self.epochs - self._epochs_before) / seconds

    @property
    def seconds_left(self) -> float | None:
        """As long as the trials so far suggest; None before the first has passed, and after the run."""
        seconds, passed = self.seconds_of_training, self.passed - self._passed_before
        if seconds is None or passed <= 0 or self.record.ended is not None:
            return None
        return seconds / passed * max(self.asked - self.passed, 0)

    def line(self) -> str:
        """Return the progress in one line of text."""
        with self._lock:
            counts = ", ".join(f"{count} {name}" for _, name, count in self.counts())
            parts = [
                f"{duration_text(self.seconds)}: {self.ended} of {self.asked} trials ended ({counts or 'starting'})"
            ]
            if self._best is not None:
                parts.append(f"best {self.best_text()}: {configuration_text(self._best.trial.configuration)}")
            parts.append(self.speed_text())
            if self.seconds_left is not None:
                parts.append(f"about {duration_text(self.seconds_left)} left")
            return "; ".join(parts)

    def counts(self) -> list[tuple[Status, str, int]]:
        """States that trials are in, with their names and how many."""
        return [(status, status.text, self.count(status)) for status in STATES if self.count(status)]

    def speed_text(self) -> str:
        """`214 epochs/s`, `0.37 epochs/s`."""
        speed = self.epochs_per_second
        return f"{speed:.0f} epochs/s" if speed >= 10 else f"{speed:.2g} epochs/s"

    def best_text(self) -> str | None:
        """`val_loss 0.0712 (trial 0007, epoch 9)`; None before the first score."""
        if self._best is None:
            return None
        trial, best = self._best.trial, self._best.epoch
        where = f"(trial {trial.trial_id}, epoch {best.epoch})"
        return f"{self.record.score.metric} {number_text(best.score)} {where}"
