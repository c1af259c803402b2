"""Checkpoints of a run: written by workers, pruned by the driver, so that few are on disk at a time.

Ray Tune's own checkpoints are not used: each costs a further call between driver and worker, they are kept or
deleted trial by trial and not over the whole run, and what was written after Ray's last snapshot is unknown
to a resumed run. A trial of ours finds its checkpoint by its id, whoever asks for it.
"""

import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_jobs.files import reason_of, sync_folder
from tune_jobs.location import Location
from tune_jobs.record.folder import CHECKPOINT_SUFFIX, RunFolder
from tune_jobs.record.run_record import RunRecord
from tune_jobs.remote.store import Store
from tune_jobs.selection.rule import rank

if TYPE_CHECKING:
    from tune_jobs.trainers.pytorch.trainer import Trainer

KEEP_BEST_TRIALS = 5
"""Ended trials whose checkpoint stays on disk."""
KEEP_PER_TRIAL = 2
"""Checkpoints of a trial: the last, and the one before it in case the last is damaged; in a store, of each driver."""
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


class Checkpoints(ABC):
    """The checkpoints of one trial, wherever they are kept: subclasses say how a single one is read and written."""

    def __init__(self, trial_id: str) -> None:
        self._trial_id = trial_id
        self._saved = time.monotonic()

    @property
    def seconds_since_save(self) -> float:
        return time.monotonic() - self._saved

    @abstractmethod
    def names(self) -> list[str]:
        """Complete checkpoints, the latest first."""

    def save(self, trainer: "Trainer") -> str:
        """Writes the trainer's state; returns the file, relative to the root.

        Raises:
            CheckpointNotWritten: the disk is full, cannot be written to, or is gone; or the store is, for long.
        """
        name = self._name(trainer.epoch)
        state = trainer.state_dict()
        try:
            self._write(state, name)
        except OSError as error:
            raise CheckpointNotWritten(self._file(name), self._reason(error)) from error
        for old in self._written()[KEEP_PER_TRIAL:]:
            with suppress(OSError):  # the next save tries again
                self._remove(old)
        self._saved = time.monotonic()
        return self._file(name)

    def restore(self, trainer: "Trainer") -> Restored:
        """Brings `trainer` to the latest sound checkpoint, or leaves it at its start where there is none.

        Damaged checkpoints are set aside, and what killed workers left is removed.

        Raises:
            CheckpointError: the checkpoint is of another training.
            StoreError: an object store cannot be asked, for long.
        """
        from tune_jobs.trainers.errors import CheckpointError, CheckpointMissing  # noqa: PLC0415

        self._tidy()
        damaged = []
        for name in self.names():
            try:
                state = self._load(name)
            except CheckpointMissing:  # somebody has pruned it since it was listed
                continue
            except CheckpointError as error:  # the one before it is as good, if older
                damaged.append((self._file(name), str(error.__cause__ or error)))
                with suppress(OSError):
                    self._set_aside(name)
                continue
            trainer.load_state_dict(state)
            results = [result.to_mapping() for result in trainer.history]
            return Restored(results, tuple(damaged), self._file(name))
        return Restored(damaged=tuple(damaged))

    def _name(self, epoch: int) -> str:
        """Of the checkpoint that this object writes after `epoch`."""
        return f"epoch-{epoch:06d}{CHECKPOINT_SUFFIX}"

    @abstractmethod
    def _load(self, name: str) -> Mapping[str, Any]:
        """The state in a checkpoint; raises `CheckpointMissing` or `CheckpointError`."""

    @abstractmethod
    def _write(self, state: Mapping[str, Any], name: str) -> None: ...

    @abstractmethod
    def _written(self) -> list[str]:
        """As `names`; it may leave out what this object has not written itself."""

    @abstractmethod
    def _remove(self, name: str) -> None: ...

    @abstractmethod
    def _set_aside(self, name: str) -> None:
        """Keeps a damaged checkpoint under another name."""

    @abstractmethod
    def _tidy(self) -> None:
        """Removes what killed workers left."""

    @abstractmethod
    def _reason(self, error: OSError) -> str:
        """Why nothing could be written."""

    def _file(self, name: str) -> str:
        return f"{self._trial_id}/{name}"


