"""A run in progress, as the process sees it that writes its journal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from tune_jobs.record.events import Event, RunResumed, RunStarted, in_force
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal
from tune_jobs.record.run_record import RunRecord
from tune_jobs.trainers.settings import ScoreSettings


@dataclass(frozen=True)
class LiveRun:
    """What all that goes on in a run writes to and reads from."""

    folder: RunFolder
    journal: Journal
    """Open."""
    record: RunRecord
    """Of the past; it follows the journal as soon as somebody has it do so."""
    past: Sequence[Event] = ()
    """Events in force when the run was begun, or taken up again."""

    @classmethod
    def begun(
        cls, folder: RunFolder, journal: Journal, begins: RunStarted | RunResumed, score: ScoreSettings
    ) -> Self:
        """The run whose next event is `begins`; the journal has not heard of it yet."""
        past = in_force([*journal.past, begins])
        return cls(folder, journal, RunRecord.replay(past, score), past)
