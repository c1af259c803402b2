"""Which parts of a dashboard's files are complete: a list beside them, so that a resumed run knows what is not."""

import json
from pathlib import Path

FILE = "closed.jsonl"


class FinishedParts:
    """Parts whose files were closed, each with the time of the event that ended it.

    A part is a trial, or what else has files of its own. What a driver that was killed left open is not in the
    list, and nor is a trial that ended once more since: they are written anew from the journal.

    Args:
        folder: of the dashboard's files; made with the first part.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._times = dict(_read(self._path))

    def holds(self, part: str, time: float | None) -> bool:
        """Were the files of `part` closed after all up to its end at `time` was written? Never, if it has no end."""
        return time is not None and self._times.get(part) == time

    def add(self, part: str, time: float) -> None:
        """Notes that the files of `part`, which ended at `time`, have been closed.

        Raises:
            OSError: the list cannot be written to.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps([part, time])}")  # a line that was torn before stays a line of its own
        self._times[part] = time


def _read(path: Path) -> list[tuple[str, float]]:
    """The pairs of the list in their order; a torn line is none."""
    pairs = []
    for line in path.read_text("utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            part, time = json.loads(line)
        except (ValueError, TypeError):
            continue
        pairs.append((part, time))
    return pairs
