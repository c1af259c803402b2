"""The reports that a trial sends to the driver, through Ray Tune, for the journal and the search."""

import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from tune_jobs.checkpoints.trial_checkpoints import CheckpointStorageFailed, Restored
from tune_jobs.errors import LaterVersion
from tune_jobs.record.codes import Cause, Status
from tune_jobs.record.curve import EpochRow, TrialCurve
from tune_jobs.record.event_values import are_rows
from tune_jobs.trainers.errors import Diverged, Rejected, TrainerError
from tune_jobs.trainers.settings import ScoreSettings

TIME = "rung_epoch"
"""Key of a Ray Tune result that holds the trial's epoch; present only at rungs and at the end."""
SCORE = "score"
"""Key of a Ray Tune result that holds the trial's best score so far, as a cost to minimise."""
_REPORT = "report"
"""Key of a Ray Tune result that holds the report."""

SECONDS_BETWEEN_REPORTS = 1.0
"""Seconds after which a trial between two rungs reports again."""
SECONDS_BETWEEN_SIGNS = 5.0
"""Seconds between two reports of a trial that waits for its storage."""
MOST_REASON = 1000
"""Largest number of characters of a reason; some exceptions contain whole tensors or files."""
MOST_DETAILS = 20_000
"""Largest number of characters of a traceback."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All epochs since the trial's last report, and the state of the trial."""

    epoch: int
    """Number of the last completed epoch; 0 before the first one."""
    results: Sequence[EpochRow]
    score: float | None
    """Best score so far as a cost, lower is better; None if no epoch had a finite score."""
    rung: bool = False
    """Whether this epoch is a rung, or the last one. Schedulers see only these reports."""
    checkpoint: str | None = None
    """Checkpoint that was written at this epoch, relative to the run's checkpoints."""
    damaged: Sequence[tuple[str, str]] = ()
    """Checkpoints that could not be read when the trial was continued, each with the reason; files as above."""
    unwritten: tuple[str, str] | None = None
    """A checkpoint that could not be written, and the reason. The training itself has not failed."""
    refused: str = ""
    """Why only a later version of tune-jobs can continue the trial; empty otherwise. It has not failed."""
    cause: Cause | None = None
    """Why the training has ended; None while it runs."""
    reason: str = ""
    """The cause in one line of text."""
    details: str = ""
    """Traceback of a failure."""

    @property
    def done(self) -> bool:
        return self.cause is not None

    @property
    def failed(self) -> bool:
        return self.cause is not None and self.cause.status is Status.FAILED

    def to_result(self) -> dict[str, Any]:
        """Return a result for Ray Tune: the report itself, and the keys that Ray's schedulers read."""
        result: dict[str, Any] = {_REPORT: self, "done": self.done}
        if self.score is not None:
            result[SCORE] = self.score
            if self.rung:
                result[TIME] = self.epoch
        return result

    @classmethod
    def of_result(cls, result: Mapping[str, Any] | None) -> Self | None:
        """Return the report in a result of Ray Tune; None if the trial has not reported yet."""
        return result.get(_REPORT) if result else None


def numbers_of(row: EpochRow) -> EpochRow:
    """Return the row of an epoch with numbers of Python alone.

    Raises:
        TrainerError: A value is no number, or a whole number that a table cannot hold.
    """
    plain = {name: value.item() if hasattr(value, "item") else value for name, value in row.items()}
    if not are_rows([plain]):
        name = next(name for name in row if not are_rows([{"epoch": 1, "seconds": 0.0, name: plain[name]}]))
        given = " ".join(repr(row[name]).split())
        raise TrainerError(
            f"epoch {row['epoch']}: given {given[:80]} for {name!r}; valid: a number, which is NaN if there is none, "
            "and below 2^63 if it is whole"
        )
    return plain


