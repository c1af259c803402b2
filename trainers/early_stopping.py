"""Decide when a training is over: a pure decision on a frozen state."""

from dataclasses import dataclass, replace
from math import isfinite

from tune_jobs.trainers.interface import StopReason
from tune_jobs.trainers.settings import EarlyStoppingSettings, Mode, cost


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of early stopping after some epochs."""

    reference: float | None = None
    """The last score that counted as an improvement."""
    stale_epochs: int = 0
    """Epochs since the last improvement."""


def improves(score: float, reference: float | None, min_delta: float, mode: Mode) -> bool:
    """Return whether `score` beats `reference` by more than `min_delta`; NaN and infinities never do."""
    if not isfinite(score):
        return False
    return reference is None or cost(score, mode) < cost(reference, mode) - min_delta


def observe(progress: Progress, score: float, settings: EarlyStoppingSettings, mode: Mode) -> Progress:
    """Return the progress after an epoch with this score."""
    if improves(score, progress.reference, settings.min_delta, mode):
        return Progress(reference=score)
    return replace(progress, stale_epochs=progress.stale_epochs + 1)


def decide(
    progress: Progress,
    score: float,
    *,
    epoch: int,
    max_epochs: int,
    settings: EarlyStoppingSettings,
    mode: Mode,
) -> StopReason | None:
    """Return why the training is over after `epoch` (from 1), which had this score; None if it is not over.

    A training that reached its last epoch was not stopped early, whatever its score.
    """
    if epoch >= max_epochs:
        return StopReason.MAX_EPOCHS
    threshold = settings.threshold
    reached = threshold is not None and cost(score, mode) <= cost(threshold, mode)
    if reached and isfinite(score):
        return StopReason.THRESHOLD
    if settings.patience is not None and progress.stale_epochs >= settings.patience:
        return StopReason.PATIENCE
    return None
