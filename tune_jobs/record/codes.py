"""The codes of a journal, and a sentence beside each for people.

The journal stores codes (`Status`, `Cause`, `Ending`), and the program compares codes. No decision depends on a
sentence.
"""

from enum import StrEnum

from tune_jobs.trainers.interface import StopReason


class Status(StrEnum):
    """State of a trial; the last four are final, and the only ones that a table of an ended run shows."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    """At a rung, without a worker, until the scheduler promotes the trial or the run ends."""
    COMPLETED = "completed"
    STOPPED_EARLY = "stopped_early"
    FAILED = "failed"
    INTERRUPTED = "interrupted"

    @property
    def text(self) -> str:
        """Return the text that people read: `stopped early`."""
        return self.value.replace("_", " ")

    @property
    def ended(self) -> bool:
        """Return whether a trial in this state has ended."""
        return self not in {Status.PENDING, Status.RUNNING, Status.WAITING}

    @property
    def selectable(self) -> bool:
        """Return whether a trial in this state may be the winner."""
        return self in {Status.COMPLETED, Status.STOPPED_EARLY}


class Ending(StrEnum):
    """The ways in which a run ends: codes that are stored and compared."""

    ALL_TRIALS = "all_trials"
    TIME_LIMIT = "time_limit"
    INTERRUPTED = "interrupted"
    STORAGE = "storage"
    RAY = "ray"
    LIKE_FAILURES = "like_failures"
    FAILED = "failed"

    @property
    def sentence(self) -> str:
        """Return the sentence that people read."""
        return ENDING_SENTENCES[self]

    @property
    def cut_off(self) -> bool:
        """Return whether the run ended before its trials did; a resumed run continues them."""
        return self not in {Ending.ALL_TRIALS, Ending.TIME_LIMIT}


ENDING_SENTENCES = {
    Ending.ALL_TRIALS: "all trials have ended",
    Ending.TIME_LIMIT: "the time limit `limits.minutes` was reached",
    Ending.INTERRUPTED: "interrupted by a signal",
    Ending.STORAGE: "stopped because the run folder could not be written to",
    Ending.RAY: "stopped because a server process of Ray died",
    Ending.LIKE_FAILURES: "stopped because the first trials all failed alike",
    Ending.FAILED: "stopped by an error",
}
"""The sentence of each `Ending`."""


class Cause(StrEnum):
    """The causes of a trial's end: codes that are stored and compared."""

    MAX_EPOCHS = StopReason.MAX_EPOCHS.value
    PATIENCE = StopReason.PATIENCE.value
    THRESHOLD = StopReason.THRESHOLD.value
    USER = StopReason.USER.value
    STOPPED_BY_SCHEDULER = "stopped_by_scheduler"
    NOT_PROMOTED = "not_promoted"
    """It waited at a rung until no trial was left to start or to promote."""
    TIME_LIMIT = "time_limit"
    RUN_ENDED = "run_ended"
    """The run ended while the trial was in progress; `RunEnded` says how."""
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    TRAINING_FAILED = "training_failed"
    """The training raised any other error."""
    REJECTED = "rejected"
    """The training says that its configuration cannot be trained."""
    NO_FINITE_SCORE = "no_finite_score"
    NO_REPORT = "no_report"
    """It ended before its first report."""
    WORKER_LOST = "worker_lost"
    """It lost more workers than `limits.retries_per_trial` allows."""
    MACHINES_LOST = "machines_lost"
    """It lost too many machines in a row."""

    @property
    def status(self) -> Status:
        """Return the state of a trial that ended for this cause."""
        if self is Cause.MAX_EPOCHS:
            return Status.COMPLETED
        if self is Cause.RUN_ENDED:
            return Status.INTERRUPTED
        early = self.of_training or self in {
            Cause.STOPPED_BY_SCHEDULER,
            Cause.NOT_PROMOTED,
            Cause.TIME_LIMIT,
        }
        return Status.STOPPED_EARLY if early else Status.FAILED

    @property
    def of_training(self) -> bool:
        """Return whether the training ended by itself, as it would under any scheduler."""
        return self.value in set(StopReason)

    @property
    def cut_off(self) -> bool:
        """Return whether the trial ended because the run did; a resumed run continues it for certain."""
        return self in {Cause.TIME_LIMIT, Cause.RUN_ENDED}

    @property
    def resumable(self) -> bool:
        """Return whether a resumed run may continue the trial."""
        return self.cut_off or self is Cause.NOT_PROMOTED

    @property
    def sentence(self) -> str:
        """Return the sentence that people read, with fields for `str.format`; a failure also has a message."""
        return StopReason(self.value).sentence if self.of_training else CAUSE_SENTENCES[self]


CAUSE_SENTENCES = {
    Cause.STOPPED_BY_SCHEDULER: "stopped by the scheduler at epoch {epoch}",
    Cause.NOT_PROMOTED: "waited at epoch {epoch}: not among the best 1/{factor} of its rung",
    Cause.TIME_LIMIT: ENDING_SENTENCES[Ending.TIME_LIMIT],
    Cause.RUN_ENDED: "the run ended in the middle of the trial",
    Cause.DIVERGED: "the training diverged",
    Cause.OUT_OF_MEMORY: "the training ran out of memory",
    Cause.TRAINING_FAILED: "the training failed",
    Cause.REJECTED: "the training rejected the configuration",
    Cause.NO_FINITE_SCORE: "no epoch had a finite score",
    Cause.NO_REPORT: "ended before its first report",
    Cause.WORKER_LOST: "lost more workers than `limits.retries_per_trial` allows",
    Cause.MACHINES_LOST: "lost too many machines in a row",
}
"""Sentences of the causes that no training reports by itself; `StopReason.sentence` has the others."""
