"""Checkpoints of a run: written by workers, pruned by the driver, so that few are on disk at a time.

Ray Tune's own checkpoints are not used: each costs a further call between driver and worker, they are kept or
deleted trial by trial and not over the whole run, and what was written after Ray's last snapshot is unknown
to a resumed run. A trial of ours finds its checkpoint by its id, whoever asks for it.
"""

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_jobs.folder import CHECKPOINT_SUFFIX, RunFolder, sync_folder
from tune_jobs.records import RunRecord
from tune_jobs.selection import rank
from tune_jobs.storage import reason_of

if TYPE_CHECKING:
    from trainers.trainer import Trainer

KEEP_BEST_TRIALS = 5
"""Ended trials whose checkpoint stays on disk."""
KEEP_PER_TRIAL = 2
"""Checkpoints of a trial in progress: the last, and the one before it in case the last is damaged."""
DAMAGED_SUFFIX = ".damaged"
"""Added to the name of a checkpoint that could not be read: it is kept for who wants to know, and not read again."""


class CheckpointNotWritten(Exception):
    """The disk's fault, and not that of the training.

    Attributes:
        file: that could not be written, relative to the root.
        reason: why.
    """

    def __init__(self, file: str, reason: str) -> None:
        self.file = file
        self.reason = reason
        super().__init__(f"{file}: {reason}")


@dataclass(frozen=True)
class Restored:
    """What a trainer was brought to."""

    results: Sequence[Mapping[str, Any]] = ()
    """Of all epochs up to the checkpoint, since the driver may not have heard of the last ones."""
    damaged: Sequence[tuple[str, str]] = ()
    """Later checkpoints that could not be read, as files relative to the root, and why."""
    file: str | None = None
    """The checkpoint, relative to the root; the driver may not have heard of it."""


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
        return sorted(self._folder.glob(f"epoch-*{CHECKPOINT_SUFFIX}"), key=_epoch_of, reverse=True)

    def save(self, trainer: "Trainer") -> str:
        """Writes the trainer's state; returns the file, relative to the root.

        Raises:
            CheckpointNotWritten: the disk is full, cannot be written to, or is gone.
        """
        from trainers.checkpoints import save_checkpoint  # noqa: PLC0415

        path = self._folder / f"epoch-{trainer.epoch:06d}{CHECKPOINT_SUFFIX}"
        state = trainer.state_dict()
        try:
            self._folder.mkdir(exist_ok=True)  # and not the root, which is there unless its disk is gone
            save_checkpoint(state, path)
        except OSError as error:
            raise CheckpointNotWritten(self._name(path), reason_of(error, self._root)) from error
        for old in self.files()[KEEP_PER_TRIAL:]:
            with suppress(OSError):  # the next save tries again
                old.unlink()
        self._saved = time.monotonic()
        return self._name(path)

    def restore(self, trainer: "Trainer") -> Restored:
        """Brings `trainer` to the latest sound checkpoint, or leaves it at its start where there is none.

        Damaged checkpoints are set aside, and what killed workers left is removed.

        Raises:
            CheckpointError: the checkpoint is of another training.
        """
        from trainers.checkpoints import load_checkpoint, remove_leftovers  # noqa: PLC0415
        from trainers.errors import CheckpointError, CheckpointMissing  # noqa: PLC0415

        with suppress(OSError):
            remove_leftovers(self._folder)
        damaged = []
        for path in self.files():
            try:
                state = load_checkpoint(path)
            except CheckpointMissing:  # somebody has pruned it since it was listed
                continue
            except CheckpointError as error:  # the one before it is as good, if older
                damaged.append((self._name(path), str(error.__cause__ or error)))
                with suppress(OSError):
                    path.replace(path.with_name(path.name + DAMAGED_SUFFIX))
                continue
            trainer.load_state_dict(state)
            results = [result.to_mapping() for result in trainer.history]
            return Restored(results, tuple(damaged), self._name(path))
        return Restored(damaged=tuple(damaged))

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()


def _epoch_of(path: Path) -> int:
    return int(path.stem.removeprefix("epoch-"))


def prune_checkpoints(folder: RunFolder, record: RunRecord) -> None:
    """Deletes the checkpoints of trials that have ended and are not among the best.

    Those that were not promoted are among them: should the run be extended, few of them go on, from their start.
    """
    kept = {candidate.trial.trial_id for candidate in rank(record)[:KEEP_BEST_TRIALS]}
    for path in folder.checkpoints.glob("*"):  # few, whereas a run may have thousands of trials
        trial = record.trials.get(path.name)
        done = trial is not None and trial.status.ended and not trial.cut_off
        if done and path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)


def sync_checkpoints(folder: RunFolder, record: RunRecord) -> None:
    """Forces the checkpoints of the best trials to the disk, so that a power cut after the run costs none.

    Workers do not, since that would add half to the time of a small save.
    """
    for candidate in rank(record)[:KEEP_BEST_TRIALS]:
        for path in CheckpointStore(folder.checkpoints, candidate.trial.trial_id).files():
            with suppress(FileNotFoundError), path.open("rb") as file:
                os.fsync(file.fileno())
            sync_folder(path.parent)
