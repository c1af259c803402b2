"""Checkpoints of a trial in an object store: workers write them there, past the driver's machine.

Each is a file as on a disk, made in the machine's temporary folder and sent as one object.

Workers have no lease. Those of a driver that another one has replaced may continue until it learns of that, with
trials of the ids that the other one gives again. Hence the names of checkpoints, see `Checkpoints`.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from tune_jobs.location import Location
from tune_jobs.remote.store import Store, persistently

T = TypeVar("T")

OUTAGE_SECONDS = 600.0
"""Seconds that a failing store is waited for; then the run stops, and can be resumed."""
OUTAGE_VARIABLE = "TUNE_JOBS_OUTAGE_SECONDS"
"""Environment variable, on all nodes, with another number of seconds."""


def outage_seconds() -> float:
    """Return how long an outage may last that stops nothing."""
    with suppress(KeyError, ValueError):
        return max(0.0, float(os.environ[OUTAGE_VARIABLE]))
    return OUTAGE_SECONDS


class RemoteFiles:
    """The objects below `root/<trial_id>`.

    All methods but `remove` wait while the store fails, and raise `StoreError` after `outage_seconds`.

    Args:
        root: Where the checkpoints of the run are kept.
        trial_id: Of the trial.
        waiting: Called now and then while a store that fails is waited for.
    """

    def __init__(self, root: Location, trial_id: str, waiting: Callable[[], None] = lambda: None) -> None:
        self.disk = Path(tempfile.gettempdir())
        self._store = Store(root / trial_id)
        self._waiting = waiting

    def list(self) -> list[str]:
        return [stored.name for stored in self._persistently(self._store.objects)]

    @contextmanager
    def read(self, name: str) -> Iterator[BinaryIO]:
        with self._temporary(name) as file:
            self._persistently(partial(self._store.download, name, file))
            with file.open("rb") as content:
                yield content

    def write(self, name: str, fill: Callable[[BinaryIO], bool]) -> bool:
        with self._temporary(name) as file:
            with file.open("wb") as content:
                filled = fill(content)
            if filled:
                self._persistently(partial(self._store.upload, file, name))
        return filled

    def remove(self, name: str) -> None:
        self._store.delete(name)

    def rename(self, name: str, new: str) -> None:
        self._store.put(new, self._store.get(name))
        self._store.delete(name)

    def fetch(self, name: str, file: Path) -> None:
        """Copy an object to a file in one step, unless the file exists or the object was pruned."""
        if file.exists():
            return
        part = file.with_name(f".{name}.{os.getpid()}.tmp")
        with suppress(FileNotFoundError):
            self._persistently(partial(self._store.download, name, part))
            part.replace(file)

    @contextmanager
    def _temporary(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="tune-jobs-") as folder:
            yield Path(folder, name)

    def _persistently(self, call: Callable[[], T]) -> T:
        return persistently(call, outage_seconds(), self._waiting)
