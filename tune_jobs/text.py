"""Text for people: numbers, times, configurations and commands, and foreign text made safe to print."""

import json
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

COMPLAINT = "tune-jobs: "
"""Start of the message that a failed command ends with; a reader of its log finds the message by it."""
WINNER = "winner: "
"""Start of the line with the winner of a run; a reader of a log finds the line by it."""


def number_text(value: object) -> str:
    """Return a number with four significant digits, and lists and text as a job file writes them."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else str(value)
    return value if isinstance(value, str) else json.dumps(value)


def duration_text(seconds: float) -> str:
    """Return a duration as `48 s`, `3 min 20 s` or `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def time_text(time: float) -> str:
    """Return `time`, in seconds since the Unix epoch, as `2026-11-25 08:14 UTC`."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M UTC")


def count_text(number: int, what: str) -> str:
    """Return a number with its noun: `1 trial`, `2,000 trials`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def list_text(numbers: Sequence[int]) -> str:
    """Return numbers as a list in words: `2, 6 and 18`."""
    *first, last = map(str, numbers)
    return f"{', '.join(first)} and {last}" if first else last


def configuration_text(configuration: Mapping[str, Any]) -> str:
    """Return a configuration in one line: `lr=0.012 batch_size=64`."""
    return " ".join(f"{name}={number_text(value)}" for name, value in configuration.items())


def quoted(word: object) -> str:
    """Return a path, an address or a name as a shell takes it, for a command that a message shows."""
    return shlex.quote(str(word))


def train_command(job: Path, configuration: Mapping[str, Any]) -> str:
    """Return the command that trains `configuration` of the job file without Ray."""
    flags = " ".join(f"--{name} {shlex.quote(_exact(value))}" for name, value in configuration.items())
    return f"tune-jobs train {quoted(job)} {flags}".rstrip()


def _exact(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def closest(given: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the name among `known` that is most similar to `given`; None if none is close.

    Args:
        given: A name that does not exist.
        known: The names that exist.
        cutoff: The least similarity, from 0 to 1. Among very many names, one is always a little similar.
    """
    close = get_close_matches(given, list(known), n=1, cutoff=cutoff)
    return close[0] if close else None


def did_you_mean(given: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return a clause that ends a message, `; did you mean 'loss'?`; empty if no name is close."""
    close = closest(given, known, cutoff=cutoff)
    return "" if close is None else f"; did you mean {close!r}?"


def readable(text: str) -> str:
    """Return `text` with control and invisible characters escaped; line ends and tabs stay."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else ascii(letter)[1:-1] for letter in text
    )


LONGEST_LINE = 2000
"""Characters of a line of a message; a longer one holds a long value, of which the middle is left out."""


def without_long_lines(text: str) -> str:
    """Return `text` with the middle of each very long line left out, which the line says."""
    return "\n".join(map(_shortened, text.split("\n")))


def _shortened(line: str) -> str:
    if len(line) <= LONGEST_LINE:
        return line
    begin, end = LONGEST_LINE * 3 // 4, LONGEST_LINE // 4
    return f"{line[:begin]} … ({len(line) - begin - end:,} characters left out) … {line[-end:]}"


def one_line(value: object) -> str:
    """Return `value` as one line of `readable` text."""
    return readable(" ".join(str(value).split()))
