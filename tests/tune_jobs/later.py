"""Lines of a journal, and checkpoints, as other versions of tune-jobs write them: sound, and unknown here."""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tune_jobs.record.events import FORMAT
from tune_jobs.record.lines import START, Place, encode_line

SAID_OF_EARLIER = "was written by an earlier version of tune-jobs"
"""The message of each command about a journal of such a version."""
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
EARLIER = b"""\
beda38c3 {"type":"run_started","time":1000000.0,"name":"small","job_folder":"","trials":1,"rows":{"train":60},\
"fingerprints":{"data":"d"},"versions":{"tune-jobs":"0.0.1"},"notices":[],"driver":"host:7"}
e09f2874 {"type":"trial_created","time":1000001.0,"trial_id":"0000","number":0,"configuration":{"lr":0.1},\
"filled_in":false}
9406a906 {"type":"trial_started","time":1000002.0,"trial_id":"0000"}
621397ee {"type":"epochs_reported","time":1000003.0,"trial_id":"0000",\
"results":[{"epoch":1,"train_loss":0.5,"val_loss":0.5,"seconds":0.1}],"worker":"host:8"}
ab06494b {"type":"trial_waits","time":1000003.0,"trial_id":"0000","epoch":1}
5891bd0d {"type":"trial_ended","time":1000004.0,"trial_id":"0000","status":"completed",\
"reason":"All epochs were trained.","details":"","resumable":false}
af06853c {"type":"run_ended","time":1000005.0,"ending":"all trials have ended"}
1157c5c9 {"type":"winner_selected","time":1000006.0,"winner":"0000"}
"""
"""A journal of commit 045826c, the last one whose journals name no format."""
PLACES = ("last", "in the middle", "behind a damaged line", "unfinished")
"""The places of such a line in a journal."""


def line_of(content: Mapping[str, Any], before: Sequence[bytes]) -> bytes:
    """Return a sound line of a journal that follows `before`."""
    text = json.dumps(content, separators=(",", ":")).encode()
    place = Place(len(before), before[-1].partition(b" ")[0]) if before else START
    return encode_line(text, place)[0]


def write_later(journal: Path, content: Mapping[str, Any], place: str = "last") -> int:
    """Add a line to the journal and return its number, from 1."""
    lines = journal.read_bytes().splitlines(keepends=True)
    match place:
        case "last":
            number, lines = len(lines) + 1, [*lines, line_of(content, lines)]
        case "in the middle":
            number, lines = 4, [*lines[:3], line_of(content, lines[:3]), *lines[3:]]
        case "behind a damaged line":
            line = line_of(content, lines[:4])
            number, lines = 5, [*lines[:3], lines[3][:-2] + b"?\n", line, *lines[4:]]
        case "unfinished":
            number, lines = len(lines) + 1, [*lines, line_of(content, lines)[:-1]]
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
