"""Commands, such as runs of tune-jobs, in separate processes with temporary folders."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.memory import process_tree
from tune_jobs.record.events import Event
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import read_journal

DIGITS_JOB = Path(__file__).with_name("digits64.yaml")
WORKERS = 2
"""The number of trials at a time in `DIGITS_JOB`, as in documented_ray_tune.py."""

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""Environment variables that make a process compute with one thread."""

_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # documented_ray_tune.py says why
_OUTPUT = "output.txt"
_SECONDS_TO_END = 60


@dataclass(frozen=True)
class FinishedRun:
    """A finished run of tune-jobs."""

    started: float
    """When its process was started, in seconds since the epoch."""
    ended: float
    """When its process had ended, in seconds since the epoch."""
    events: Sequence[Event]
    """The events of its journal."""

    @property
    def wall_seconds(self) -> float:
        return self.ended - self.started


@contextmanager
def private_folder() -> Iterator[Path]:
    """Yield a temporary folder with a short path: Unix sockets allow 107 characters, and Ray adds about 70."""
    with TemporaryDirectory(prefix="b", dir="/tmp") as folder:
        yield Path(folder)


@contextmanager
def started(command: Sequence[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process of this Python with all temporary files in `folder`, and wait for its end after the block.

    Args:
        command: Arguments for the Python interpreter.
        folder: The folder for output and temporary files.

    Raises:
        SystemExit: The process failed. The message has the end of its output.
    """
    environment = {**os.environ, "RAY_TMPDIR": str(folder), "TMPDIR": str(folder), **_LOOPBACK}
    with (folder / _OUTPUT).open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command], stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        try:
            yield process
            process.wait()
        finally:
            _end(process)
    if process.returncode not in {0, 130}:  # 130: interrupted from here
        end = (folder / _OUTPUT).read_text(errors="replace")[-2000:]
        raise SystemExit(f"No result: {' '.join(command)} ended with {process.returncode}:\n{end}")


def tune_jobs_command(job: Path, storage: Path, overrides: Sequence[str] = ()) -> list[str]:
    """Return the arguments of `tune-jobs run JOB` for `started`."""
    return ["-m", "tune_jobs", "run", str(job), "--storage", str(storage), *overrides]


def run_tune_jobs(job: Path, overrides: Sequence[str] = ()) -> FinishedRun:
    """Run a job in a new process and return its times and its journal.

    Args:
        job: The job file.
        overrides: New values for keys of the job, as on the command line.

    Raises:
        SystemExit: The run failed.
    """
    with private_folder() as folder:
        storage = folder / "runs"
        start = time.time()
        with started(tune_jobs_command(job, storage, overrides), folder) as process:
            process.wait()
            end = time.time()
        return FinishedRun(start, end, journal_so_far(storage))


def journal_so_far(storage: Path) -> list[Event]:
    """Return the events of the only run in `storage`, or none if the run has not begun."""
    folders = [RunFolder(path) for path in storage.glob("*")] if storage.is_dir() else []
    return [event for folder in folders if folder.is_run for event in read_journal(folder.journal)]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process if it still runs: with Ctrl-C first, then by killing it and its descendants."""
    if process.poll() is not None:
        return
    family = process_tree(process.pid)
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        for pid in family:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait()
