"""What a trial tells the driver: one report, from the worker through Ray Tune to journal and search."""

import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from tune_jobs.checkpoints.base import CheckpointStorageFailed, Restored
from tune_jobs.record.curve import TrialCurve
from tune_jobs.record.events import Cause, Status
from tune_jobs.trainers.errors import Diverged, TrainerError
from tune_jobs.trainers.settings import ScoreSettings

TIME = "rung_epoch"
"""Key of a result that says how far a trial is; present at rungs alone."""
SCORE = "score"
"""Key of a result that holds the trial's best score so far, always to be minimised."""
_REPORT = "report"

SECONDS_BETWEEN_REPORTS = 1.0
"""Seconds after which a trial between two rungs reports again."""
SECONDS_BETWEEN_SIGNS = 5.0
"""A trial that waits for its storage says so this often."""
MOST_REASON = 1000
"""Letters of a reason; some exceptions show whole tensors or files."""
MOST_DETAILS = 20_000

EpochMapping = Mapping[str, Any]
"""An epoch's values by name, as `EpochResult.to_mapping` gives them."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All epochs since the trial's last report, and how the trial stands."""

    epoch: int
    """The last epoch that was done; 0 where none was."""
    results: Sequence[EpochMapping]
    score: float | None
    """Best score so far, turned so that lower is better; None where no epoch had a finite one."""
    rung: bool = False
    """Trials are compared at this epoch: schedulers see no other reports."""
    checkpoint: str | None = None
    """File of a checkpoint that was written at this epoch, relative to the run's checkpoints."""
    damaged: Sequence[tuple[str, str]] = ()
    """Checkpoints that could not be read when the trial was taken up, and why; files as above."""
    unwritten: tuple[str, str] | None = None
    """A checkpoint that could not be written, and why: the training itself has not failed."""
    cause: Cause | None = None
    """Why the training is over; None while it lasts."""
    reason: str = ""
    """The same in one line of text."""
    details: str = ""
    """Traceback of a failure."""

    @property
    def done(self) -> bool:
        return self.cause is not None

    @property
    def failed(self) -> bool:
        return self.cause is not None and self.cause.status is Status.FAILED

    def to_result(self) -> dict[str, Any]:
        """As a result of Ray Tune: the report itself, and the keys that Ray's schedulers look at."""
        result: dict[str, Any] = {_REPORT: self, "done": self.done}
        if self.score is not None:
            result[SCORE] = self.score
            if self.rung:
                result[TIME] = self.epoch
        return result

    @classmethod
    def of_result(cls, result: Mapping[str, Any] | None) -> Self | None:
        """The report in a result of Ray Tune; None where the trial has not reported yet."""
        return result.get(_REPORT) if result else None


class Reporter:
    """Gathers the epochs of a trial and sends them as reports.

    Args:
        score: which number judges an epoch.
        send: `ray.tune.report`; it returns once the driver has decided that the trial goes on.
    """

    def __init__(self, score: ScoreSettings, send: Callable[[dict[str, Any]], None]) -> None:
        self.checkpoint: str | None = None
        self.damaged: Sequence[tuple[str, str]] = ()
        self.stopped = False
        """Ray Tune has ended the trial, by `SystemExit` out of a report."""
        self._curve = TrialCurve(score)
        self._send = send
        self._results: list[EpochMapping] = []
        self._sent = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the last report was sent long ago."""
        return self._seconds_since_report > SECONDS_BETWEEN_REPORTS

    def add(self, results: Iterable[EpochMapping]) -> None:
        """Takes note of epochs; they travel with the next report."""
        for result in results:
            self._results.append(result)
            self._curve.add(result)

    def add_restored(self, restored: Restored, rungs: Collection[int]) -> None:
        """Keep what a training was brought to, and report at once if the driver may not know of it.

        Args:
            restored: The epochs and the checkpoint that the training continues from.
            rungs: Epochs at which trials are compared.
        """
        self.add(restored.results)
        self.damaged, self.checkpoint = restored.damaged, restored.file
        if restored.file is not None or restored.damaged:
            self.send(rung=self._curve.last_epoch in rungs)

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Turn whatever ends the training inside the block into the trial's last report.

        An exception of the training itself, a loss that is not finite and memory of the device end the trial and
        leave the worker to the next one. If a disk or a store takes no checkpoint, the trial has not failed: the
        driver learns it and stops the run. Ray Tune stops a trial by `SystemExit` from a report, which passes.
        """
        try:
            yield
        except CheckpointStorageFailed as error:
            self.give_up(error.file, error.reason)
        except SystemExit as error:
            if self.stopped:
                raise
            self.fail(RuntimeError(f"the user's code called sys.exit({error.code})"))
        except BaseException as error:  # even what is no `Exception`: the worker is sound
            self.fail(error)

    def send(self, *, rung: bool = False) -> None:
        """Reports what was added since the last report."""
        self._report(rung=rung)

    def keep_alive(self) -> None:
        """Reports while the trial waits for something that is no fault of its own, so that it does not seem to hang."""
        if self._seconds_since_report > SECONDS_BETWEEN_SIGNS:
            self.send()

    def end(self, cause: Cause) -> None:
        """Report that the training is over without a failure."""
        self._report(cause=cause, reason=cause.sentence, rung=True)

    def give_up(self, file: str, reason: str) -> None:
        """Reports that a checkpoint could not be written, so that the run had better stop."""
        self._report(unwritten=(file, reason))

    def fail(self, error: BaseException) -> None:
        """Reports that the training failed, and why."""
        details = _shown("".join(traceback.format_exception(error)), MOST_DETAILS)
        self._report(cause=failure_cause(error), reason=failure_reason(error), details=details)

    def _report(self, **how: Any) -> None:
        report = Report(
            epoch=self._curve.last_epoch,
            results=tuple(self._results),
            score=self._curve.best_cost,
            checkpoint=self.checkpoint,
            damaged=self.damaged,
            **how,
        )
        self._results, self.checkpoint, self.damaged = [], None, ()
        try:
            self._send(report.to_result())
        except SystemExit:
            self.stopped = True
            raise
        self._sent = time.monotonic()

    @property
    def _seconds_since_report(self) -> float:
        return time.monotonic() - self._sent


def failure_cause(error: BaseException) -> Cause:
    """The code of a training that ended with `error`."""
    if isinstance(error, Diverged):
        return Cause.DIVERGED
    if isinstance(error, TrainerError):
        return Cause.TRAINING_FAILED
    return Cause.OUT_OF_MEMORY if _is_out_of_memory(error) else Cause.TRAINING_FAILED


def failure_reason(error: BaseException) -> str:
    """`error` as one line: our own messages as they are, others with their type."""
    text = _text_of(error)
    if isinstance(error, TrainerError):
        return text
    if _is_out_of_memory(error):
        return f"out of memory: {text}" if text else "out of memory"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether the device or the machine ran out of memory: PyTorch says so in the text of a RuntimeError."""
    text = _text_of(error)
    return (
        isinstance(error, MemoryError) or "out of memory" in text.lower() or "can't allocate memory" in text
    )


def _text_of(error: BaseException) -> str:
    try:
        words = str(error)
    except Exception:  # the user's own exceptions may fail at this too
        words = ""
    return _shown(" ".join(words.split()), MOST_REASON)


def _shown(text: str, most: int) -> str:
    """`text` that every file can hold, its middle left out where it is longer than `most` letters."""
    text = text.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair has no bytes
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 2 :]}"
