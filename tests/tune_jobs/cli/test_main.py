"""The command line as a whole: wrong calls, help, and the characters of its messages."""

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import PATIENCE
from tests.tune_jobs.cli.conftest import Call
from tune_jobs import Job
from tune_jobs.record.codes import Status
from tune_jobs.record.folder import RunFolder
from tune_jobs.trainers.errors import DataError

MakeRun = Callable[..., RunFolder]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["rnu", "job.yaml"], "invalid choice: 'rnu'"),
        (["run"], "the following arguments are required: JOB"),
        (["validate"], "the following arguments are required: JOB"),
        (["show"], "the following arguments are required: RUN"),
        (["show", "runs", "--most", "few"], "--most: given 'few'; valid: a whole number of at least 0"),
        (["show", "runs", "--most", "-1"], "--most: given '-1'; valid: a whole number of at least 0"),
        (["test", "runs", "--reason"], "argument --reason: expected one argument"),
    ],
)
def test_a_wrong_call_ends_with_2_and_says_what_is_missing(
    call: Call, arguments: list[str], said: str
) -> None:
    code, output, errors = call(*arguments)
    assert (code, output) == (2, [])
    assert said in errors
    assert errors.startswith("usage: tune-jobs")


def test_a_message_has_no_control_characters(call: Call) -> None:
    code, output, errors = call("validate", "\x1b[2J\x07job\u202e.yaml\udcff")
    assert (code, output) == (2, [])
    assert "  \\x1b[2J\\x07job\\u202e.yaml\\udcff  no such file" in errors


@pytest.mark.slow
def test_a_letter_that_the_output_lacks_is_spelled_out(make_run: Callable[..., RunFolder]) -> None:
    run = make_run([{"losses": [0.5]}, {"status": Status.FAILED, "reason": "größe 日本"}])
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for command in ("show", "watch"):
        shown = subprocess.run(
            [sys.executable, "-m", "tune_jobs", command, str(run.path)],
            capture_output=True, env=environment, timeout=PATIENCE, check=True,
        )  # fmt: skip
        assert b"gr\\xf6\\xdfe \\u65e5\\u672c" in shown.stdout


FIRST_FILE = """
import os, sys
from tune_jobs.__main__ import open_standard_files
open_standard_files()
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.write(file, " ".join([str(file), *[os.readlink(f"/proc/self/fd/{number}") for number in range(3)]]).encode())
"""


@pytest.mark.parametrize("closed", ["", "0<&-", ">&-", "2>&-", "0<&- 2>&-", "0<&- >&- 2>&-"])
def test_a_file_never_gets_what_is_written_to_a_standard_file_that_is_closed(
    tmp_path: Path, closed: str
) -> None:
    made = tmp_path / "made"
    subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", sys.executable, "-c", FIRST_FILE, str(made)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    number, *standard = made.read_text().split()
    assert int(number) > 2
    assert standard == [os.devnull] * 3


def test_help_names_every_command(call: Call) -> None:
    code, output, _ = call("--help")
    assert code == 0
    listed = {line.split()[0] for line in output if re.match(r"    \w", line)}
    assert listed >= {"run", "validate", "train", "show", "list", "test", "report", "import-sweep"}


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that nobody can read")
def test_an_error_of_the_system_is_one_line_and_1(call: Call, make_run: MakeRun) -> None:
    folder = make_run([{"losses": [0.5]}])
    folder.journal.unlink()
    folder.journal.symlink_to("/proc/self/mem")
    assert call("show", folder.path) == (
        1,
        [],
        "tune-jobs: [Errno 5] Input/output error; `--debug` shows where\n",
    )


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Return a function that makes every job file end in an error."""

    def fail(error: BaseException) -> None:
        def from_file(*_: object) -> Job:
            raise error

        monkeypatch.setattr(Job, "from_file", from_file)

    return fail


def test_a_mistake_in_the_program_shows_its_traceback(
    call: Call, failing: Callable[[BaseException], None]
) -> None:
    failing(OSError(errno.EBADF, "Bad file descriptor"))
    with pytest.raises(OSError, match="Bad file descriptor"):
        call("validate", "job.yaml")


@pytest.mark.parametrize(
    "error", [DataError("no rows"), OSError(errno.EACCES, "no rows", "runs"), KeyboardInterrupt()]
)
def test_a_traceback_is_printed_only_if_it_is_asked_for(
    call: Call, failing: Callable[[BaseException], None], error: BaseException
) -> None:
    failing(error)
    code, output, errors = call("validate", "job.yaml")
    assert "Traceback" not in errors
    assert errors.startswith("tune-jobs: ")
    code_then, output_then, errors_then = call("validate", "job.yaml", "--debug")
    assert (code_then, output_then) == (code, output)
    assert errors_then.startswith("Traceback")
    assert errors_then.endswith(errors)
