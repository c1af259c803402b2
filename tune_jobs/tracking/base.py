"""Trackers: dashboards that follow a run as listeners of its journal.

The driver calls a tracker with every event of the run, in order, after the event is on disk. Workers know nothing
of it. A tracker is a guest: a `Guest` calls it in a separate thread, and the run neither waits for it nor fails
with it. One thread makes all of its calls, so it needs no lock. If it raises, it is switched off.

A tracker must cope with three things:

- A driver may be killed at any moment, and the tracker with it. When the run is resumed, `TrackedRun.events` has
  what the tracker had not written.
- A trial whose worker was lost repeats the epochs since its last checkpoint. `new_results` leaves them out.
- A resumed run takes back its end, and the ends of the trials that continue. `in_force` leaves those events out.

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
"""Longest time, in seconds, that the end of a run waits for each tracker to write what it still has."""

_LOG = logging.getLogger(__name__)


class Tracker(Protocol):
    """Follows the events of a run."""

    def __call__(self, event: Event, /) -> None: ...

    def close(self) -> None:
        """Write what is left. It is called once after the last event, even if a call has failed."""


@dataclass(frozen=True)
class TrackedRun:
    """The run that a tracker is made for."""

    job: Job
    path: Path
    """The run folder. A tracker keeps its files in its own folder inside it."""
    events: Sequence[Event] = ()
    """The events so far, without those that were taken back; empty if the run begins.

    If the run is resumed, the last of them is the `RunResumed`, which the tracker is called with as well.
    """
    write_report: Callable[[], Path] | None = None
    """Writes the run's report and returns its file; None if no report can be written here."""

    def record(self) -> RunRecord:
        """Return the record that follows from `events`."""
        return RunRecord.replay(self.events, self.job.selection)


MakeTracker = Callable[[TrackedRun], Tracker]


class LateTracker:
    """A tracker that is made with its first event, or at the end, in the thread of its guest.

    Args:
        make: Returns the tracker; may be slow, or fail.
    """

    def __init__(self, make: Callable[[], Tracker]) -> None:
        self._make = make
        self._tracker: Tracker | None = None
        self._failed = False

    def __call__(self, event: Event) -> None:
        """Pass `event` to the tracker.

        Raises:
            Exception: The tracker, or the function that makes it, raised it.
        """
        self._get_tracker()(event)

    def close(self) -> None:
        """Close the tracker. If it could not be made, do not try again."""
        if not self._failed:
            self._get_tracker().close()

    def _get_tracker(self) -> Tracker:
        if self._tracker is None:
            self._failed = True
            self._tracker = self._make()
            self._failed = False
        return self._tracker


class Guest:
    """A tracker that can neither delay nor fail the run, however slow it is and whatever it raises.

    Events wait in a queue for the guest's own thread. None is dropped while the tracker works. The first exception
    switches the tracker off, and one warning in the log says so.

    Args:
        tracker: Called only from the guest's thread.
        name: Name of the tracker in the warning.
        patience: Longest time that `close` waits for the tracker, in seconds.
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
        """Queue `event` for the tracker; return at once."""
        if not self._off:
            self._events.put(event)

    def close(self) -> None:
        """Let the tracker finish its work; give it up if that takes longer than `patience`."""
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
        ) as error:  # nothing else catches it in this thread, and libraries raise SystemExit too
            text = " ".join(str(error).split()).rstrip(".")
            self._switch_off(f"{type(error).__name__}: {text}" if text else type(error).__name__)

    def _switch_off(self, reason: str) -> None:
        if not self._off:
            self._off = True
            _LOG.warning("%s is switched off: %s; the run's own records are complete", self._name, reason)


def new_results(record: RunRecord, report: EpochsReported) -> list[Mapping[str, Any]]:
    """Return the epochs of `report` that `record` does not have yet.

    A trial whose worker was lost repeats the epochs since its last checkpoint; their losses are the same.
    """
    known = record.trials[report.trial_id].epochs
    return [result for result in report.results if int(result["epoch"]) not in known]
