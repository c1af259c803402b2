"""Snapshots: what the product says to people, as text files that are compared exactly.

`make snapshots` rewrites the files of `snapshots/`; the diff then shows the words that changed.
"""

import difflib
import os
import re
import socket
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "snapshots"
UPDATE = "UPDATE_SNAPSHOTS"
"""Environment variable: `1` rewrites the files in place of comparing with them."""

_VOLATILE = [
    (re.compile(r"\b\d{8}T\d{6}Z-[a-z]{4}\b"), "TIME-ID"),
    (re.compile(r"\b\d{8}T\d{6}Z\b"), "TIME"),
    (re.compile(r"\b20\d\d-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?(\.\d+)?"), "TIME"),
    (re.compile(r"\b(?=[0-9]*[a-f])[0-9a-f]{12,64}\b"), "HASH"),
    (re.compile(r"(\d\.\d{6})\d{4,}"), r"\1"),
    (re.compile(rf"\b{re.escape(socket.gethostname())}\b"), "HOST"),
    (re.compile(rf"\b{os.getpid()}\b"), "PID"),
    (re.compile(r"0x[0-9a-f]+"), "ADDRESS"),
    (re.compile(re.escape(version("tune-jobs"))), "VERSION"),
    (re.compile(r"[\d.]+ (?=MB free)"), "N "),
]

_FRACTION = re.compile(r"( ?) *\b\d+\.\d+(e[-+]\d+)?")


def check(area: str, cases: Mapping[str, str], replaced: Mapping[Path, str], *, numbers: bool = True) -> None:
    """Compare what was said in each case with the snapshot of this area.

    Args:
        area: Name of the file, without its suffix.
        cases: The text of each case, by a sentence that says what was done.
        replaced: Paths of this run of the tests, and what stands for them in the file.
        numbers: Whether fractions are compared; those of a training differ in their last digits from
            processor to processor.
    """
    text = "\n".join(f"### {name}\n{_stable(body, replaced)}\n" for name, body in cases.items())
    if not numbers:
        text = _FRACTION.sub(r"\1N", text)
    path = FOLDER / f"{area}.txt"
    if os.environ.get(UPDATE) == "1":
        path.write_text(text, encoding="utf-8")
        return
    recorded = path.read_text(encoding="utf-8") if path.exists() else ""
    if text != recorded:
        diff = difflib.unified_diff(
            recorded.splitlines(), text.splitlines(), f"recorded {area}.txt", "said now", lineterm="", n=2
        )
        pytest.fail("\n".join([*diff, "", "`make snapshots` records what is said now"]), pytrace=False)


def _stable(text: str, replaced: Mapping[Path, str]) -> str:
    for path in sorted(replaced, key=lambda path: -len(str(path))):
        text = text.replace(str(path), replaced[path])
    for pattern, name in _VOLATILE:
        text = pattern.sub(name, text)
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())
