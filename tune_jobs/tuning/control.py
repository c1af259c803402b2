"""The limits of a run that change while it is in progress: room for trials, a signal, the time limit."""

from collections.abc import Callable
from dataclasses import dataclass


def _no() -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class RunControl:
    """The present limits of a run; each is a function, because its answer changes while the run is in progress."""

    max_running: Callable[[], int]
    """Returns the largest number of trials that may have a worker; a cluster grows and shrinks."""
    interrupted: Callable[[], bool] = _no
    """Returns whether the run must end at once."""
    out_of_time: Callable[[], bool] = _no
    """Returns whether the time limit has passed; then no trial is created or promoted any more."""
