"""The process of one program, seen from the worker: it is started, asked for epochs, and ended with all it started."""

import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tune_jobs import trial

START = Path(__file__).with_name("start.py")
"""The file that the user's interpreter runs to start a script or a function."""
_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_LONGEST_FOLDER = 90
"""Characters in the path of a trial's folder; the name of a socket has 107 at most."""
_CHUNK = 1 << 16
OWN_LINE = "tune-jobs: "
"""Begins the lines that tune-jobs itself writes to the output of a trial."""
_LINES = 20
"""Last lines of a program's output that are quoted."""
_LINE = 300
"""Characters of a line that is quoted."""


class ProgramProcess:
    """A program that runs, with a folder for its task and a socket to talk to it. It may be started again.

    Args:
        command: The program, as a list of arguments.
        task: The content of `trial.json`, see `tune_jobs.trial`.
        folder: The current folder of the program.
        environment: Variables that the program has beside those of this process.
        grace: Seconds between the request to end and the kill.
    """

    def __init__(
        self,
        command: Sequence[str],
        task: Mapping[str, Any],
        folder: Path,
        environment: Mapping[str, str],
        grace: float,
    ) -> None:
        self.scratch = _make_scratch()
        self.command, self.task, self.label = command, task, command[0]
        self.code: int | None = None
        """The exit code, once the program and all that it started have ended; negative for a signal."""
        self.environment, self._folder, self._grace = environment, folder, grace
        self._output_begins = _output_size()
        self._received = b""
        self._connection: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._control = self._status = -1
        (self.scratch / "path").mkdir()
        (self.scratch / "path" / "tune_jobs").symlink_to(Path(trial.__file__).parent)

    def start(self) -> None:
        """Start the program, which has not been started or has ended."""
        (self.scratch / "trial.json").write_text(json.dumps(self.task), encoding="utf-8")
        (self.scratch / "socket").unlink(missing_ok=True)
        self.code, self._received = None, b""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.scratch / "socket"))
        self._listener.listen()
        control, self._control = os.pipe()
        self._status, status = os.pipe()
        supervisor = [sys.executable, "-I", "-S", str(_SUPERVISOR)]
        supervisor += [str(self._grace), str(control), str(status)]
        paths = [str(self.scratch / "path"), *filter(None, [os.environ.get("PYTHONPATH")])]
        own = {
            trial.VARIABLE: str(self.scratch),
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
        }
        try:
            self._supervisor = subprocess.Popen(  # noqa: S603 (this program, and the user's)
                [*supervisor, *self.command],
                stdin=subprocess.DEVNULL,
                cwd=self._folder,
                env={**os.environ, **self.environment, **own},
                pass_fds=(control, status),
                start_new_session=True,
            )
        finally:
            os.close(control)
            os.close(status)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message to the program, which waits for one."""
        if self._connection is not None:
            with suppress(OSError):  # it has ended, and `receive` says so
                self._connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> dict[str, Any] | None:
        """Return the next message; None once the program has ended, with all that it started."""
        while True:
            line, separator, rest = self._received.partition(b"\n")
            if separator:
                self._received = rest
                return dict(json.loads(line))
            if self.code is not None:
                return None
            self._wait()

    def end(self) -> None:
        """End the program and all that it started by a signal, and by force after the grace."""
        if self._control >= 0 and self.code is None:
            with suppress(OSError):
                os.write(self._control, b"t")
            while self.code is None:
                self._wait()
        self._close()

    def remove(self) -> None:
        """End the program, and remove its folder."""
        self.end()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def leave(self) -> None:
        """Let the program end by itself, as it does after `end` was sent; end it by a signal if it takes too long."""
        self.send({"do": "end"})
        if self.code is None and self._status in _ready([self._status], self._grace):
            while self.code is None:
                self._wait()
        self.end()

    def last_lines(self) -> list[str]:
        """Return the last lines of the program's output, if this process sends its own output to a file."""
        try:
            with open("/proc/self/fd/1", "rb") as file:
                size = file.seek(0, os.SEEK_END)
                start = max(self._output_begins if size >= self._output_begins else 0, size - _LINES * _LINE)
                file.seek(start)
                text = file.read().decode(errors="replace")
        except OSError:
            return []
        lines = [line.rstrip() for line in text.replace("\r", "\n").splitlines()]
        lines = [line for line in lines if line and not line.startswith(OWN_LINE)]
        return [line[:_LINE] for line in lines[-_LINES:]]

    def _wait(self) -> None:
        """Wait for bytes of the program, or for its end. What it sent before its end comes first."""
        source = self._connection or self._listener
        assert source is not None
        ready = _ready([source.fileno(), self._status])
        if source is self._listener and source.fileno() in ready:
            self._connection, _ = self._listener.accept()
        elif self._connection is not None and self._connection.fileno() in ready:
            received = self._read()
            if received:
                self._received += received
            else:
                self._connection.close()
                self._connection = None
        elif self._status in ready:
            assert self._supervisor is not None
            text = os.read(self._status, 100)
            self._supervisor.wait()
            self.code = int(text) if text else -9

    def _read(self) -> bytes:
        assert self._connection is not None
        try:
            return self._connection.recv(_CHUNK)
        except OSError:
            return b""

    def _close(self) -> None:
        for number in (self._control, self._status):
            if number >= 0:
                os.close(number)
        self._control = self._status = -1
        for each in (self._connection, self._listener):
            if each is not None:
                each.close()
        self._connection = self._listener = None


def _ready(numbers: Sequence[int], seconds: float | None = None) -> set[int]:
    """Return the open files that can be read, after at most this time. A select would fail above number 1023."""
    poll = select.poll()
    for number in numbers:
        poll.register(number, select.POLLIN)
    return {number for number, _ in poll.poll(None if seconds is None else 1000 * seconds)}


def _make_scratch() -> Path:
    """Return a new folder with a short path, in which a socket can have a name."""
    folder = Path(tempfile.mkdtemp(prefix="tj-"))
    if len(str(folder)) <= _LONGEST_FOLDER:
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="tj-", dir="/tmp"))


def _output_size() -> int:
    """Return the size of the file that takes this process' standard output; 0 if it is no file."""
    with suppress(OSError):
        return os.fstat(1).st_size
    return 0
