"""Trackers: dashboards that follow a run from outside, as listeners of its journal.

A tracker is called in the driver with every event of the run, in order, after the event is on disk; workers
know nothing of it. It is a guest: wrapped in a `Guest` it works in a thread of its own, and the run neither
waits for it nor fails with it. To write another one, take the events that matter and leave the rest:

    class Printer:
        def __init__(self, file: TextIO) -> None:
            self._file = file

        def __call__(self, event: Event) -> None:
            match event:
                case TrialCreated():  # event.configuration: values by parameter
                    print(event.trial_id, dict(event.configuration), file=self._file)
                case EpochsReported():  # event.results: a mapping an epoch, as `EpochResult.to_mapping` gives it
                    print(event.trial_id, "epoch", event.results[-1]["epoch"], file=self._file)
                case TrialEnded():
                    print(event.trial_id, event.status, event.reason, file=self._file)

        def close(self) -> None:
            self._file.flush()

    with Guest(Printer(sys.stderr), "the printer") as guest:
        run(job, listeners=[guest])

A tracker needs no lock, since one thread makes all of its calls, and may raise: that switches it off.
"""

import logging
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol, Self

from tune_jobs.events import EpochsReported, Event
from tune_jobs.records import RunRecord

CLOSE_SECONDS = 60.0
"""The end of a run waits at most this long for each tracker to write what it still has."""

_LOG = logging.getLogger(__name__)


class Tracker(Protocol):
    """Follows the events of a run."""

    def __call__(self, event: Event, /) -> None: ...

    def close(self) -> None:
        """Writes what is left; called once, after the last event, also where a call has failed."""


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
