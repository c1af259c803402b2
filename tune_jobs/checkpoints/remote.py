"""Checkpoints of a trial in an object store. Workers write them there directly, without the driver's machine.

Each is a file as on a disk. It is made in the machine's temporary folder and sent as one object.

Workers have no lease. If another driver has replaced theirs, they may continue until their driver notices it, with
trials whose ids the new driver uses again. Hence the names of checkpoints, see `Checkpoints`.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from tune_jobs.location import Location
from tune_jobs.remote.store import Store, call_with_retries

T = TypeVar("T")

OUTAGE_SECONDS = 600.0
"""Seconds that an outage of the object store may last. After a longer one the run stops, and can be resumed."""
OUTAGE_VARIABLE = "TUNE_JOBS_OUTAGE_SECONDS"
"""Environment variable, on all nodes, that replaces `OUTAGE_SECONDS`."""


def outage_seconds() -> float:
    """Return how many seconds an outage may last without stopping the run."""
    with suppress(KeyError, ValueError):
        return max(0.0, float(os.environ[OUTAGE_VARIABLE]))
    return OUTAGE_SECONDS


class RemoteFiles:
    """The objects below `root/<trial_id>`.

    All methods except `remove` try again while the store fails, and raise `StoreError` after `outage_seconds`.

    Args:
        root: The place of the run's checkpoints.
        trial_id: The id of the trial.
        waiting: Called repeatedly while the store fails and is tried again.
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
        """Copy an object to a file in one step. Do nothing if the file exists or the object was pruned."""
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
        return call_with_retries(call, outage_seconds(), self._waiting)
