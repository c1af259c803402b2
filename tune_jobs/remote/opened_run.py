"""Open a run for writing: its journal, and the object store that follows it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tune_jobs.record.events import RunResumed, RunStarted
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal
from tune_jobs.record.live import LiveRun
from tune_jobs.remote.mirror import AfterUpload, mirrored
from tune_jobs.trainers.settings import ScoreSettings


@dataclass(frozen=True)
class OpenedRun:
    """A run that no other process can write to now."""

    folder: RunFolder
    journal: Journal
    after_upload: AfterUpload

    def begin(self, event: RunStarted | RunResumed, score: ScoreSettings) -> LiveRun:
        """Return the run in progress whose next event is `event`, which is not in the journal yet."""
        return LiveRun.begin(self.folder, self.journal, event, score)


@contextmanager
def opened_run(folder: RunFolder, *, replace: bool = False) -> Iterator[OpenedRun]:
    """Open the run in `folder`; when the block ends, its object store has all that was written.

    Args:
        folder: The run folder.
        replace: Replace the object store's journal if it is another one.

    Raises:
        RunInUse: Another process writes to the run.
        DamagedRun: The journal is damaged.
        RunFolderError, StorageFailed: See `mirrored`.
    """
    with (
        Journal(folder.journal) as journal,
        mirrored(folder, journal, replace=replace) as after_upload,
    ):
        yield OpenedRun(folder, journal, after_upload)
