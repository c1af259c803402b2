"""The checkpoints of one trial: their names, the one that a training continues from, and the number that is kept.

Where they are stored, in a folder or an object store, is the matter of a `CheckpointFiles` with five operations.

Ray Tune's own checkpoints are not used. Each costs another call between driver and worker. Ray keeps or deletes them
trial by trial and not over the whole run. And a resumed run does not know those that were written after Ray's last
snapshot. Here a trial finds its checkpoints by its id.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from tune_jobs.checkpoints.file import (
    DamagedCheckpoint,
    check_origin,
    epoch_line,
    read_checkpoint,
    write_checkpoint,
)
from tune_jobs.files import reason_of
from tune_jobs.record.folder import CHECKPOINT_SUFFIX
from tune_jobs.remote.store import StoreError
from tune_jobs.trainers.interface import EpochResult, Training

KEEP_PER_TRIAL = 2
"""Checkpoints of a trial that are kept: the last, and the one before it in case the last is damaged."""
SECONDS_BETWEEN_CHECKPOINTS = 30.0
"""Seconds after which a trial between two distant rungs saves another checkpoint."""
DAMAGED_SUFFIX = ".damaged"
"""Suffix of unreadable checkpoints, which are kept for inspection."""
LEFTOVER = re.compile(r"\..*\.tmp")
"""Names of files that a worker was writing when it was killed."""
_NAME = re.compile(
    r"epoch-(?P<epoch>\d{6,})(-(?P<key>[0-9a-f]{8})-(?P<driver>\w*))?" + re.escape(CHECKPOINT_SUFFIX)
)


class CheckpointFiles(Protocol):
    """The storage of one trial's checkpoints: this protocol is all that the rest needs of it."""

    disk: Path
    """A folder on the disk that is written to. Messages about a full disk say how much room it has."""

    def list(self) -> list[str]:
        """Return the names of all files, in any order; none if the place does not exist yet."""

    def read(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Open a file on a disk that has the content of the file `name`.

        Raises:
            FileNotFoundError: There is no file of that name.
            OSError: The file cannot be read.
        """

    def write(self, name: str, fill: Callable[[BinaryIO], bool]) -> bool:
        """Write a file completely or not at all. It replaces a file of the same name.

        Args:
            name: The name of the file.
            fill: Writes the content. If it returns False, nothing is kept.

        Returns:
            The value that `fill` returned.

        Raises:
            OSError: The file cannot be written.
        """

    def remove(self, name: str) -> None:
        """Delete a file."""

    def rename(self, name: str, new: str) -> None:
        """Give a file the name `new`."""


class CheckpointStorageFailed(Exception):
    """The disk or the object store failed, and not the training.

    Attributes:
        file: The file that could not be written or read, relative to the run's checkpoints.
        reason: The reason of the failure.
    """

    def __init__(self, file: str, reason: str) -> None:
        self.file = file
        self.reason = reason
        super().__init__(f"{file}: {reason}")


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The trial that checkpoints belong to."""

    trial_id: str
    configuration: Mapping[str, Any]
    kind: str = ""
    """Name of the kind of training; empty if the checkpoints are only read."""
    driver: str | None = None
    """Letters and digits that name the driver of this worker; None if no other driver writes to the same place."""

    run: str = ""
    """The id of the run."""

    @property
    def origin(self) -> Mapping[str, Any]:
        """Return what the header of each checkpoint says that it belongs to."""
        return {
            "run": self.run,
            "trial": self.trial_id,
            "kind": self.kind,
            "configuration": self.configuration,
        }

    @property
    def key(self) -> str:
        """Return eight hex digits of the configuration, which are the same after it was read back from the journal."""
        text = json.dumps(self.configuration, sort_keys=True, default=lambda number: number.item())
        return hashlib.sha256(text.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Restored:
    """The result of restoring a training."""

    results: Sequence[Mapping[str, Any]] = ()
    """Rows of all epochs up to the checkpoint; the driver may not know the last ones."""
    damaged: Sequence[tuple[str, str]] = ()
    """Later checkpoints that could not be read: each file, relative to the run's checkpoints, with the reason."""
    file: str | None = None
    """File of the checkpoint, relative to the run's checkpoints; None if there was none. The driver may not know it."""


class Checkpoints:
    """The checkpoints of one trial.

    One worker of a driver at a time writes the checkpoints of a trial. Several drivers may share a place in an object
    store. They never touch each other's files, because a file has its configuration and its driver in its name:
    `epoch-000009-<configuration>-<driver>.pt`. A trial continues from any checkpoint of its configuration, because
    the curves are the same.

    Args:
        files: The storage of the checkpoints.
        owner: The trial that they belong to.
    """

    def __init__(self, files: CheckpointFiles, owner: Owner) -> None:
        self._files = files
        self._owner = owner
        self._epoch_lines: list[bytes] = []
        self._last_epoch = 0
        self._names: list[str] | None = None
        """The known checkpoints, the latest first: listing an object store at each save costs as much as the save."""
        self._saved = time.monotonic()

    @property
    def due(self) -> bool:
        """Return whether the last save is more than `SECONDS_BETWEEN_CHECKPOINTS` ago."""
        return time.monotonic() - self._saved > SECONDS_BETWEEN_CHECKPOINTS

    def names(self) -> list[str]:
        """Return the names of all checkpoints of the trial, the latest first."""
        found = [name for name in self._files.list() if self._is_own(name)]
        self._names = sorted(found, key=epoch_of, reverse=True)
        return list(self._names)

    def add(self, result: EpochResult) -> None:
        """Keep an epoch for the headers of the next checkpoints. A repeated epoch changes nothing."""
        if result.epoch > self._last_epoch:
            self._epoch_lines.append(epoch_line(result.to_mapping()))
            self._last_epoch = result.epoch

    def save(self, training: Training) -> str | None:
        """Save a training and all its epochs so far.

        Returns:
            The file, relative to the run's checkpoints; None if the training has no state to continue from.

        Raises:
            CheckpointStorageFailed: The disk is full, missing or cannot be written to; or the object store failed for
                longer than an outage may last.
        """
        assert training.epoch <= self._last_epoch, "an epoch was not added"
        name = self._name(self._last_epoch)
        known = self.names() if self._names is None else self._names
        owner = self._owner
        fill = partial(
            write_checkpoint,
            origin=owner.origin,
            epoch_lines=self._epoch_lines,
            save=training.save,
        )
        try:
            written = self._files.write(name, fill)
        except OSError as error:
            raise CheckpointStorageFailed(self._path(name), reason_of(error, self._files.disk)) from error
        self._saved = time.monotonic()
        if not written:
            return None
        self._names = [name, *(other for other in known if other != name)]
        self._prune()
        return self._path(name)

    def restore(self, training: Training) -> Restored:
        """Bring a training to the latest sound checkpoint. If there is none, leave it at its start.

        Damaged checkpoints, and those of another run or trial, are renamed. Unfinished files of killed workers are
        removed.

        Raises:
            CheckpointError: The state is of another training.
            CheckpointStorageFailed: The object store failed for longer than an outage may last.
            LaterVersion: A later version of tune-jobs wrote the checkpoint; it stays as it is.
        """
        try:
            self._remove_leftovers()
            return self._restore(training)
        except StoreError as error:
            raise CheckpointStorageFailed(self._owner.trial_id, str(error.strerror)) from error

    def _restore(self, training: Training) -> Restored:
        damaged = []
        for name in self.names():
            try:
                with ExitStack() as opened:
                    try:
                        file = opened.enter_context(self._files.read(name))
                    except FileNotFoundError:  # it was pruned since it was listed
                        continue
                    checkpoint = read_checkpoint(file, self._path(name))
                    check_origin(checkpoint, self._owner.origin, self._path(name))
                    training.load(checkpoint.state)
            except DamagedCheckpoint as error:  # an earlier one may be sound
                damaged.append((self._path(name), error.reason))
                with suppress(OSError):
                    self._set_aside(name)
                continue
            self._epoch_lines = [epoch_line(row) for row in checkpoint.epochs]
            self._last_epoch = checkpoint.epochs[-1]["epoch"] if checkpoint.epochs else 0
            return Restored(checkpoint.epochs, tuple(damaged), self._path(name))
        return Restored(damaged=tuple(damaged))

    def _prune(self) -> None:
        """Remove this driver's checkpoints of the trial except the last `KEEP_PER_TRIAL`."""
        assert self._names is not None
        own = [name for name in self._names if _driver_of(name) == self._owner.driver]
        for old in own[KEEP_PER_TRIAL:]:
            with suppress(OSError):  # the next save tries again
                self._files.remove(old)
                self._names.remove(old)

    def _set_aside(self, name: str) -> None:
        self._files.rename(name, name + DAMAGED_SUFFIX)
        if self._names is not None:
            self._names.remove(name)

    def _remove_leftovers(self) -> None:
        for name in self._files.list():
            if LEFTOVER.fullmatch(name):
                with suppress(OSError):
                    self._files.remove(name)

    def _is_own(self, name: str) -> bool:
        match = _NAME.fullmatch(name)
        return match is not None and match["key"] in {None, self._owner.key}

    def _name(self, epoch: int) -> str:
        driver = self._owner.driver
        suffix = "" if driver is None else f"-{self._owner.key}-{driver}"
        return f"epoch-{epoch:06d}{suffix}{CHECKPOINT_SUFFIX}"

    def _path(self, name: str) -> str:
        return f"{self._owner.trial_id}/{name}"


def epoch_of(name: str) -> int:
    """Return the epoch in the name of a checkpoint's file."""
    match = _NAME.fullmatch(name)
    assert match is not None
    return int(match["epoch"])


def _driver_of(name: str) -> str | None:
    match = _NAME.fullmatch(name)
    return None if match is None else match["driver"]
