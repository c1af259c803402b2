"""The progress of a run: what follows from its events and the clock, kept up to date with each event."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tune_jobs.job.job import Job
from tune_jobs.record.codes import Status
from tune_jobs.record.events import (
    EpochsReported,
    Event,
    RunResumed,
    RunStarted,
    TrialEnded,
    TrialStarted,
    TrialUnplaceable,
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
"""The states that are counted, in this order. Trials that wait for their first worker are not counted."""


@dataclass(frozen=True)
class Best:
    """The best trial so far."""

    trial: TrialRecord
    epoch: BestEpoch


@dataclass(frozen=True)
class Failure:
    """The trials that failed for one reason."""

    count: int
    example: str
    """Id of the first of them."""
    reason: str


@dataclass(frozen=True)
class RungProgress:
    """Numbers of the trials that reached a rung at which none pauses, continued there, and ended there."""

    epoch: int
    reached: int
    advanced: int
    ended: int
    """Trials that ended at this epoch."""


class RunProgress:
    """The progress of a run. One thread may apply events while another one reads.

    Elapsed time, speed and time left are those of one driver: they start with the run, and again when it is
    resumed. They follow from the times of the events, so a view that joins later shows the same.

    Args:
        job: Job of the run.
        events: Events of the run so far.
        asked_at: When the user asked for the run or for its resumption, in seconds since the epoch; None takes the
            time of the first event, or of the last `RunResumed`.
        clock: Returns the time.
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
        """A notice about the run that no event holds."""
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
        """Return the lock that is held while an event is applied."""
        return self._lock

    def _begin(self, begun: float | None) -> None:
        """Count speed and time left from here."""
        self._begun: float | None = begun
        self._last: float = begun or 0.0
        self._first_report: float | None = None
        self._epochs_before = self.epochs
        self._passed_before = self.passed

    def apply(self, event: Event) -> None:
        """Apply one event."""
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
        """Compute everything from `events`, which are in force."""
        self.record = RunRecord(self._job.selection)
        self.epochs = 0
        """Epochs that were reported; a repeated epoch counts once."""
        self.workers_lost = 0
        self.last_loss: WorkerLost | None = None
        self.unplaced: dict[str, str] = {}
        """Trials that no machine has room for, with the reason."""
        job = self._job
        self._tables = make_tables(job.scheduler, job.rungs, job.selection)
        self._rung_epochs = () if job.scheduler.pauses_trials else job.rungs
        self._last_epochs: Counter[int] = Counter()
        self._ended_at: Counter[int] = Counter()
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
        if before is not None:
            self._count_at_rungs(before, -1)
        self.record.apply(event)
        if trial_id is None:
            self._counts = Counter(trial.status for trial in self.record.trials.values())
            return
        trial = self.record.trials[trial_id]
        self._count_at_rungs(trial, 1)
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
        if isinstance(event, TrialUnplaceable):
            self.unplaced[trial_id] = event.reason
        if isinstance(event, TrialStarted | TrialEnded):
            self.unplaced.pop(trial_id, None)

    def _compare(self, trial: TrialRecord) -> None:
        best = self.record.best(trial.trial_id)
        again = self._best is not None and self._best.trial is trial
        if again and (
            best is None or self._order(trial, best) > self._order_of_best()
        ):  # a repeated epoch is worse
            self._best = None
            candidates: Iterable[TrialRecord] = self.record.trials.values()
        else:
            candidates = (trial,)
            self._best = None if again else self._best
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
        """Return the number of trials in that state."""
        return self._counts[status]

    @property
    def ended(self) -> int:
        """Return the number of trials that have ended, without those that were cut off with the run."""
        return sum(
            count
            for status, count in self._counts.items()
            if status.ended and status is not Status.INTERRUPTED
        )

    @property
    def passed(self) -> int:
        """Return the number of trials that ended or are paused. Few paused trials continue."""
        return self.ended + self.count(Status.WAITING)

    @property
    def best(self) -> Best | None:
        """Return the best trial so far, even if it cannot win; None before the first score."""
        return self._best

    @property
    def curve(self) -> list[float]:
        """Return the selection metric of the best trial, epoch by epoch."""
        if self._best is None:
            return []
        epochs = self._best.trial.epochs
        return [float(epochs[epoch][self.record.score.metric]) for epoch in sorted(epochs)]

    @property
    def rungs(self) -> Sequence[RungSummary]:
        """Return the rungs at which trials pause; empty if the scheduler pauses none."""
        return self._tables.summary()

    @property
    def rung_progress(self) -> Sequence[RungProgress]:
        """Return the rungs of a scheduler that pauses no trial; empty for others."""
        return [self._rung_progress(epoch) for epoch in self._rung_epochs]

    def _rung_progress(self, epoch: int) -> RungProgress:
        advanced = sum(count for last, count in self._last_epochs.items() if last > epoch)
        reached = advanced + self._last_epochs[epoch]
        return RungProgress(epoch, reached=reached, advanced=advanced, ended=self._ended_at[epoch])

    def _count_at_rungs(self, trial: TrialRecord, times: int) -> None:
        """Count the last epoch of a trial, and its end there."""
        self._last_epochs[trial.curve.last_epoch] += times
        if trial.status.ended:
            self._ended_at[trial.curve.last_epoch] += times

    @property
    def failures(self) -> Sequence[Failure]:
        """Return the failed trials by reason, the most common reason first."""
        if self._failures is None:
            groups = failures(self.record.with_status(Status.FAILED))
            self._failures = [Failure(len(group), group[0].trial_id, reason) for reason, group in groups]
        return self._failures

    @property
    def seconds(self) -> float:
        """Return the seconds since the user asked for the run, up to now or to its end."""
        end = self.record.ended.time if self.record.ended else self._clock()
        return 0.0 if self._begun is None else max(end, self._last) - self._begun

    @property
    def seconds_of_training(self) -> float | None:
        """Return the seconds since the first trial began; None before its first report."""
        if self._begun is None or self._first_report is None:
            return None
        return max(self.seconds - (self._first_report - self._begun), 1e-9)

    @property
    def epochs_per_second(self) -> float:
        """Return the epochs per second since the first trial began."""
        seconds = self.seconds_of_training
        return 0.0 if seconds is None else (self.epochs - self._epochs_before) / seconds

    @property
    def seconds_left(self) -> float | None:
        """Return the seconds left at the speed so far; None before the first trial has passed, and after the run."""
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
        """Return the states that trials are in, each with its name and the number of trials."""
        return [(status, status.text, self.count(status)) for status in STATES if self.count(status)]

    def speed_text(self) -> str:
        """Return the speed, such as `214 epochs/s` or `0.37 epochs/s`."""
        speed = self.epochs_per_second
        return f"{speed:.0f} epochs/s" if speed >= 10 else f"{speed:.2g} epochs/s"

    def best_text(self) -> str | None:
        """Return the best score, such as `val_loss 0.0712 (trial 0007, epoch 9)`; None before the first score."""
        if self._best is None:
            return None
        trial, best = self._best.trial, self._best.epoch
        where = f"(trial {trial.trial_id}, epoch {best.epoch})"
        return f"{self.record.score.metric} {number_text(best.score)} {where}"