class Reporter:
    """Collects the epochs of a trial and sends them as reports.

    Args:
        score: The selection metric and its direction.
        send: `ray.tune.report`; it returns when the driver has decided that the trial continues.
    """

    def __init__(self, score: ScoreSettings, send: Callable[[dict[str, Any]], None]) -> None:
        self.checkpoint: str | None = None
        self.damaged: Sequence[tuple[str, str]] = ()
        self.stopped = False
        """Whether Ray Tune has ended the trial, by `SystemExit` from a report."""
        self._curve = TrialCurve(score)
        self._send = send
        self._results: list[EpochRow] = []
        self._sent = time.monotonic()

    @property
    def due(self) -> bool:
        """Return whether it is time for another report between rungs."""
        return self._seconds_since_report > SECONDS_BETWEEN_REPORTS

    def add(self, results: Iterable[EpochRow]) -> None:
        """Add epochs to the next report.

        Raises:
            MetricMissing: An epoch has no value of the selection metric; it is not reported.
            TrainerError: An epoch has a value that is no number; it is not reported.
        """
        for result in map(numbers_of, results):
            self._curve.add(result)
            self._results.append(result)

    def add_restored(self, restored: Restored, rungs: Collection[int]) -> None:
        """Add the epochs of a restored training, and report at once if the driver may not know them.

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
        """Turn any failure of the training inside the block into the trial's last report.

        An exception of the training, a loss that is not finite, or a full device memory ends the trial, and the worker
        takes the next one. If a disk or a store accepts no checkpoint, the trial has not failed: the driver stops the
        run. Ray Tune stops a trial by `SystemExit` from a report, which passes through.
        """
        try:
            yield
        except CheckpointStorageFailed as error:
            self.give_up(error.file, error.reason)
        except LaterVersion as error:
            self._report(refused=str(error))
        except SystemExit as error:
            if self.stopped:
                raise
            self.fail(RuntimeError(f"the user's code called sys.exit({error.code})"))
        except BaseException as error:  # other exceptions too: the worker itself still works
            self.fail(error)

    def send(self, *, rung: bool = False) -> None:
        """Report the epochs that were added since the last report."""
        self._report(rung=rung)

    def keep_alive(self) -> None:
        """Report while the trial waits for its storage, so that it does not seem to hang."""
        if self._seconds_since_report > SECONDS_BETWEEN_SIGNS:
            self.send()

    def end(self, cause: Cause) -> None:
        """Report that the training has ended without a failure."""
        self._report(cause=cause, reason=cause.sentence, rung=True)

    def give_up(self, file: str, reason: str) -> None:
        """Report that a checkpoint could not be written; the driver then stops the run."""
        self._report(unwritten=(file, reason))

    def fail(self, error: BaseException) -> None:
        """Report that the training failed, with the reason."""
        details = _shorten("".join(traceback.format_exception(error)), MOST_DETAILS)
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
    """Return the cause of a training that ended with `error`."""
    if isinstance(error, Diverged):
        return Cause.DIVERGED
    if isinstance(error, Rejected):
        return Cause.REJECTED
    if isinstance(error, TrainerError):
        return Cause.TRAINING_FAILED
    return Cause.OUT_OF_MEMORY if _is_out_of_memory(error) else Cause.TRAINING_FAILED


def failure_reason(error: BaseException) -> str:
    """Return `error` in one line: tune-jobs' own messages unchanged, others with their type."""
    text = _text_of(error)
    if isinstance(error, TrainerError):
        return text
    if _is_out_of_memory(error):
        return f"out of memory: {text}" if text else "out of memory"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _is_out_of_memory(error: BaseException) -> bool:
    """Return whether the device or the machine ran out of memory; PyTorch says so in the text of a RuntimeError."""
    text = _text_of(error)
    return (
        isinstance(error, MemoryError) or "out of memory" in text.lower() or "can't allocate memory" in text
    )


def _text_of(error: BaseException) -> str:
    try:
        words = str(error)
    except Exception:  # str() of a user's own exception may fail
        words = ""
    return _shorten(" ".join(words.split()), MOST_REASON)


def _shorten(text: str, most: int) -> str:
    """Return `text` in valid UTF-8, with its middle left out if it has more than `most` characters."""
    text = text.encode("utf-8", "backslashreplace").decode()  # a lone surrogate has no UTF-8 form
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 2 :]}"
