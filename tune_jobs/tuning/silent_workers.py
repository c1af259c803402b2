"""End workers that hang: they have reported nothing for too long."""

import time

import ray
from ray.tune.experiment import Trial

from tune_jobs.tuning.ray_patches import actor_of
from tune_jobs.tuning.worker_loss import WorkerLoss


class SilentWorkers:
    """Measures how long trials report nothing, and ends their workers.

    Args:
        minutes: Minutes for which a trial may report nothing; None if there is no limit.
        seconds_to_start: Additional seconds that a trial may take before its first report.
    """

    def __init__(self, minutes: float | None, seconds_to_start: float) -> None:
        self._limit = None if minutes is None else 60 * minutes
        self._seconds_to_start = seconds_to_start
        self._last_reports: dict[Trial, float] = {}
        self._ended: set[Trial] = set()

    def start(self, trial: Trial) -> None:
        """Note that a worker has taken the trial."""
        self._last_reports[trial] = time.monotonic() + self._seconds_to_start

    def report(self, trial: Trial) -> None:
        """Note that the trial has reported."""
        self._last_reports[trial] = time.monotonic()

    def leave(self, trial: Trial) -> None:
        """Note that the trial has no worker any more."""
        self._last_reports.pop(trial, None)

    def end_overdue(self) -> None:
        """End the workers of the trials that have been silent for too long; Ray Tune notices it as a loss."""
        if self._limit is None:
            return
        for trial, last_report in self._last_reports.items():
            actor = actor_of(trial)
            overdue = trial.status == Trial.RUNNING and time.monotonic() > last_report + self._limit
            if overdue and actor is not None and trial not in self._ended:
                self._ended.add(trial)
                ray.kill(actor)

    def take_loss(self, trial: Trial) -> WorkerLoss | None:
        """Return the loss of the trial's worker if it was ended here, once; None if it was lost in another way."""
        if trial not in self._ended:
            return None
        self._ended.discard(trial)
        return WorkerLoss(
            f"no epoch for {self._limit:g} s, the limit `limits.minutes_per_epoch`, so its worker was ended"
        )
