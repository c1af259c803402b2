"""Watch a run from another process, maybe on another machine, by reading its journal as it grows.

The two processes share only the run folder. The watcher writes nothing into it, so it cannot disturb the run.
"""

import socket
import time
from collections.abc import Iterable, Sequence
from enum import Enum, auto
from pathlib import Path

from rich.console import Console

from tune_jobs.cli.progress import RunProgress
from tune_jobs.cli.views import View, make_view
from tune_jobs.errors import DamagedRun
from tune_jobs.location import location_of
from tune_jobs.record.events import Event, RunEnded, RunResumed, RunStarted, WinnerSelected, in_force
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import read_journal, refuse_other_version
from tune_jobs.record.lines import START, parse_content
from tune_jobs.record.reading import job_of
from tune_jobs.remote.following import keep_up_to_date
from tune_jobs.remote.working_copy import at_work
from tune_jobs.text import duration_text, quoted

SECONDS_BETWEEN_READS = 0.5
"""Seconds between two reads of the journal."""
SECONDS_TO_SETTLE = 3.0
"""Seconds for which a dead process or a damaged line must stay so before it is believed: a write may be under way."""
SECONDS_OF_SILENCE = 60.0
"""Seconds without an event after which the watcher says so, if it cannot tell whether the run's process lives."""


class Watched(Enum):
    """The way in which watching a run ended."""

    ENDED = auto()
    """The run has ended, and its results are written."""
    KILLED = auto()
    """The run's process died before it concluded the run."""
    LEFT = auto()
    """The watcher was interrupted; the run continues."""


class JournalFollower:
    """Reads a journal that another process appends to, from the last whole line on.

    Args:
        path: The journal's file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset, self._place = 0, START

    def read(self) -> list[Event] | None:
        """Return the events since the last call; None if the file became shorter and must be read from its start.

        The last line is left until it is whole and sound: its writer may not have finished it, or have died.

        Raises:
            OtherVersion: Another version of tune-jobs wrote a line.
            DamagedRun: A line that others follow is damaged; the next call reads it again.
        """
        with self._path.open("rb") as file:  # NFS shows new content to a file opened after it
            if file.seek(0, 2) < self._offset:
                return None
            file.seek(self._offset)
            content = parse_content(file.read(), self._place)
        if content.unknown is not None:
            refuse_other_version(self._path)  # names the line by its number in the whole file
        if content.damaged is not None and not content.events:  # the events in front of it come first
            raise DamagedRun(f"{self._path}: a line is damaged")
        self._offset, self._place = self._offset + content.sound, content.end
        return list(content.events)


class Watching:
    """The state of a watched run; call `poll` from time to time.

    Args:
        folder: Folder of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._follower = JournalFollower(folder.journal)
        self._trouble: float | None = None
        self._heard = 0.0
        self._worked = 0.0
        """Unix time at which the run's process was last seen at work."""
        self.events: list[Event] = []
        """All events that were read."""

    def poll(self) -> list[Event]:
        """Return the new events.

        Raises:
            OtherVersion: Another version of tune-jobs wrote to the journal.
            DamagedRun: The journal is damaged, and stays so.
            OSError: The journal cannot be read, and this stays so.
            Restarted: The journal became shorter; what was read before no longer holds.
        """
        now = time.time()
        try:
            new = self._follower.read()
        except (DamagedRun, OSError) as error:
            self._trouble = self._trouble or now
            if now - self._trouble < SECONDS_TO_SETTLE:
                return []
            if isinstance(error, DamagedRun):
                read_journal(self._folder.journal)  # raises with the number of the line and with advice
            raise
        self._trouble = None
        if new is None:
            raise Restarted
        if new:
            if self.events:
                self._heard = self._worked = now
            else:
                self._heard = min(now, new[-1].time)
            self.events += new
        return new

    @property
    def silence(self) -> float:
        """Seconds since the last event. For events since the watching began, this machine's clock counts."""
        return time.time() - self._heard

    def verdict(self) -> Watched | None:
        """Return how the run ended; None while it continues, may continue, or its journal cannot be read."""
        if self._trouble is not None:
            return None
        if concluded(self.events):
            # Another machine may not see the lock, and the last files follow the last event.
            settled = self._certain or self.silence > SECONDS_TO_SETTLE
            return Watched.ENDED if settled and not self._is_at_work() else None
        if not self._certain or self.silence <= SECONDS_TO_SETTLE or self._is_at_work():
            return None
        # Its last events may be on their way: an object store shows them after the lease has ended.
        return Watched.KILLED if time.time() - self._worked > SECONDS_TO_SETTLE else None

    def notice(self) -> str:
        """Say that no event came for long, if the reason is unknown; empty otherwise."""
        if self._certain or self.silence < SECONDS_OF_SILENCE or self._is_at_work():
            return ""
        minutes = duration_text(60 * (self.silence // 60))
        return (
            f"no event for {minutes}. If the run's process ({driver(self.events)}) was killed, "
            f"continue it with `tune-jobs resume {quoted(self._folder.address)}`"
        )

    @property
    def here(self) -> bool:
        """Return whether the run's process is, or was, on this machine: then its lock can be trusted."""
        return driver(self.events).rpartition(":")[0] == socket.gethostname()

    def _is_at_work(self) -> bool:
        if at_work(self._folder):
            self._worked = time.time()
            return True
        return False

    @property
    def _certain(self) -> bool:
        """Return whether this machine can tell that the run's process is gone."""
        return self.here or location_of(self._folder.path) is not None


class Restarted(Exception):
    """The journal became shorter: `tune-jobs repair --cut` cut it, or it was restored from a copy."""


def driver(events: Iterable[Event]) -> str:
    """Return the process that writes the journal, as `host:pid`."""
    drivers = [event.driver for event in events if isinstance(event, RunStarted | RunResumed)]
    return drivers[-1] if drivers else ""


def concluded(events: Sequence[Event]) -> bool:
    """Return whether the run has ended and its winner is selected."""
    last = in_force(events)
    return any(isinstance(event, RunEnded) for event in last) and any(
        isinstance(event, WinnerSelected) for event in last
    )


def watch(folder: RunFolder, console: Console) -> Watched:
    """Show the run in `folder` until it ends, its process is killed, or the user presses Ctrl-C.

    Args:
        folder: Folder of the run.
        console: The console on which the run is shown.

    Raises:
        DamagedRun: The journal or the job is damaged, or the run was killed before its first event.
        OSError: The journal cannot be read any more.
    """
    try:
        while True:
            try:
                with keep_up_to_date(folder):
                    return _watch(Watching(folder), folder, console)
            except Restarted:
                continue
    except KeyboardInterrupt:
        return Watched.LEFT


def _watch(watching: Watching, folder: RunFolder, console: Console) -> Watched:
    while not watching.poll() and at_work(folder):  # the run is about to begin
        time.sleep(SECONDS_BETWEEN_READS)
    while watching.poll():
        pass  # a damaged line stops the reading in front of it
    progress = RunProgress(job_of(folder, watching.events), watching.events)
    over = watching.verdict()
    if over is not None:
        return over
    with make_view(progress, console, f"{folder.name}: {progress.line()}") as view:
        return _follow(watching, view)


def _follow(watching: Watching, view: View) -> Watched:
    while True:
        for event in watching.poll():
            view(event)
        view.notice(watching.notice())
        over = watching.verdict()
        if over is not None:
            return over
        time.sleep(SECONDS_BETWEEN_READS)
