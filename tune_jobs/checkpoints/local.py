"""Keep the checkpoints of a trial in its own folder."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from tune_jobs.checkpoints.trial_checkpoints import epoch_of
from tune_jobs.record.folder import CHECKPOINT_SUFFIX


class LocalFiles:
    """The files in `root/<trial_id>`.

    A file is not forced to the disk, which would add half to the time of a small save. It outlives the process, and
    after a power cut its checksum tells whether it is whole.
    """

    def __init__(self, root: Path, trial_id: str) -> None:
        self.disk = root
        self._folder = root / trial_id

    def list(self) -> list[str]:
        return [path.name for path in self._folder.glob("*")]

    def read(self, name: str) -> BinaryIO:
        return (self._folder / name).open("rb")

    def write(self, name: str, fill: Callable[[BinaryIO], bool]) -> bool:
        self._folder.mkdir(exist_ok=True)  # but not the root, which exists unless its disk is missing
        temporary = self._folder / f".{name}.{uuid4().hex}.tmp"
        try:
            with temporary.open("wb") as file:
                filled = fill(file)
            if filled:
                temporary.replace(self._folder / name)
        finally:
            temporary.unlink(missing_ok=True)
        return filled

    def remove(self, name: str) -> None:
        (self._folder / name).unlink()

    def rename(self, name: str, new: str) -> None:
        (self._folder / name).replace(self._folder / new)


def checkpoint_paths(root: Path, trial_id: str) -> list[Path]:
    """Return the complete checkpoints in a trial's folder, the latest first."""
    return sorted(
        (root / trial_id).glob(f"epoch-*{CHECKPOINT_SUFFIX}"),
        key=lambda path: epoch_of(path.name),
        reverse=True,
    )
