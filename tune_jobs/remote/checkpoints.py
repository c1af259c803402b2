"""Checkpoints in an object store: workers write them there, past the driver's machine.

Each is a file as on a disk, with its checksum, made in the machine's temporary folder and sent as one object.
"""

import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tune_jobs.checkpoint_store import DAMAGED_SUFFIX, Checkpoints, epoch_of
from tune_jobs.folder import CHECKPOINT_SUFFIX
from tune_jobs.remote.location import Location
from tune_jobs.remote.store import Store, persistently
from tune_jobs.storage import reason_of

T = TypeVar("T")

OUTAGE_SECONDS = 600.0
"""A store that takes no checkpoint is waited for so long; then the run stops, and can be resumed."""
OUTAGE_VARIABLE = "TUNE_JOBS_OUTAGE_SECONDS"
"""Of the environment, on all nodes: another number of seconds."""


def outage_seconds() -> float:
    """How long an outage may last that stops nothing."""
    with suppress(KeyError, ValueError):
        return max(0.0, float(os.environ[OUTAGE_VARIABLE]))
    return OUTAGE_SECONDS


class RemoteCheckpoints(Checkpoints):
    """The checkpoints of one trial, below a place of its own under `root`."""

    def __init__(self, root: Location, trial_id: str, waiting: Callable[[], None] = lambda: None) -> None:
        super().__init__(trial_id)
        self._waiting = waiting
        self._store = Store(root / trial_id)
        self._known: list[str] = []
        """The latest first, as far as this object has seen: to ask at each save would cost as much as to write."""

    def names(self) -> list[str]:
        found = [
            stored.name
            for stored in self._persistently(self._store.objects)
            if stored.name.startswith("epoch-") and stored.name.endswith(CHECKPOINT_SUFFIX)
        ]
        self._known = sorted(found, key=epoch_of, reverse=True)
        return list(self._known)

    def fetch(self, folder: Path) -> None:
        """Copies all of them into `folder`, which is made; those that are there stay."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in self.names():
            part = folder / f".{name}.{os.getpid()}.tmp"
            if not (folder / name).exists():
                with suppress(FileNotFoundError):  # pruned since
                    self._persistently(partial(self._store.download, name, part))
                    part.replace(folder / name)

    def _load(self, name: str) -> Mapping[str, Any]:
        from trainers.checkpoints import load_checkpoint  # noqa: PLC0415
        from trainers.errors import CheckpointMissing  # noqa: PLC0415

        with tempfile.TemporaryDirectory(prefix="tune-jobs-") as temporary:
            file = Path(temporary, name)
            try:
                self._persistently(lambda: self._store.download(name, file))
            except FileNotFoundError as error:
                raise CheckpointMissing(f"there is no checkpoint {self._store.uri(name)}") from error
            return load_checkpoint(file)

    def _write(self, state: Mapping[str, Any], name: str) -> None:
        from trainers.checkpoints import save_checkpoint  # noqa: PLC0415

        with tempfile.TemporaryDirectory(prefix="tune-jobs-") as temporary:
            file = Path(temporary, name)
            save_checkpoint(state, file)
            self._persistently(lambda: self._store.upload(file, name))
        self._known = [name, *(known for known in self._known if known != name)]

    def _written(self) -> list[str]:
        return list(self._known)

    def _remove(self, name: str) -> None:
        self._store.delete(name)
        self._known.remove(name)

    def _set_aside(self, name: str) -> None:
        self._store.put(name + DAMAGED_SUFFIX, self._store.get(name))
        self._remove(name)

    def _tidy(self) -> None:
        """An object that was not finished is none."""

    def _persistently(self, call: Callable[[], T]) -> T:
        return persistently(call, outage_seconds(), self._waiting)

    def _reason(self, error: OSError) -> str:
        return reason_of(error, Path(tempfile.gettempdir()))
