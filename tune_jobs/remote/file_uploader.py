"""Send the changed files of a run folder to its object store, each after the events that it rests on."""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tune_jobs.record.folder import RunFolder
from tune_jobs.remote import claims, lease, segments
from tune_jobs.remote.store import Store

_NOT_SENT = ("checkpoints", "ray")
"""Folders that are not sent: workers write checkpoints to the store themselves, and Ray's files serve one machine."""
_PART = re.compile(r"\..+\.\d+\.tmp")
"""Name of an incomplete file."""
_NOT_OURS = ("checkpoints/", f"{segments.FOLDER}/", f"{lease.FOLDER}/", f"{claims.FOLDER}/")
"""Prefixes of the names of objects that other modules write."""


class FileUploader:
    """Makes the files in the store equal to those of the run folder, except the journal.

    Args:
        folder: The working copy.
        store: The store of the run.
        send_events: Sends the journal. Called before every file, so the store has the events that a file rests on.
        ensure_lease: Raises if this process may not write to the run. Called before every write.
    """

    def __init__(
        self,
        folder: RunFolder,
        store: Store,
        send_events: Callable[[], None],
        ensure_lease: Callable[[], None],
    ) -> None:
        self._folder, self._store = folder, store
        self._send_events, self._ensure_lease = send_events, ensure_lease
        self._sent: dict[str, tuple[int, int]] = {}
        """Size and time of change, by file, of the files that the store has."""

    def remember_sent(self) -> None:
        """Find out which files the store has already, by size and time of change.

        Raises:
            StoreError: The store cannot be reached.
        """
        stored = {one.name: one for one in self._store.objects() if not one.name.startswith(_NOT_OURS)}
        for name, (size, changed) in self._files().items():
            one = stored.get(name)
            if one is not None and one.size == size and changed / 1e9 <= one.modified:
                self._sent[name] = (size, changed)

    def send(self, is_stopping: Callable[[], bool] = lambda: False) -> None:
        """Send the files that changed, and remove from the store those that were removed.

        Args:
            is_stopping: Called before every file; the upload ends if it returns True.

        Raises:
            LeaseLost: This process may not write to the run any more.
            StoreError: The store does not take a file; a further call sends the rest.
        """
        now = self._files()
        for name in now:
            if is_stopping():
                return
            with suppress(FileNotFoundError):  # replaced or removed meanwhile
                self._send_file(name)
        for name in [name for name in self._sent if name not in now]:
            self._ensure_lease()
            self._store.delete(name)
            del self._sent[name]

    def _send_file(self, name: str) -> None:
        state = _state_of(self._folder.path / name)
        if self._sent.get(name) != state:
            self._send_events()
            self._ensure_lease()
            self._store.upload(self._folder.path / name, name, state[0])
            self._sent[name] = state

    def _files(self) -> dict[str, tuple[int, int]]:
        """Return size and time of change of all files that the store should have, by their paths in the folder."""
        found = {}
        top = self._folder.path
        for folder, below, names in os.walk(top):
            if Path(folder) == top:
                below[:] = [name for name in below if name not in _NOT_SENT]
            of_user = (
                self._folder.submitted,
                self._folder.modules,
            )  # the user chose the names of these files
            users = any(Path(folder).is_relative_to(one) for one in of_user)
            below[:] = [n for n in below if n != "__pycache__" and (users or not n.startswith("."))]
            for name in names:
                path = Path(folder, name)
                hidden = name.startswith(".") or name.endswith((".tmp", ".lock"))
                if (hidden and not users) or _PART.fullmatch(name) or path == self._folder.journal:
                    continue
                with suppress(FileNotFoundError):
                    if not path.is_symlink():
                        found[path.relative_to(top).as_posix()] = _state_of(path)
        return found


def _state_of(path: Path) -> tuple[int, int]:
    """Return size and time of change."""
    status = path.lstat()
    return status.st_size, status.st_mtime_ns
