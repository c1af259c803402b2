"""Lines of a journal, and checkpoints, as a later version of tune-jobs might write them: sound, and unknown here."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tune_jobs.record.events import FORMAT

SAID = "was written by a later version of tune-jobs"
"""The message of each command about such a journal."""

LATER: Mapping[str, Mapping[str, Any]] = {
    "an unknown event": {"type": "finalists_chosen", "time": 1.0, "finalists": ["0000"]},
    "an unknown field": {"type": "run_ended", "time": 1.0, "ending": "all_trials", "finalists": 3},
    "an unknown ending": {"type": "run_ended", "time": 1.0, "ending": "budget"},
    "an unknown cause": {
        "type": "trial_ended", "time": 1.0, "trial_id": "0000", "status": "failed", "cause": "budget", "reason": "",
    },
    "a higher format": {
        "type": "run_resumed", "time": 1.0, "trials": 3, "versions": {"tune-jobs": "9.1.0"}, "format": FORMAT + 1,
    },
}  # fmt: skip
PLACES = ("last", "in the middle", "behind a damaged line", "unfinished")
"""The places of such a line in a journal."""


def line_of(content: Mapping[str, Any]) -> bytes:
    """Return a sound line of a journal."""
    text = json.dumps(content, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def write_later(journal: Path, content: Mapping[str, Any], place: str = "last") -> int:
    """Add a line to the journal and return its number, from 1."""
    lines = journal.read_bytes().splitlines(keepends=True)
    line = line_of(content)
    match place:
        case "last":
            number, lines = len(lines) + 1, [*lines, line]
        case "in the middle":
            number, lines = 4, [*lines[:3], line, *lines[3:]]
        case "behind a damaged line":
            number, lines = 5, [*lines[:3], lines[3][:-2] + b"?\n", line, *lines[4:]]
        case "unfinished":
            number, lines = len(lines) + 1, [*lines, line[:-1]]
    journal.write_bytes(b"".join(lines))
    return number


def checkpoint_of_later_version(content: bytes) -> bytes:
    """Return a checkpoint as a later version would write it: with another format and the right checksum."""
    whole = content.replace(b"tune-jobs checkpoint 1\n", b"tune-jobs checkpoint 2\n", 1)
    body = whole[: -len(b"\nchecksum 01234567\n")]
    return body + b"\nchecksum %08x\n" % zlib.crc32(body)


def make_checkpoints_later(checkpoints: Path) -> dict[Path, bytes]:
    """Rewrite all checkpoints of a run as a later version would; return what they were, by path."""
    before = {path: path.read_bytes() for path in checkpoints.rglob("epoch-*.pt")}
    for path, content in before.items():
        path.write_bytes(checkpoint_of_later_version(content))
    return before
