"""The command line, called in this process as a person would, in a place that is the same on every machine."""

import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.messages.product import main

Say = Callable[[str], str]

FOREIGN = ("AWS_", "GOOGLE_", "LC_", "RAY_A", "TUNE_JOBS", "WANDB_", "FORCE_COLOR", "TTY_")
"""How the names of variables begin that may change what is said."""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder, 100 columns, UTC and English; modules imported from it are forgotten."""
    for name in os.environ:
        if name.startswith(FOREIGN):
            monkeypatch.delenv(name)
    for name, value in {
        "COLUMNS": "100", "LINES": "40", "TERM": "dumb", "TZ": "UTC", "LANGUAGE": "C", "LC_ALL": "C.UTF-8",
        "NO_COLOR": "1", "PYTHON_COLORS": "0", "HOME": str(tmp_path / "home"),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    time.tzset()
    monkeypatch.chdir(tmp_path)
    modules, path = set(sys.modules), list(sys.path)
    level = logging.root.level
    yield tmp_path
    logging.root.setLevel(level)
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Gives a line to the command line; returns all that it prints, and its exit code."""

    def call(line: str) -> str:
        try:
            code = main(shlex.split(line))
        except SystemExit as exit_:  # argparse leaves by itself
            code = int(exit_.code or 0)
        captured = capsys.readouterr()
        return f"$ tune-jobs {line}\n{captured.out}{captured.err}exit code {code}"

    return call
