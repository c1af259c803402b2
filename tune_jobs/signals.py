"""SIGINT, SIGTERM and SIGHUP during a run: the first signal ends the run in order, the second one at once."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from tune_jobs.errors import Interrupted

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a run. SIGHUP says that the terminal is gone; `nohup` has it ignored, and then it stays so."""
_RESTORED = (*_ENDING, signal.SIGUSR1)
"""Signals whose handlers are restored. Ray replaces that of SIGTERM, Ray Tune that of SIGUSR1."""
_SHOW_CURSOR = b"\x1b[?25h\n"
"""Terminal codes that show the cursor, which the progress view hides."""


class Interrupts:
    """The signals of this process.

    While there is nothing to save, a signal raises `KeyboardInterrupt`. After `defer` it only sets `requested`. Code
    that is at work checks that attribute and ends in order, so nothing is left half done.
    """

    def __init__(self) -> None:
        self.requested = False
        """Whether a signal was received."""
        self._deferred = False

    def defer(self) -> None:
        """Stop raising on signals from now on.

        Raises:
            KeyboardInterrupt: A signal was received before, but other code swallowed its exception.
        """
        self._deferred = True
        if self.requested:
            raise KeyboardInterrupt

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.requested:
            end_at_once()
        self.requested = True
        if not self._deferred:
            raise KeyboardInterrupt


@contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Handle the signals that end a run inside the block, then restore all handlers.

    Do nothing outside the main thread.
    """
    asked = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    with restore_handlers(), _second_signal(end_at_once):
        for number in _ENDING:
            if number is not signal.SIGHUP or not is_ignored(number):
                signal.signal(number, asked.handle)
        yield asked


def is_ignored(number: signal.Signals) -> bool:
    """Return whether this process was started with the signal ignored."""
    return signal.getsignal(number) is signal.SIG_IGN


@contextmanager
def restore_handlers() -> Iterator[None]:
    """Restore the handlers of signals at the end of the block; do nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _RESTORED}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # it was not made in Python
                signal.signal(number, handler)


def end_at_once() -> None:
    """End this process at once. The journal is intact at any time, and Ray's processes end too."""
    if sys.stdout.isatty():
        os.write(sys.stdout.fileno(), _SHOW_CURSOR)
    os._exit(Interrupted.exit_code)


@contextmanager
def _second_signal(act: Callable[[], None]) -> Iterator[None]:
    """Act on a second signal even while the main thread is inside Ray, where no handler is called."""
    ours, pythons = socket.socketpair()
    with ours, pythons:
        pythons.setblocking(False)
        before = signal.set_wakeup_fd(pythons.fileno(), warn_on_full_buffer=False)
        watch = threading.Thread(target=_watch, args=(ours, act), name="signals", daemon=True)
        watch.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            pythons.shutdown(socket.SHUT_RDWR)
            watch.join()


def _watch(numbers: socket.socket, act: Callable[[], None]) -> None:
    seen = 0
    while received := numbers.recv(64):
        seen += sum(number in _ENDING for number in received)
        if seen > 1:
            act()
