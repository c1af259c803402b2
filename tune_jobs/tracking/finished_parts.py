"""The list of a dashboard's files that are complete, kept beside them. A resumed run rewrites the others."""

import json
from pathlib import Path

from tune_jobs.files import parse_json

FILE = "closed.jsonl"
"""Name of the file of the list, in the folder of the dashboard's files."""


class FinishedParts:
    """Parts whose files were closed, each with the time of the event that ended it.

    A part is a trial, or anything else with its own files. The list has neither parts that a killed driver left
    open nor trials that have ended again since. They are rewritten from the journal.

    Args:
        folder: Folder of the dashboard's files; made with the first part.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._times = dict(_read(self._path))

    def holds(self, part: str, time: float | None) -> bool:
        """Return whether the files of `part` hold everything up to its end at `time`; False if it has no end."""
        return time is not None and self._times.get(part) == time

    def add(self, part: str, time: float) -> None:
        """Note that the files of `part`, which ended at `time`, have been closed.

        Raises:
            OSError: The list cannot be written to.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps([part, time])}")  # after a torn line, this one is still whole
        self._times[part] = time


def _read(path: Path) -> list[tuple[str, float]]:
    """Return the pairs of the list in their order, without torn lines."""
    pairs = []
    for line in path.read_text("utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            part, time = parse_json(line)
        except (ValueError, TypeError):
            continue
        pairs.append((part, time))
    return pairs
