"""Output that nobody takes is dropped, and foreign text controls no terminal."""

import io
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tests.processes import PATIENCE, start
from tests.trainers.slope_command import COMMAND as SLOPE_COMMAND
from tests.trainers.slope_command import with_repository
from tests.tune_jobs.report.runs import HOSTILE
from tests.tune_jobs.runs import line_in
from tune_jobs import open_run
from tune_jobs.cli.main import main
from tune_jobs.cli.screen import Escaped, Output, OutputGoneError, make_console, safe_streams
from tune_jobs.job.file import dump_yaml
from tune_jobs.record.codes import Ending, Status
from tune_jobs.record.folder import RunFolder

COMMAND = [sys.executable, "-m", "tune_jobs"]
CONTROL = "\x1b]0;title\x07\x1b[2Jgone\x1b[31m \x9b31m \u202eleft\u2066 \r over \x00 [bold]text[/bold]"
"""Text that sets the title, clears the screen, colours, turns the direction of letters, and overwrites its line."""


class Gone(io.StringIO):
    """A stream that nobody reads."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [BrokenPipeError(), OSError(5, "Input/output error"), OSError(28, "no space"), ValueError("closed")],
)
def test_output_that_nobody_takes_is_dropped(error: Exception) -> None:
    assert Output(Gone(error)).write("text") == 4
    with pytest.raises(OutputGoneError):
        Output(Gone(error), must_arrive=True).write("text")


def test_a_stream_that_the_process_lacks_is_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with safe_streams():
        print("to nobody")
    assert sys.stdout is None


@pytest.fixture
def run(make_run: Callable[..., RunFolder]) -> RunFolder:
    return make_run([{"losses": [float(number)]} for number in range(1, 60)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "how"),
    [
        *(("show RUN --most 60", how) for how in ("closed pipe", "full disk", "closed")),
        ("list RUNS", "closed pipe"),
        ("report RUN", "full disk"),
        ("repair RUN", "closed"),
    ],
)
def test_a_command_whose_output_nobody_takes_does_its_work_and_ends_with_0(
    run: RunFolder, arguments: str, how: str
) -> None:
    words = {"RUN": str(run.path), "RUNS": str(run.path.parent)}
    command = [*COMMAND, *(words.get(word, word) for word in arguments.split())]
    if how == "closed pipe":
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open("/dev/full", os.O_WRONLY)
    done = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *command] if how == "closed" else command,
        stdout=writing, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_a_message_goes_nowhere_if_the_terminal_is_gone(tmp_path: Path) -> None:
    ours, terminal = pty.openpty()
    os.close(ours)
    done = subprocess.run(
        [*COMMAND, "show", str(tmp_path)], stdout=terminal, stderr=terminal, timeout=PATIENCE, check=False
    )
    os.close(terminal)
    assert done.returncode == 2


@pytest.mark.slow
def test_a_run_whose_output_nobody_takes_is_tuned_to_its_end(tmp_path: Path, slope_kind: None) -> None:
    """`tune-jobs run job.yaml | head -1` on a terminal that is gone: the pipe is closed after the first line."""
    job = line_in(tmp_path, {"search/trials": 3})
    (tmp_path / "job.yaml").write_text(dump_yaml(job.to_mapping()))
    ours, terminal = pty.openpty()
    driver = start(
        [*SLOPE_COMMAND, "run", "job.yaml"],
        cwd=tmp_path, env=with_repository(os.environ), stdout=subprocess.PIPE, stderr=terminal, text=True,
    )  # fmt: skip
    assert driver.stdout is not None
    assert driver.stdout.readline().startswith("small: 3 trials")
    driver.stdout.close()
    os.close(ours)
    os.close(terminal)
    assert driver.wait(PATIENCE) == 0
    (made,) = (tmp_path / "runs").iterdir()
    assert open_run(made).ending is Ending.ALL_TRIALS


# Foreign text


def shows_no_control(text: str) -> bool:
    return all(letter.isprintable() or letter == "\n" for letter in text)


@pytest.mark.parametrize("text", [CONTROL, HOSTILE])
def test_whatever_is_printed_is_escaped(text: str) -> None:
    file = io.StringIO()
    console = make_console(file=file, width=200)
    table = Table("head", text)
    table.add_row(text, Text(text))
    console.print(text, markup=False)
    console.print(table)
    console.print(Text(text), style="red")
    console.rule(text)
    assert shows_no_control(file.getvalue())
    assert "\\x1b]0;title" in file.getvalue() or text is not CONTROL


def test_a_live_view_is_escaped() -> None:
    file = io.StringIO()
    console = make_console(file=file, width=200, force_terminal=True, color_system=None)
    with Live(Escaped(Text(CONTROL)), console=console, auto_refresh=False):
        pass
    shown = file.getvalue()
    assert "\x1b]0;" not in shown
    assert "\x1b[2J" not in shown
    assert "\\x1b]0;title" in shown


@pytest.mark.parametrize("command", ["show RUN", "show RUN --trial 0", "list RUNS"])
def test_commands_escape_what_a_foreign_run_says(
    make_run: Callable[..., RunFolder], capsys: pytest.CaptureFixture[str], command: str
) -> None:
    run = make_run(
        [
            {"losses": [1.0], "reason": CONTROL},
            {"losses": [2.0], "status": Status.FAILED, "reason": CONTROL},
        ]
    )
    words = {"RUN": str(run.path), "RUNS": str(run.path.parent)}
    assert main([words.get(word, word) for word in command.split()]) == 0
    captured = capsys.readouterr()
    assert shows_no_control(captured.out + captured.err)
