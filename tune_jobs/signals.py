"""SIGINT and SIGTERM while a run is made: the first ends it in order, the second at once."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from tune_jobs.errors import Interrupted

_ENDING = (signal.SIGINT, signal.SIGTERM)
_RESTORED = (*_ENDING, signal.SIGUSR1)
"""Ray takes SIGTERM for itself, Ray Tune SIGUSR1, and neither gives them back."""
_SHOW_CURSOR = b"\x1b[?25h\n"
"""The progress view hides it."""


class Interrupts:
    """What signals have asked for.

    As long as there is nothing to keep, a signal raises `KeyboardInterrupt`. Once it is deferred it does not:
    whoever is at work looks at `requested` and comes to an end, so that nothing is torn in the middle.
    """

    def __init__(self) -> None:
        self.requested = False
        """A signal came."""
        self._deferred = False

    def defer(self) -> None:
        """From here on signals raise nothing.

        Raises:
            KeyboardInterrupt: one came before, and somebody else's code has swallowed what it raised.
        """
        self._deferred = True
        if self.requested:
            raise KeyboardInterrupt

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The handler of the signals."""
        if self.requested:
            end_at_once()
        self.requested = True
        if not self._deferred:
            raise KeyboardInterrupt


@contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Handles SIGINT and SIGTERM, and puts all handlers back; in threads other than the main one it does neither."""
    asked = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    with handlers_restored(), _second_signal(end_at_once):
        for number in _ENDING:
            signal.signal(number, asked.handle)
        yield asked


@contextmanager
def handlers_restored() -> Iterator[None]:
    """Puts the handlers of signals back at the end, where they can be changed at all."""
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
    """Ends this process without further ado; the journal is sound at any time, and Ray's processes follow."""
    if sys.stdout.isatty():
        os.write(sys.stdout.fileno(), _SHOW_CURSOR)
    os._exit(Interrupted.exit_code)


@contextmanager
def _second_signal(act: Callable[[], None]) -> Iterator[None]:
    """Acts on a second signal also while the main thread is inside of Ray, where no handler is called."""
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