class CheckpointStore(Checkpoints):
    """The checkpoints of one trial, in a folder of its own under `root`."""

    def __init__(self, root: Path, trial_id: str) -> None:
        super().__init__(trial_id)
        self._root = root
        self._folder = root / trial_id

    def files(self) -> list[Path]:
        """Complete checkpoints, the latest first."""
        return sorted(
            self._folder.glob(f"epoch-*{CHECKPOINT_SUFFIX}"),
            key=lambda path: epoch_of(path.name),
            reverse=True,
        )

    def names(self) -> list[str]:
        return [path.name for path in self.files()]

    def _load(self, name: str) -> Mapping[str, Any]:
        from tune_jobs.trainers.pytorch.checkpoints import load_checkpoint  # noqa: PLC0415

        return load_checkpoint(self._folder / name)

    def _write(self, state: Mapping[str, Any], name: str) -> None:
        from tune_jobs.trainers.pytorch.checkpoints import save_checkpoint  # noqa: PLC0415

        self._folder.mkdir(exist_ok=True)  # and not the root, which is there unless its disk is gone
        save_checkpoint(state, self._folder / name)

    def _written(self) -> list[str]:
        return self.names()

    def _remove(self, name: str) -> None:
        (self._folder / name).unlink()

    def _set_aside(self, name: str) -> None:
        (self._folder / name).replace(self._folder / (name + DAMAGED_SUFFIX))

    def _tidy(self) -> None:
        from tune_jobs.trainers.pytorch.checkpoints import remove_leftovers  # noqa: PLC0415

        with suppress(OSError):
            remove_leftovers(self._folder)

    def _reason(self, error: OSError) -> str:
        return reason_of(error, self._root)


def open_checkpoints(
    place: Path | Location,
    trial_id: str,
    configuration: Mapping[str, Any],
    driver: str,
    waiting: Callable[[], None] = lambda: None,
) -> Checkpoints:
    """The checkpoints of a trial.

    Args:
        place: where those of its run are kept.
        trial_id: its.
        configuration: its; in an object store, trials of two drivers may have one id.
        driver: letters and digits of the driver's own, by which it knows what its workers have written there.
        waiting: called now and then while an object store that fails is waited for.
    """
    if isinstance(place, Path):
        return CheckpointStore(place, trial_id)
    from tune_jobs.checkpoints.remote import RemoteCheckpoints  # noqa: PLC0415 (it builds on this module)

    return RemoteCheckpoints(place, trial_id, configuration, driver, waiting)


def epoch_of(name: str) -> int:
    """The epoch that a checkpoint's file is named after."""
    return int(name.removeprefix("epoch-").removesuffix(CHECKPOINT_SUFFIX).partition("-")[0])


def unneeded(record: RunRecord) -> set[str]:
    """Ids of the trials that have ended and are not among the best.

    Those that were not promoted are among them: should the run be extended, few of them go on, from their start.
    """
    kept = {candidate.trial.trial_id for candidate in rank(record)[:KEEP_BEST_TRIALS]}
    return {
        trial.trial_id
        for trial in record.trials.values()
        if trial.status.ended and not trial.cut_off and trial.trial_id not in kept
    }


def prune_checkpoints(place: Path | Location, trial_ids: Collection[str]) -> None:
    """Deletes the checkpoints of trials that are not needed any more.

    Raises:
        StoreError: an object store cannot be asked; a further call does what is left.
    """
    if isinstance(place, Path):
        for path in place.glob("*"):  # few, whereas a run may have thousands of trials
            if path.name in trial_ids:
                shutil.rmtree(path, ignore_errors=True)
        return
    store = Store(place)
    for name in store.folders():
        if name in trial_ids:
            store.delete_all(name)


def sync_checkpoints(folder: RunFolder, record: RunRecord) -> None:
    """Forces the checkpoints of the best trials to the disk, so that a power cut after the run costs none.

    Workers do not, since that would add half to the time of a small save.
    """
    for candidate in rank(record)[:KEEP_BEST_TRIALS]:
        for path in CheckpointStore(folder.checkpoints, candidate.trial.trial_id).files():
            with suppress(FileNotFoundError), path.open("rb") as file:
                os.fsync(file.fileno())
            sync_folder(path.parent)
