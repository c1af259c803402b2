"""End the processes of a Ray that this process has started, however this process ends.

The kernel ends Ray's servers with their driver, but not the processes that the servers have started. Two agents try
for a minute to reach the dead servers, and workers that were just starting wait for them. So a small process of our
own waits for the driver's end, and then ends what is left of that Ray.

A process belongs to that Ray if it writes to a file in the folder of its session, whose name has the driver's process
id. Each process does so from its first moment on. Other Rays have other sessions.

This is for Linux; elsewhere Ray has a process for it. This file is also the program of our process, so it imports only
the standard library.
"""

import os
import signal
import subprocess
import sys
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
_ORDERLY = b"."
_PROCESSES = Path("/proc")


@contextmanager
def end_with_this_process(temporary: Path) -> Iterator[None]:
    """End all processes that a Ray started inside the block leaves behind, also if this process is killed.

    Args:
        temporary: The folder in which Ray makes the folders of its sessions.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    known = [path.name for path in sessions(temporary, os.getpid())]
    command = [sys.executable, "-I", "-S", __file__, str(temporary), str(os.getpid()), *known]
    watch = subprocess.Popen(  # noqa: S603 (this file, by this Python)
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,  # so it gets no signal of the driver or its terminal
    )
    try:
        yield
    finally:
        with suppress(OSError):  # it was killed
            watch.communicate(_ORDERLY)


def main(temporary: Path, driver: int, known: Collection[str]) -> None:
    """Wait for the driver to end or to finish, and end what is left of its sessions other than the `known` ones."""
    orderly = sys.stdin.buffer.read() == _ORDERLY
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
