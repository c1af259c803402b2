"""The screen: the streams and the console of the command line.

The screen never decides about a run. Output that cannot be delivered, because a pipe was closed, a terminal is gone
or a disk is full, is dropped. And foreign text, such as the error of a user's model or the name of another one's run,
never controls the terminal: all that is printed passes through one place that escapes it.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOBase, TextIOWrapper
from typing import Any, TextIO, cast

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.segment import Segment

from tune_jobs.text import readable


class OutputGoneError(Exception):
    """Nobody takes the output of a command that only shows something."""


class _Nowhere(TextIOBase):
    """The stream of a process that was started without one."""

    def write(self, text: str) -> int:
        return len(text)


class Output:
    """A stream whose writer does not notice that nobody takes the text any more.

    Args:
        stream: The stream; None if the process was started without it.
        must_arrive: Whether a command whose only purpose is this output ends if nobody takes it.
    """

    def __init__(self, stream: TextIO | None, *, must_arrive: bool = False) -> None:
        self._stream = stream or _Nowhere()
        self._must_arrive = must_arrive

    def write(self, text: str) -> int:
        """Write text, and return its length.

        Raises:
            OutputGoneError: Nobody takes the text, and it must arrive.
        """
        try:
            self._stream.write(text)
        except (OSError, ValueError) as error:
            self._drop(error)
        return len(text)

    def flush(self) -> None:
        """Flush the stream; see `write`."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._drop(error)

    def _drop(self, error: Exception) -> None:
        """Send everything to the null device from now on, also what Python or a library has buffered."""
        if isinstance(error, UnicodeError):
            raise error
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
        if self._must_arrive:
            raise OutputGoneError from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def safe_streams(*, must_arrive: bool = False) -> Iterator[None]:
    """Let nothing that is printed inside the block fail, and flush it at the end.

    A letter that the output's encoding lacks is written as an escape.

    Args:
        must_arrive: See `Output`; for the standard output alone.
    """
    before = sys.stdout, sys.stderr
    for stream in before:
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout = cast("TextIO", Output(before[0], must_arrive=must_arrive))
    sys.stderr = cast("TextIO", Output(before[1]))
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OutputGoneError):
                stream.flush()
        sys.stdout, sys.stderr = before


class _Escaping(RenderHook):
    """Escapes what a renderable says, whatever it is made of."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [Escaped(renderable) for renderable in renderables]


class Escaped:
    """A renderable whose texts control no terminal: rich strips some control characters and passes on the rest."""

    def __init__(self, renderable: ConsoleRenderable) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for text, style, control in console.render(self._renderable, options):
            yield Segment(text if control else readable(text), style, control)


def make_console(**how: Any) -> Console:
    """Return a console that escapes all that is printed on it; a live view wraps its renderable in `Escaped`."""
    console = Console(highlight=False, soft_wrap=True, emoji=False, **how)
    console.push_render_hook(_Escaping())
    return console
