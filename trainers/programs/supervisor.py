"""Start a program in a session of its own, and end it with all that it started: `python supervisor.py …`.

    supervisor.py GRACE CONTROL STATUS COMMAND…

CONTROL is a pipe that the worker writes to: a byte asks for the end, and so does the worker's own end, by which the
pipe is closed. STATUS is a pipe that receives the exit code, once no process of the program is left. Processes that
leave the program's group are found too, on Linux: their parents become this process.

It runs with the standard library alone. A worker that is killed leaves no program behind.
"""

import ctypes
import os
import select
import signal
import sys
import time
from contextlib import suppress
from typing import NoReturn

_SET_PARENT_DEATH_SIGNAL, _SET_SUBREAPER = 1, 36
_STEP = 0.02
"""Seconds between two looks at processes that are ending."""
_SHELL_NOT_FOUND = 127


def _process_control(option: int, value: int) -> None:
    with suppress(OSError, AttributeError):  # Linux alone has it
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _become_program(command: list[str]) -> NoReturn:
    try:
        os.setsid()
        _process_control(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(each, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.execvp(command[0], command)  # noqa: S606 (the user's program)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(_SHELL_NOT_FOUND)


def _descendants() -> list[int]:
    """Return the ids of all processes below this one; those without a parent are its children."""
    found, waiting = [], [os.getpid()]
    while waiting:
        tasks = f"/proc/{waiting.pop()}/task"
        with suppress(OSError):
            for task in os.listdir(tasks):
                with open(f"{tasks}/{task}/children", encoding="ascii") as file:
                    children = [int(word) for word in file.read().split()]
                found += children
                waiting += children
    return found


def _reap(program: int, ended: dict[int, int]) -> bool:
    """Collect processes that have ended; return whether any is left."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True
        if pid == program:
            ended[pid] = os.waitstatus_to_exitcode(status)


def _signal_all(program: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(program, number)
    for pid in _descendants():
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _end_all(program: int, ended: dict[int, int], grace: float) -> None:
    """Ask all processes to end, kill those that do not, and return when none is left."""
    if not _reap(program, ended):
        return
    _signal_all(program, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while _reap(program, ended):
        if time.monotonic() > deadline:
            _signal_all(program, signal.SIGKILL)
        time.sleep(_STEP)


def _remove_folder() -> None:
    """Remove the folder of the trial, because the worker that made it is gone."""
    import shutil  # noqa: PLC0415 (few supervisors need it)

    shutil.rmtree(os.environ["TUNE_JOBS_TRIAL"], ignore_errors=True)


def main() -> None:
    """Run the program, and write its exit code."""
    grace, control, status = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (control, status):
        os.set_inheritable(number, False)
    _process_control(_SET_SUBREAPER, 1)
    program = os.fork()
    if program == 0:
        _become_program(sys.argv[4:])
    ended: dict[int, int] = {}
    while program not in ended:
        ready, _, _ = select.select([control, woken], [], [])
        if control in ready:
            break
        with suppress(BlockingIOError):
            os.read(woken, 4096)
        _reap(program, ended)
    asked = program in ended or os.read(control, 1) != b""
    _end_all(program, ended, grace)
    if not asked:
        _remove_folder()
    with suppress(OSError):
        os.write(status, b"%d" % ended.get(program, -signal.SIGKILL))


if __name__ == "__main__":
    main()
