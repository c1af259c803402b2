"""Check that all nodes of a cluster see the place where checkpoints go, before trials start.

The driver puts a token there. Each node reads it and leaves its own file. The driver looks for these files. One of
the two fails if only one machine has the folder, or if each machine has its own folder.
"""

import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

from tune_jobs.errors import ResourceError, RunFolderError
from tune_jobs.location import Location
from tune_jobs.remote.store import Store

_TOKEN = "token"  # noqa: S105 (no secret)
_SHOWN = 5
"""The most nodes that a message names."""


@dataclass(frozen=True)
class StorageCheck:
    """One question to all nodes, which is sent to them."""

    place: Path | Location
    """The place of the checkpoints of a run."""
    name: str
    """The name of the folder that the check uses there; it begins with a dot."""

    @classmethod
    def put(cls, place: Path | Location) -> Self:
        """Start a check: leave a token at `place`.

        Raises:
            RunFolderError: Nothing can be written there.
        """
        check = cls(place, f".storage-check-{secrets.token_hex(8)}")
        try:
            check._store.put(_TOKEN, check.name.encode())
        except OSError as error:
            raise RunFolderError(f"{place}: cannot be written to ({_reason(error)})") from error
        return check

    def answer(self, node: str) -> str | None:
        """Read the token and leave a file; this is called on the node.

        Args:
            node: The node's name, as the driver knows it.

        Returns:
            None, or the reason why the node cannot do it, in one line.
        """
        try:
            if self._store.get(_TOKEN) != self.name.encode():
                return "the file there has other content"
            self._store.put(quote(node, safe=""), node.encode())
        except FileNotFoundError:
            return "the driver's file is missing"
        except (
            Exception
        ) as error:  # a node may lack a package, or its own disk may be at fault: all are answers
            return _reason(error)
        return None

    def missing(self, nodes: Iterable[str]) -> list[str]:
        """Return the nodes whose file cannot be seen from here, in the order given.

        Raises:
            StoreError, OSError: Nothing can be read from here.
        """
        seen = {stored.name for stored in self._store.objects()}
        return [node for node in nodes if quote(node, safe="") not in seen]

    def raise_unless_shared(self, answers: Mapping[str, str | None]) -> None:
        """Check that all nodes see the same place.

        Args:
            answers: The results of `answer`, by node.

        Raises:
            ResourceError: Some nodes do not; the message names them and says what to do.
        """
        failed = {node: reason for node, reason in answers.items() if reason is not None}
        for node in self.missing(node for node in answers if node not in failed):
            failed[node] = "its file is not visible from here"
        if not failed:
            return
        named = [f"{node} ({reason})" for node, reason in list(failed.items())[:_SHOWN]]
        if len(failed) > _SHOWN:
            named.append(f"{len(failed) - _SHOWN} more")
        number = f"{len(failed)} of {len(answers)} nodes"
        if isinstance(self.place, Location):
            raise ResourceError(
                f"storage: {self.place} cannot be used on {number}: {', '.join(named)}. Give these machines "
                "credentials or a role that may read and write there, and access through the network"
            )
        raise ResourceError(
            f"storage: {self.place} is not shared by all nodes; wrong on {number}: {', '.join(named)}. A path "
            "that is local to one node cannot be used on several; give a folder that all of them mount at the same "
            "path, or an object store, with `--storage s3://bucket/prefix` or gs://"
        )

    def remove(self) -> None:
        """Remove all files of the check, as far as possible."""
        with suppress(OSError):
            self._parent.delete_all(self.name)

    @property
    def _parent(self) -> Store:
        return Store(self.place)

    @property
    def _store(self) -> Store:
        return Store(self.place / self.name)


def _reason(error: Exception) -> str:
    words = error.strerror if isinstance(error, OSError) else None
    return words or " ".join(str(error).split()) or type(error).__name__
