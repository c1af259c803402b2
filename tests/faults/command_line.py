"""Calls of the real command line in this process, and the rules for every call that refuses its input."""

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from tune_jobs.cli.main import main

MODULES = ("user_code", "bad_code")
"""Names of user modules in the jobs of these tests. Every call imports them again."""


@dataclass(frozen=True)
class CallResult:
    """The exit code and the output of a call."""

    code: int
    output: str
    errors: str

    @property
    def description(self) -> str:
        """The result as text for the message of an assertion."""
        return f"exit code {self.code}\n{self.output}\n{self.errors}"


def call(folder: Path, *arguments: str) -> CallResult:
    """Run `tune-jobs` in `folder` and let its exceptions through: in the program each would be a traceback."""
    # Streams like those of a terminal: only the output fails on text that cannot be encoded.
    output = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict", write_through=True)
    errors = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace", write_through=True)
    with _inside(folder), redirect_stdout(output), redirect_stderr(errors):
        try:
            code = main(list(arguments))
        except SystemExit as exit_:  # argparse exits
            code = exit_.code if isinstance(exit_.code, int) else 0 if exit_.code is None else 1
    return CallResult(code, _text(output), _text(errors))


def assert_refused(called: CallResult, codes: Sequence[int] = (2,)) -> None:
    """Check that the call showed one message of printable lines and nothing else."""
    assert called.code in codes, called.description
    if called.errors.startswith("usage: "):
        assert "tune-jobs" in called.errors.splitlines()[-1], called.description
        assert ": error: " in called.errors, called.description
        return
    head, *rest = called.errors.removesuffix("\n").split("\n")
    assert head.startswith("tune-jobs: "), called.description
    assert head.removeprefix("tune-jobs: ").strip(), called.description
    assert not any(line.startswith("tune-jobs: ") for line in rest), called.description
    assert "Traceback (most recent call last)" not in called.errors, called.description
    unreadable = [letter for letter in called.errors if not (letter.isprintable() or letter in "\n\t")]
    assert not unreadable, (unreadable, called.description)


def files_below(folder: Path) -> set[str]:
    """Return the names of all files and folders below `folder`, without Python's caches."""
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
