"""Retention of a run's checkpoints: the driver deletes those of trials that are no longer needed."""

import os
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from tune_jobs.checkpoints.local import checkpoint_paths
from tune_jobs.files import sync_folder
from tune_jobs.location import Location
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.run_record import RunRecord
from tune_jobs.remote.store import Store
from tune_jobs.selection.rule import rank

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


def prune_checkpoints(place: Path | Location, trial_ids: Collection[str]) -> None:
    """Delete the checkpoints of the given trials.

    Raises:
        StoreError: The object store failed. Another call deletes what is left.
    """
    if isinstance(place, Path):
        for path in place.glob("*"):  # only a few folders exist, but `trial_ids` may be thousands
            if path.name in trial_ids:
                shutil.rmtree(path, ignore_errors=True)
        return
    store = Store(place)
    for name in store.folders():
        if name in trial_ids:
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
