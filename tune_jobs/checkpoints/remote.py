"""Checkpoints in an object store: workers write them there, past the driver's machine.

Each is a file as on a disk, with its checksum, made in the machine's temporary folder and sent as one object.

Workers have no lease. Those of a driver that another one has taken over from may go on for as long as it does not
hear of that, with trials of the ids that the other one gives anew. So the name of a checkpoint,
`epoch-000009-<configuration>-<driver>.pt`, tells both: a trial finds those of its own configuration alone, whichever
driver's they are (their curves are the same), and a worker writes to and removes its own driver's alone.
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tune_jobs.checkpoints.store import DAMAGED_SUFFIX, Checkpoints, epoch_of
from tune_jobs.errors import RunFolderError
from tune_jobs.files import reason_of
from tune_jobs.location import Location
from tune_jobs.record.folder import CHECKPOINT_SUFFIX, RunFolder
from tune_jobs.remote.store import Store, StoreError, persistently
from tune_jobs.remote.working_copy import checkpoints_of

T = TypeVar("T")

OUTAGE_SECONDS = 600.0
"""A store that takes no checkpoint is waited for so long; then the run stops, and can be resumed."""
_NAME = re.compile(r"epoch-\d{6,}(-(?P<key>[0-9a-f]{8})-\w+)?" + re.escape(CHECKPOINT_SUFFIX))
"""Runs that were begun earlier have some that are named after the epoch alone."""
OUTAGE_VARIABLE = "TUNE_JOBS_OUTAGE_SECONDS"
"""Of the environment, on all nodes: another number of seconds."""


def outage_seconds() -> float:
    """How long an outage may last that stops nothing."""
    with suppress(KeyError, ValueError):
        return max(0.0, float(os.environ[OUTAGE_VARIABLE]))
    return OUTAGE_SECONDS


class RemoteCheckpoints(Checkpoints):
    """The checkpoints of one trial, below a place of its own under `root`.

    Args:
        root: where those of its run are kept.
        trial_id: its.
        configuration: its.
        driver: letters and digits of the driver that the trial is trained for; empty for whoever only reads.
        waiting: called now and then while a store that fails is waited for.
    """

    def __init__(
        self,
        root: Location,
        trial_id: str,
        configuration: Mapping[str, Any],
        driver: str = "",
        waiting: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(trial_id)
        self._key = _key(configuration)
        self._driver = driver
        self._waiting = waiting
        self._store = Store(root / trial_id)
        self._known: list[str] = []
        """The latest first, as far as this object has seen: to ask at each save would cost as much as to write."""

    def names(self) -> list[str]:
        found = [
            stored.name
            for stored in self._persistently(self._store.objects)
            if (named := _NAME.fullmatch(stored.name)) and named["key"] in (None, self._key)
        ]
        self._known = sorted(found, key=epoch_of, reverse=True)
        return list(self._known)

    def _name(self, epoch: int) -> str:
        return f"epoch-{epoch:06d}-{self._key}-{self._driver}{CHECKPOINT_SUFFIX}"

    def fetch(self, folder: Path) -> list[Path]:
        """Copies all of them into `folder`, which is made; those that are there stay. Returns the files."""
        folder.mkdir(parents=True, exist_ok=True)
        names = self.names()
        for name in names:
            part = folder / f".{name}.{os.getpid()}.tmp"
            if not (folder / name).exists():
                with suppress(FileNotFoundError):  # pruned since
                    self._persistently(partial(self._store.download, name, part))
                    part.replace(folder / name)
        return [folder / name for name in names]

    def _load(self, name: str) -> Mapping[str, Any]:
        from tune_jobs.trainers.errors import CheckpointMissing  # noqa: PLC0415
        from tune_jobs.trainers.pytorch.checkpoints import load_checkpoint  # noqa: PLC0415

        with tempfile.TemporaryDirectory(prefix="tune-jobs-") as temporary:
            file = Path(temporary, name)
            try:
                self._persistently(lambda: self._store.download(name, file))
            except FileNotFoundError as error:
                raise CheckpointMissing(f"there is no checkpoint {self._store.uri(name)}") from error
            return load_checkpoint(file)

    def _write(self, state: Mapping[str, Any], name: str) -> None:
        from tune_jobs.trainers.pytorch.checkpoints import save_checkpoint  # noqa: PLC0415

        with tempfile.TemporaryDirectory(prefix="tune-jobs-") as temporary:
            file = Path(temporary, name)
            save_checkpoint(state, file)
            self._persistently(lambda: self._store.upload(file, name))
        self._known = [name, *(known for known in self._known if known != name)]

    def _written(self) -> list[str]:
        return [name for name in self._known if name.endswith(f"-{self._driver}{CHECKPOINT_SUFFIX}")]

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


def fetch_checkpoints(
    folder: RunFolder, trial_id: str, configuration: Mapping[str, Any]
) -> list[Path] | None:
    """Copy the checkpoints of a trial from the store into `folder`, if `folder` is the copy of a run.

    Args:
        folder: A run folder, or a copy of one.
        trial_id: Whose checkpoints.
        configuration: Of the trial: a store may keep checkpoints of another configuration under the same id.

    Returns:
        Their files, the latest first. None if `folder` is no copy.

    Raises:
        RunFolderError: The store cannot be reached.
    """
    place = checkpoints_of(folder)
    if isinstance(place, Location):
        try:
            return RemoteCheckpoints(place, trial_id, configuration).fetch(folder.checkpoints / trial_id)
        except StoreError as error:
            raise RunFolderError(f"{place}: cannot be read ({error.strerror})") from error
    return None


def _key(configuration: Mapping[str, Any]) -> str:
    """The same for a configuration that was read back from the journal."""
    text = json.dumps(configuration, sort_keys=True, default=lambda number: number.item())
    return hashlib.sha256(text.encode()).hexdigest()[:8]
