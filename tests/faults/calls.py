"""Calls of the real command line in this process, and what every call that refuses its input must keep to."""

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from tune_jobs.cli.main import main

MODULES = ("user_code", "bad_code")
"""Names of modules that the jobs of these tests may bring along; each call reads its own."""


@dataclass(frozen=True)
class Called:
    """How a call ended."""

    code: int
    output: str
    errors: str

    @property
    def shown(self) -> str:
        """For the message of an assertion."""
        return f"exit code {self.code}\n{self.output}\n{self.errors}"


def call(folder: Path, *arguments: str) -> Called:
    """Calls `tune-jobs` in `folder`; whatever it raises comes out, as would a traceback of the program."""
    # Streams as a terminal's: text that has no bytes is an error of the output alone.
    output = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict", write_through=True)
    errors = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace", write_through=True)
    with _inside(folder), redirect_stdout(output), redirect_stderr(errors):
        try:
            code = main(list(arguments))
        except SystemExit as exit_:  # argparse leaves by itself
            code = exit_.code if isinstance(exit_.code, int) else 0 if exit_.code is None else 1
    return Called(code, _text(output), _text(errors))


def assert_refused(called: Called, codes: Sequence[int] = (2,)) -> None:
    """One message, of which every line can be read, and nothing else."""
    assert called.code in codes, called.shown
    if called.errors.startswith("usage: "):
        assert "tune-jobs" in called.errors.splitlines()[-1], called.shown
        assert ": error: " in called.errors, called.shown
        return
    head, *rest = called.errors.removesuffix("\n").split("\n")
    assert head.startswith("tune-jobs: "), called.shown
    assert head.removeprefix("tune-jobs: ").strip(), called.shown
    assert not any(line.startswith("tune-jobs: ") for line in rest), called.shown
    assert "Traceback (most recent call last)" not in called.errors, called.shown
    unreadable = [letter for letter in called.errors if not (letter.isprintable() or letter in "\n\t")]
    assert not unreadable, (unreadable, called.shown)


def files_below(folder: Path) -> set[str]:
    """All that is there, Python's own caches left out."""
    return {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if "__pycache__" not in path.parts
    }


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before, width = Path.cwd(), os.environ.get("COLUMNS")
    os.chdir(folder)
    os.environ["COLUMNS"] = "100"
    try:
        yield
    finally:
        os.chdir(before)
        if width is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = width
        for name in MODULES:
            sys.modules.pop(name, None)


def _text(stream: io.TextIOWrapper) -> str:
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode("utf-8")
