"""The output of a trial: it is kept in the run, whoever prints it, and stays small."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tune_jobs.worker import output
from tune_jobs.worker.output import kept_output

EVERY_WAY = """
import os, pathlib, subprocess, sys
from tune_jobs.worker.output import kept_output
print("before it")
with kept_output(pathlib.Path(sys.argv[1]), "0003"):
    print("from Python")
    sys.stdout.flush()
    os.write(1, b"from native code\\n")
    subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
    print("an error", file=sys.stderr)
print("after it")
"""


def test_python_and_native_code_and_child_processes_are_kept_in_order(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EVERY_WAY, str(tmp_path / "output")],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = (tmp_path / "output" / "0003.log").read_text().splitlines()
    assert lines == ["from Python", "from native code", "from a child", "an error"]
    assert done.stdout == "before it\nafter it\n"


def test_a_worker_that_continues_the_trial_adds_to_it(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with kept_output(tmp_path, "0003"):
            os.write(1, f"{text}\n".encode())
    assert (tmp_path / "0003.log").read_text() == "first\nsecond\n"


def test_it_is_kept_if_the_training_fails_or_is_stopped(tmp_path: Path) -> None:
    for error in (RuntimeError, SystemExit):
        with suppress(error), kept_output(tmp_path, error.__name__):
            os.write(1, b"before\n")
            raise error
        assert (tmp_path / f"{error.__name__}.log").read_text() == "before\n"


def test_a_trial_that_prints_nothing_leaves_no_file(tmp_path: Path) -> None:
    with kept_output(tmp_path / "output", "0003"):
        pass
    assert list((tmp_path / "output").iterdir()) == []


def test_a_long_output_is_shortened_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "MOST_BYTES", 1000)
    with kept_output(tmp_path, "0003") as shorten:
        for number in range(500):
            os.write(1, b"line %d\n" % number)
            shorten()
    lines = (tmp_path / "0003.log").read_text().splitlines()
    assert (tmp_path / "0003.log").stat().st_size <= 1100
    assert lines[0] == "(earlier output was left out)"
    assert lines[-1] == "line 499"
    assert all(line.startswith("line ") for line in lines[1:])


def test_a_folder_that_cannot_be_made_costs_the_output_alone(tmp_path: Path) -> None:
    (tmp_path / "output").write_text("a file")
    with kept_output(tmp_path / "output", "0003") as shorten:
        shorten()
    with kept_output(None, "0003") as shorten:
        shorten()


def test_code_that_closes_its_streams_does_no_harm(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys\n"
        "from tune_jobs.worker.output import kept_output\n"
        "with kept_output(pathlib.Path(sys.argv[1]), '0003'):\n"
        "    print('said')\n"
        "    sys.stdout.close()\n"
        "os.write(1, b'after')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert (tmp_path / "0003.log").read_text() == "said\n"
    assert done.stderr == ""
