"""Checkpoints of a run: written by workers, pruned by the driver, so that few are on disk at a time.

Ray Tune's own checkpoints are not used: each costs a further call between driver and worker, they are kept or
deleted trial by trial and not over the whole run, and what was written after Ray's last snapshot is unknown
to a resumed run. A trial of ours finds its checkpoint by its id, whoever asks for it.
"""

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_jobs.events import Status
from tune_jobs.folder import CHECKPOINT_SUFFIX, RunFolder
from tune_jobs.records import RunRecord
from tune_jobs.selection import rank

if TYPE_CHECKING:
    from trainers.trainer import Trainer

KEEP_BEST_TRIALS = 5
"""Ended trials whose checkpoint stays on disk."""
KEEP_PER_TRIAL = 2
"""Checkpoints of a trial in progress: the last, and the one before it in case the last is damaged."""


class CheckpointStore:
    """The checkpoints of one trial, in a folder of its own under `root`."""

    def __init__(self, root: Path, trial_id: str) -> None:
        self._root = root
        self._folder = root / trial_id
        self._saved = time.monotonic()

    @property
    def seconds_since_save(self) -> float:
        return time.monotonic() - self._saved

    def files(self) -> list[Path]:
        """Complete checkpoints, the latest first."""
        return sorted(self._folder.glob(f"epoch-*{CHECKPOINT_SUFFIX}"), reverse=True)

    def save(self, trainer: "Trainer") -> str:
        """Writes the trainer's state; returns the file, relative to the root."""
        from trainers.checkpoints import save_checkpoint  # noqa: PLC0415

        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"epoch-{trainer.epoch:06d}{CHECKPOINT_SUFFIX}"
        save_checkpoint(trainer.state_dict(), path)
        for old in self.files()[KEEP_PER_TRIAL:]:
            old.unlink(missing_ok=True)
        self._saved = time.monotonic()
        return path.relative_to(self._root).as_posix()

    def restore(self, trainer: "Trainer") -> list[Mapping[str, Any]]:
        """Brings `trainer` to the latest sound checkpoint, if there is one.

        Returns:
            The results of all epochs up to it, since the driver may not have heard of the last ones.
        """
        from trainers.checkpoints import load_checkpoint  # noqa: PLC0415
        from trainers.errors import CheckpointError  # noqa: PLC0415

        for path in self.files():
            try:
                state = load_checkpoint(path)
            except CheckpointError:  # damaged: the one before it is as good, if older
                continue
            trainer.load_state_dict(state)
            return [result.to_mapping() for result in trainer.history]
        return []


def prune_checkpoints(folder: RunFolder, record: RunRecord) -> None:
    """Deletes the checkpoints of trials that have ended for good and are not among the best."""
    kept = {candidate.trial.trial_id for candidate in rank(record)[:KEEP_BEST_TRIALS]}
    for trial_id in os.listdir(folder.checkpoints):  # few, whereas a run may have thousands of trials
        trial = record.trials.get(trial_id)
        done = trial is not None and trial.status.ended and trial.status is not Status.INTERRUPTED
        if done and trial_id not in kept:
            shutil.rmtree(folder.checkpoints / trial_id, ignore_errors=True)
