"""A run in progress, in the process that writes its journal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from tune_jobs.record.events import Event, RunResumed, RunStarted, in_force
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal, Listener
from tune_jobs.record.run_record import RunRecord
from tune_jobs.trainers.settings import ScoreSettings


@dataclass(frozen=True)
class LiveRun:
    """The folder, the journal and the record of a run, which all its parts share."""

    folder: RunFolder
    journal: Journal
    """Open."""
    record: RunRecord
    """The state of the run; it receives every event before the listeners that `follow` adds."""
    past: Sequence[Event] = ()
    """Events in force when the run began or was resumed."""

    @classmethod
    def begin(
        cls, folder: RunFolder, journal: Journal, first: RunStarted | RunResumed, score: ScoreSettings
    ) -> Self:
        """Return the run whose next event is `first`, which is not in the journal yet."""
        return cls.on(folder, journal, score, in_force([*journal.past, first]))

    @classmethod
    def on(
        cls, folder: RunFolder, journal: Journal, score: ScoreSettings, past: Sequence[Event] = ()
    ) -> Self:
        """Return a run with a record of `past` that follows the journal."""
        record = RunRecord.replay(past, score)
        journal.follow(record.apply)
        return cls(folder, journal, record, past)

    def append(self, *events: Event) -> None:
        """Write `events` to the journal; the record and all followers have received them when this returns.

        Raises:
            StorageFailed: See `Journal.append`.
        """
        self.journal.append(*events)

    def follow(self, listener: Listener) -> None:
        """Call `listener` with every event from now on; `record` knows of the event by then."""
        self.journal.follow(listener)

    def follow_from_start(self, listener: Listener) -> None:
        """Call `listener` with every event of the past, and with every event from now on."""
        for event in self.past:
            listener(event)
        self.follow(listener)
