"""Processes and conditions that tests wait for: one limit for all, and no process that outlives its test."""

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE = 900.0
"""Seconds until a test that waits gives up. It waits for events, so it needs them only if something hangs."""

SECONDS_BETWEEN_TRIES = 0.02

_started: list["subprocess.Popen[Any]"] = []


def wait_until(
    condition: Callable[[], Any],
    what: str = "",
    *,
    process: "subprocess.Popen[Any] | None" = None,
    every: float = SECONDS_BETWEEN_TRIES,
) -> None:
    """Wait until the condition holds; fail after PATIENCE, or if `process` ends before.

    Args:
        condition: Is called again and again.
        what: Names the condition in the message.
        process: The process that makes the condition true.
        every: Seconds between two calls.
    """
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, f"waited in vain for {what or condition}"
        # Check once more: the process may have made the condition true and ended since.
        if process is not None and process.poll() is not None and not condition():
            raise AssertionError(f"the process ended with {process.returncode} before {what or condition}")
        time.sleep(every)


def start(command: Sequence[str | Path], **options: Any) -> "subprocess.Popen[Any]":
    """Start a process that a fixture ends after the test (`end_started`)."""
    _started.append(subprocess.Popen(command, **options))
    return _started[-1]


@contextmanager
def running(command: Sequence[str | Path], **options: Any) -> "Iterator[subprocess.Popen[Any]]":
    """Yield a process and kill it after the block if it still runs."""
    process = subprocess.Popen(command, **options)
    try:
        yield process
    finally:
        end(process)


def end(process: "subprocess.Popen[Any]") -> None:
    """Kill the process, wait for its end, and close its pipes: a process left open is a warning in a later test."""
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def end_started() -> None:
    """End all that `start` started."""
    while _started:
        end(_started.pop())
