"""What limits a run from moment to moment: how many trials may run, a signal, the time limit."""

from collections.abc import Callable
from dataclasses import dataclass


def _no() -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class RunControl:
    """The present limits of a run; each is a function, because its answer changes while the run is in progress."""

    max_running: Callable[[], int]
    """The limit on the trials that take a worker at the same time: a cluster grows and shrinks."""
    interrupted: Callable[[], bool] = _no
    """Whether the run must end at once."""
    out_of_time: Callable[[], bool] = _no
    """Whether the time limit has passed: no trial is created or promoted any more."""
