"""The state of a run: the events of its journal, folded into one record per trial."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tune_jobs.record.codes import Cause, Ending, Status
from tune_jobs.record.curve import EpochRow, LatestEpochs, TrialCurve
from tune_jobs.record.events import (
    CheckpointDamaged,
    CheckpointWritten,
    EpochsReported,
    Event,
    HoldoutUnsealed,
    JobChanged,
    RunEnded,
    RunResumed,
    RunStarted,
    TrialCreated,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
    TrialStarted,
    WorkerLost,
)
from tune_jobs.trainers.scores import BestEpoch
from tune_jobs.trainers.settings import ScoreSettings

_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?")


@dataclass
class TrialRecord:
    """The state of one trial."""

    trial_id: str
    number: int
    configuration: Mapping[str, Any]
    created: float
    latest: LatestEpochs
    """The last report of each epoch."""
    status: Status = Status.PENDING
    cause: Cause | None = None
    """The cause of its end, as a code; None before."""
    reason: str = ""
    details: str = ""
    """Traceback of a failure."""
    worker: str = ""
    started: float | None = None
    ended: float | None = None
    workers_lost: int = 0
    """Workers lost without their machine."""
    machines_lost: int = 0
    """Machines lost in a row since the trial last completed a new epoch."""
    checkpoint: str | None = None
    checkpoint_epoch: int = 0
    damaged: list[CheckpointDamaged] = field(default_factory=list)
    """Checkpoints that could not be read when the trial was continued."""

    def apply(self, event: Event) -> None:
        """Apply one event of the trial; `RunRecord` adds its epochs."""
        match event:
            case TrialStarted():
                self.status = Status.RUNNING
                self.started = self.started or event.time
            case CheckpointWritten():
                self.checkpoint, self.checkpoint_epoch = event.file, event.epoch
            case CheckpointDamaged():
                self.damaged.append(event)
            case TrialPaused():
                self.status = Status.WAITING
            case TrialPromoted() if self.status is Status.WAITING:  # otherwise its worker simply continues
                self.status = Status.PENDING
            case WorkerLost():
                self.status = Status.PENDING
                self.workers_lost += not event.node_lost
                self.machines_lost += event.node_lost
            case TrialEnded():
                self.status, self.ended = event.status, event.time
                self.cause, self.reason, self.details = event.cause, event.reason, event.details

    @property
    def epochs(self) -> Mapping[int, EpochRow]:
        """Return the results by epoch number; a repeated epoch replaces the first one."""
        return self.latest.rows

    @property
    def curve(self) -> TrialCurve:
        """Return the progress of the trial."""
        return self.latest.curve

    @property
    def cut_off(self) -> bool:
        """Return whether it ended because the run did: a resumed run continues it for certain."""
        return self.cause is not None and self.cause.cut_off

    @property
    def node(self) -> str:
        """Return the host on which it ran last."""
        return self.worker.rpartition(":")[0]

    @property
    def seconds(self) -> float:
        """Return the seconds of training and validation."""
        return sum(float(result["seconds"]) for result in self.epochs.values())


def failures(trials: Iterable[TrialRecord]) -> list[tuple[str, list[TrialRecord]]]:
    """Group failed trials by reason, the most common first; reasons that differ only in numbers are one group."""
    kinds: dict[str, list[TrialRecord]] = {}
    for trial in trials:
        if trial.status is Status.FAILED:
            kinds.setdefault(_NUMBER.sub("#", trial.reason), []).append(trial)
    groups = sorted(kinds.values(), key=len, reverse=True)
    return [(group[0].reason, group) for group in groups]


class RunRecord:
    """The state of a run; `apply` takes its events one by one, live or from its journal (those in force)."""

    def __init__(self, score: ScoreSettings) -> None:
        self.score = score
        self.started: RunStarted | None = None
        self.ended: RunEnded | None = None
        self.unsealed = False
        """Whether the test rows were read."""
        self.test_seen = False
        """Whether a trial was trained after the test rows were read; the search may have used them."""
        self.changes: list[JobChanged] = []
        """Keys of the job that resumptions changed."""
        self.trials: dict[str, TrialRecord] = {}

    @classmethod
    def replay(cls, events: Iterable[Event], score: ScoreSettings) -> "RunRecord":
        """Return the record after `events`."""
        record = cls(score)
        for event in events:
            record.apply(event)
        return record

    def apply(self, event: Event) -> None:
        """Apply one event."""
        match event:
            case RunStarted() | RunResumed():
                self._begin(event)
            case RunEnded():
                self.ended = event
            case HoldoutUnsealed():
                self.unsealed = True
            case JobChanged() if event.changes:
                self.changes.append(event)
            case TrialCreated():
                self.trials[event.trial_id] = TrialRecord(
                    event.trial_id, event.number, event.configuration, event.time, LatestEpochs(self.score)
                )
            case EpochsReported():
                self.trials[event.trial_id].worker = event.worker
                if self.trials[event.trial_id].latest.add(event.results):
                    self.trials[event.trial_id].machines_lost = 0
            case TrialStarted():
                self.test_seen = self.test_seen or self.unsealed
                self.trials[event.trial_id].apply(event)
            case (
                CheckpointWritten()
                | CheckpointDamaged()
                | TrialPaused()
                | TrialPromoted()
                | WorkerLost()
                | TrialEnded()
            ):
                self.trials[event.trial_id].apply(event)

    def best(self, trial_id: str) -> BestEpoch | None:
        """Return the epoch of the trial's best score so far."""
        trial = self.trials.get(trial_id)
        return None if trial is None else trial.curve.best

    def with_status(self, *statuses: Status) -> list[TrialRecord]:
        """Return the trials in any of `statuses`, in the order of creation."""
        return [trial for trial in self.trials.values() if trial.status in statuses]

    @property
    def ending(self) -> Ending | None:
        return None if self.ended is None else self.ended.ending

    def _begin(self, event: RunStarted | RunResumed) -> None:
        if isinstance(event, RunStarted):
            self.started = event
        for trial in self.with_status(Status.RUNNING):  # its worker ended with the driver
            trial.status = Status.PENDING
