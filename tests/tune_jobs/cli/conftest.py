"""The command line, called in this process."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tune_jobs.cli.main import main

Call = Callable[..., tuple[int, list[str], str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Return a function that runs `tune-jobs` in `tmp_path`, 80 columns wide: exit code, lines of output, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def run_command(*arguments: object) -> tuple[int, list[str], str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit_:  # argparse exits
            code = int(exit_.code or 0)
        captured = capsys.readouterr()
        return code, [line.rstrip() for line in captured.out.splitlines()], captured.err

    return run_command
