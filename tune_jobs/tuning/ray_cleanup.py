"""Watch this process from outside while it has a Ray of its own: its start, and the end of all that Ray started.

The kernel ends Ray's servers with their driver, but not the processes that the servers have started. Two agents try
for a minute to reach the dead servers, and workers that were just starting wait for them. So a small process of our
own waits for the driver's end, and then ends what is left of that Ray.

A process belongs to that Ray if it writes to a file in the folder of its session, whose name has the driver's process
id. Each process does so from its first moment on. Other Rays have other sessions.

While Ray starts, its native code may wait for ever and let no Python code run, and so no handler of a signal. The
small process therefore also receives the signals of that time, from the kernel, and knows a deadline.

This is for Linux; elsewhere Ray has a process for it. This file is also the program of our process, so it imports only
the standard library.
"""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SECONDS_BETWEEN_PROCESS_CHECKS = 0.1
"""Seconds between two rounds in which processes are searched for and ended."""
ROUNDS_WITHOUT_FINDING = 5
"""Further rounds after the first one that finds nothing: a process that was starting when its parent died appears a
little later."""
SECONDS_AT_MOST = 60.0
"""Longest time of the search, in seconds."""
SECONDS_TO_START = 600.0
"""Seconds after which a start of Ray has failed. A busy machine may need minutes."""
SECONDS_TO_ACT = 5.0
"""Seconds in which a driver that receives a signal while Ray starts must begin to end."""
_ORDERLY, _STARTING, _READY = b".", b"s", b"r"
"""Messages of the driver. The numbers of signals, which are control characters, come from the kernel."""
_PROCESSES = Path("/proc")


class Watch:
    """The watching process, as its driver sees it."""

    def __init__(self, messages: int | None = None) -> None:
        self._messages = messages

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Start Ray inside the block: it has a deadline there, and signals count even if no Python code runs."""
        if self._messages is None or threading.current_thread() is not threading.main_thread():
            yield
            return
        self._say(_STARTING)
        before = signal.set_wakeup_fd(self._messages, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            self._say(_READY)

    def _say(self, message: bytes) -> None:
        if self._messages is not None:
            with suppress(OSError):  # it was killed
                os.write(self._messages, message)


@contextmanager
def end_with_this_process(temporary: Path) -> Iterator[Watch]:
    """End all processes that a Ray started inside the block leaves behind, also if this process is killed.

    Args:
        temporary: The folder in which Ray makes the folders of its sessions.
    """
    if not sys.platform.startswith("linux"):
        yield Watch()
        return
    known = [path.name for path in sessions(temporary, os.getpid())]
    command = [sys.executable, "-I", "-S", __file__, str(temporary), str(os.getpid()), *known]
    watch = subprocess.Popen(  # noqa: S603 (this file, by this Python)
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,  # so it gets no signal of the driver or its terminal
    )
    assert watch.stdin is not None
    os.set_blocking(watch.stdin.fileno(), False)  # the kernel writes to it when a signal arrives
    try:
        yield Watch(watch.stdin.fileno())
    finally:
        with suppress(OSError):  # it was killed
            watch.communicate(_ORDERLY)


def main(temporary: Path, driver: int, known: Collection[str]) -> None:
    """Wait for the driver to end or to finish, and end what is left of its sessions other than the `known` ones."""
    orderly = wait_for_end(sys.stdin.fileno(), driver)
    rounds = 0 if orderly else ROUNDS_WITHOUT_FINDING
    until = time.monotonic() + SECONDS_AT_MOST
    while time.monotonic() < until:
        new = [path for path in sessions(temporary, driver) if path.name not in known]
        found = [process for process in writers(new) if process not in _kin(driver)]
        for process in found:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
        rounds -= not found
        if not found and rounds < 0:
            return
        time.sleep(SECONDS_BETWEEN_PROCESS_CHECKS)


def wait_for_end(messages: int, driver: int) -> bool:
    """Wait until the driver ends, and return whether it did so in order.

    A driver that does not start Ray in time, or does not end after a signal in that time, is killed.
    """
    starting: float | None = None
    signalled: float | None = None
    while True:
        limits = [] if starting is None else [starting + SECONDS_TO_START]
        limits += [] if starting is None or signalled is None else [signalled + SECONDS_TO_ACT]
        wait = max(0.0, min(limits) - time.monotonic()) if limits else None
        if not select.select([messages], [], [], wait)[0]:
            late = f"Ray did not start within {SECONDS_TO_START:.0f} s"
            _complain(
                f"{late if signalled is None else 'interrupted while Ray started'}; nothing was changed"
            )
            with suppress(OSError):
                os.kill(driver, signal.SIGKILL)
            return False
        received = os.read(messages, 64)
        if not received:
            if starting is not None and signalled is None:
                _complain(
                    "Ray ended this process while it started: the machine is too busy, or lacks memory, disk space or "
                    "open files (`ulimit -n`). Nothing was changed; try again"
                )
            return False
        for message in received:
            if message == _ORDERLY[0]:
                return True
            if message in {_STARTING[0], _READY[0]}:
                starting = time.monotonic() if message == _STARTING[0] else None
            else:
                signalled = signalled or time.monotonic()


def _complain(text: str) -> None:
    with suppress(OSError, ValueError):
        print(f"tune-jobs: {text}", file=sys.stderr, flush=True)  # noqa: T201 (the error stream of the command)


def sessions(temporary: Path, driver: int) -> list[Path]:
    """Return the folders of the Ray sessions that the process `driver` has started."""
    return [path.resolve() for path in temporary.glob(f"session_*_{driver}")]


def writers(folders: Collection[Path]) -> list[int]:
    """Return the processes that have a file in one of `folders` open for writing; readers of a log are left out."""
    places = tuple(f"{folder}/" for folder in folders)
    found = []
    for process in _PROCESSES.iterdir() if places else ():
        if process.name.isdecimal() and int(process.name) != os.getpid():
            with suppress(OSError):  # it has ended, or belongs to another user
                for descriptor in (process / "fd").iterdir():
                    if os.readlink(descriptor).startswith(places) and _is_written(process, descriptor.name):
                        found.append(int(process.name))
                        break
    return found


def _is_written(process: Path, descriptor: str) -> bool:
    lines = (process / "fdinfo" / descriptor).read_text().splitlines()
    flags = next(int(line.split()[1], base=8) for line in lines if line.startswith("flags:"))
    return flags & os.O_ACCMODE != os.O_RDONLY


def _kin(driver: int) -> list[int]:
    """Return the driver and the processes that it has forked: they hold the driver's own logs open."""
    try:
        line = (_PROCESSES / str(driver) / "cmdline").read_bytes()
    except OSError:
        return [driver]
    kin = [driver]
    for process in _PROCESSES.iterdir():
        with suppress(OSError):
            if process.name.isdecimal() and line and (process / "cmdline").read_bytes() == line:
                kin.append(int(process.name))
    return kin


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
