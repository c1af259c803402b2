"""Trackers: dashboards that follow a run from outside, as listeners of its journal.

A tracker is called in the driver with every event of the run, in order, after the event is on disk; workers
know nothing of it. It is a guest: wrapped in a `Guest` it works in a thread of its own, and the run neither
waits for it nor fails with it. It needs no lock, since one thread makes all of its calls, and may raise: that
switches it off.

What a tracker has to bear:

- A driver may be killed at any moment, and with it the tracker: what the tracker had not written by then it finds
  in `TrackedRun.events` when the run is resumed.
- A trial whose worker was lost repeats the epochs since its last checkpoint: `new_results` leaves them out.
- A run that is resumed takes back that it had ended, and that those trials had which go on: `in_force`.

`tracking.trackers` of a job file names functions that make trackers; docs/dashboards.md has an example.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol, Self

from tune_jobs.job.job import Job
from tune_jobs.record.events import EpochsReported, Event
from tune_jobs.record.run_record import RunRecord

CLOSE_SECONDS = 60.0
"""The end of a run waits at most this long for each tracker to write what it still has."""

_LOG = logging.getLogger(__name__)


class Tracker(Protocol):
    """Follows the events of a run."""

    def __call__(self, event: Event, /) -> None: ...

    def close(self) -> None:
        """Writes what is left; called once, after the last event, also where a call has failed."""


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is made with."""

    job: Job
    path: Path
    """The run folder; files of a tracker belong into a folder of their own in it."""
    events: Sequence[Event] = ()
    """Of the run so far, without those that were taken back; empty where the run begins.

    Where the run is resumed the last of them is the `RunResumed`, of which the tracker is told as well.
    """
    write_report: Callable[[], Path] | None = None
    """Writes the run's report anew and returns its file; None if the one who opens the trackers cannot write it."""

    def record(self) -> RunRecord:
        """What `events` lead to."""
        return RunRecord.replay(self.events, self.job.selection)


MakeTracker = Callable[[TrackedRun], Tracker]


class LateTracker:
    """A tracker that is made when its first event comes, or at the end: in the thread of its guest.

    Args:
        make: returns the tracker; may be slow, or fail.
    """

    def __init__(self, make: Callable[[], Tracker]) -> None:
        self._make = make
        self._tracker: Tracker | None = None
        self._failed = False

    def __call__(self, event: Event) -> None:
        """Passes `event` on.

        Raises:
            Exception: whatever the tracker raises, or the function that makes it.
        """
        self._made()(event)

    def close(self) -> None:
        """Closes the tracker; one that could not be made is not tried again."""
        if not self._failed:
            self._made().close()

    def _made(self) -> Tracker:
        if self._tracker is None:
            self._failed = True
            self._tracker = self._make()
            self._failed = False
        return self._tracker


class Guest:
    """A tracker that cannot hold up or fail the run, however slow it is and whatever it raises.

    Events wait in a queue for the guest's own thread; none is dropped while the tracker works. The first
    exception switches the tracker off, and one warning in the log says so.

    Args:
        tracker: called from the guest's thread alone.
        name: of the tracker, in the warning.
        patience: seconds that `close` waits for the tracker at most.
    """

    def __init__(self, tracker: Tracker, name: str, patience: float = CLOSE_SECONDS) -> None:
        self._tracker = tracker
        self._name = name
        self._patience = patience
        self._off = False
        self._events: SimpleQueue[Event | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        """Leaves `event` to the tracker; returns at once."""
        if not self._off:
            self._events.put(event)

    def close(self) -> None:
        """Lets the tracker do what it still has to do, and gives it up where that takes too long."""
        self._events.put(None)
        self._thread.join(self._patience)
        if self._thread.is_alive():
            self._switch_off(f"it had not finished {self._patience:g} s after the run")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self) -> None:
        self._guard(self._follow)
        self._guard(self._tracker.close)

    def _follow(self) -> None:
        while (event := self._events.get()) is not None and not self._off:
            self._tracker(event)

    def _guard(self, call: Callable[[], None]) -> None:
        try:
            call()
        except (
            BaseException
        ) as error:  # nothing is above it in this thread, and libraries raise SystemExit too
            text = " ".join(str(error).split()).rstrip(".")
            self._switch_off(f"{type(error).__name__}: {text}" if text else type(error).__name__)

    def _switch_off(self, reason: str) -> None:
        if not self._off:
            self._off = True
            _LOG.warning("%s is switched off: %s; the run's own records are complete", self._name, reason)


def new_results(record: RunRecord, report: EpochsReported) -> list[Mapping[str, Any]]:
    """The epochs of `report` that `record` does not know yet.

    A trial whose worker was lost repeats the epochs since its last checkpoint; their losses are the same.
    """
    known = record.trials[report.trial_id].epochs
    return [result for result in report.results if int(result["epoch"]) not in known]
