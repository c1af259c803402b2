"""Retention of a run's checkpoints: the driver deletes those of trials that are no longer needed."""

import os
import shutil
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from pathlib import Path

from tune_jobs.checkpoints.local import checkpoint_paths
from tune_jobs.files import sync_folder
from tune_jobs.location import Location
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.run_record import RunRecord
from tune_jobs.remote.store import Store
from tune_jobs.selection.rule import Candidate, rank

KEEP_BEST_TRIALS = 5
"""Number of the best ended trials whose checkpoints are kept."""


def find_unneeded(record: RunRecord) -> set[str]:
    """Return the ids of the trials that have ended and are not among the best.

    They include trials that were not promoted. If the run is extended, a few of those continue, from their start.
    """
    kept = {candidate.trial.trial_id for candidate in rank(record)[:KEEP_BEST_TRIALS]}
    return {
        trial.trial_id
        for trial in record.trials.values()
        if trial.status.ended and not trial.cut_off and trial.trial_id not in kept
    }


class Retention:
    """Deletes the checkpoints of trials with their ends: each end costs the same, however many trials there are.

    Args:
        record: The record of the run, which knows of an end before `end` is called.
        place: The folder of all checkpoints.
    """

    def __init__(self, record: RunRecord, place: Path | Location) -> None:
        self._record = record
        self._place = place
        self._best = rank(record)[:KEEP_BEST_TRIALS]
        self._unneeded = sorted(find_unneeded(record))
        self._deleted = 0
        """The number of trials at the start of the list whose checkpoints were deleted."""

    def end(self, trial_id: str) -> Callable[[], None]:
        """Note that a trial has ended, and return the call that deletes the checkpoints not needed from then on.

        If that call raises StoreError, a later one deletes what is left.
        """
        trial, best = self._record.trials[trial_id], self._record.best(trial_id)
        out = trial
        if trial.status.selectable and best is not None:
            self._best.append(Candidate(trial, best))
            self._best.sort(key=lambda one: (self._record.score.cost(one.best.score), one.trial.number))
            if len(self._best) <= KEEP_BEST_TRIALS:
                return partial(self._delete, len(self._unneeded))
            out = self._best.pop().trial
        if not out.cut_off:
            self._unneeded.append(out.trial_id)
        return partial(self._delete, len(self._unneeded))

    def end_run(self) -> Callable[[], None]:
        """Return the call that deletes what workers have written after the ends of their trials."""
        return partial(prune_checkpoints, self._place, find_unneeded(self._record))

    def _delete(self, end: int) -> None:
        names = self._unneeded[self._deleted : end]
        if names:
            prune_checkpoints(self._place, names)
            self._deleted = end


def prune_checkpoints(place: Path | Location, trial_ids: Collection[str]) -> None:
    """Delete the checkpoints of the given trials.

    Raises:
        StoreError: The object store failed. Another call deletes what is left.
    """
    if isinstance(place, Path):
        for trial_id in trial_ids:
            shutil.rmtree(place / trial_id, ignore_errors=True)
        return
    store = Store(place)
    few = trial_ids if len(trial_ids) == 1 else set(trial_ids).intersection(store.folders())
    for name in few:
        store.delete_all(name)


def sync_checkpoints(folder: RunFolder, record: RunRecord) -> None:
    """Force the checkpoints of the best trials to disk, so that a power cut after the run loses none.

    Workers do not do this, because it would make a small save half as slow again.
    """
    for candidate in rank(record)[:KEEP_BEST_TRIALS]:
        for path in checkpoint_paths(folder.checkpoints, candidate.trial.trial_id):
            with suppress(FileNotFoundError), path.open("rb") as file:
                os.fsync(file.fileno())
            sync_folder(path.parent)
