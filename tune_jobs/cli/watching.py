"""Following a run from another process, maybe on another machine: its journal is read as it grows.

Only the run folder is shared. Nothing is written into it, so that whoever watches cannot disturb the run.
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
from tune_jobs.record.journal import UnknownLine, parse_line, read_journal, refuse_later_version
from tune_jobs.record.reading import job_of
from tune_jobs.remote.following import kept_up_to_date
from tune_jobs.remote.working_copy import at_work
from tune_jobs.text import duration_text

SECONDS_BETWEEN_READS = 0.5
SECONDS_TO_SETTLE = 3.0
"""What looks final (a process that is gone, a damaged line) must look so for this long: it may be half done."""
SECONDS_OF_SILENCE = 60.0
"""After this long without an event the watcher says so, where it cannot tell whether the run's process lives."""


class Watched(Enum):
    """How a watching ended."""

    ENDED = auto()
    """The run has ended, and its results are written."""
    KILLED = auto()
    """Its process is gone, and has not concluded it."""
    LEFT = auto()
    """The watcher was interrupted; the run goes on."""


class JournalFollower:
    """Reads a journal that another process appends to, from the last whole line on.

    Args:
        path: of the journal's file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[Event] | None:
        """Events that are new since the last call; None where the file was cut, so that all must be read anew.

        The line at the end waits until it is whole and sound: its writer may be at it, or have died there.

        Raises:
            LaterVersion: a later version of tune-jobs wrote a line.
            DamagedRun: a line with others behind it is damaged; a further call looks at it again.
        """
        with self._path.open("rb") as file:  # anew each time: NFS shows new content to who opens the file
            if file.seek(0, 2) < self._offset:
                return None
            file.seek(self._offset)
            *lines, rest = file.read().split(b"\n")
        events: list[Event] = []
        for number, line in enumerate(lines, start=1):
            event = parse_line(line)
            if isinstance(event, UnknownLine):
                refuse_later_version(self._path)
            if not isinstance(event, Event):
                if events or (number == len(lines) and not rest):
                    break  # those in front of it are told first
                raise DamagedRun(f"{self._path}: a line is damaged")
            events.append(event)
            self._offset += len(line) + 1
        return events


class Watching:
    """What is known of a run that is watched; `poll` is called now and then.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._follower = JournalFollower(folder.journal)
        self._trouble: float | None = None
        self._heard = 0.0
        self._worked = 0.0
        """When the run's process was last known to be at work."""
        self.events: list[Event] = []
        """All that were read."""

    def poll(self) -> list[Event]:
        """Events that are new.

        Raises:
            LaterVersion: a later version of tune-jobs writes to the journal.
            DamagedRun: the journal is damaged, and stays so.
            OSError: it cannot be read, and this stays so.
            Restarted: it was cut, so that what was read is void.
        """
        now = time.time()
        try:
            new = self._follower.read()
        except (DamagedRun, OSError) as error:
            self._trouble = self._trouble or now
            if now - self._trouble < SECONDS_TO_SETTLE:
                return []
            if isinstance(error, DamagedRun):
                read_journal(self._folder.journal)  # says which line it is, and what helps
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
        """Seconds since the last event, by this machine's clock for those that came since the watching began."""
        return time.time() - self._heard

    def verdict(self) -> Watched | None:
        """How it ended; None as long as the run goes on, or may, or its journal cannot be read on."""
        if self._trouble is not None:
            return None
        if concluded(self.events):
            # Elsewhere the lock may not be seen, and the last files come after the last event.
            settled = self._certain or self.silence > SECONDS_TO_SETTLE
            return Watched.ENDED if settled and not self._is_at_work() else None
        if not self._certain or self.silence <= SECONDS_TO_SETTLE or self._is_at_work():
            return None
        # Its last events may be on their way: from an object store they come after the lease has gone.
        return Watched.KILLED if time.time() - self._worked > SECONDS_TO_SETTLE else None

    def notice(self) -> str:
        """That nothing was heard for long, where nobody can tell why; else empty."""
        if self._certain or self.silence < SECONDS_OF_SILENCE or self._is_at_work():
            return ""
        minutes = duration_text(60 * (self.silence // 60))
        return (
            f"nothing was heard for {minutes}. If the run's process ({driver(self.events)}) was killed, "
            f"`tune-jobs resume {self._folder.address}` goes on"
        )

    @property
    def here(self) -> bool:
        """Whether the run's process is, or was, one of this machine, so that its lock can be trusted."""
        return driver(self.events).rpartition(":")[0] == socket.gethostname()

    def _is_at_work(self) -> bool:
        if at_work(self._folder):
            self._worked = time.time()
            return True
        return False

    @property
    def _certain(self) -> bool:
        """Whether it can be told from here that the run's process is gone."""
        return self.here or location_of(self._folder.path) is not None


class Restarted(Exception):
    """The journal was cut, by `tune-jobs repair --cut` or since it was put back from a copy."""


def driver(events: Iterable[Event]) -> str:
    """The process that writes the journal, as `host:pid`."""
    drivers = [event.driver for event in events if isinstance(event, RunStarted | RunResumed)]
    return drivers[-1] if drivers else ""


def concluded(events: Sequence[Event]) -> bool:
    """Has the run ended, and was its winner selected?"""
    last = in_force(events)
    return any(isinstance(event, RunEnded) for event in last) and any(
        isinstance(event, WinnerSelected) for event in last
    )


def watch(folder: RunFolder, console: Console) -> Watched:
    """Shows the run in `folder` until it ends, its process is killed, or Ctrl-C.

    Args:
        folder: of the run.
        console: where it is shown.

    Raises:
        DamagedRun: the journal or the job is damaged, or the run was killed before its first event.
        OSError: the journal cannot be read any more.
    """
    try:
        while True:
            try:
                with kept_up_to_date(folder):
                    return _watch(Watching(folder), folder, console)
            except Restarted:
                continue
    except KeyboardInterrupt:
        return Watched.LEFT


def _watch(watching: Watching, folder: RunFolder, console: Console) -> Watched:
    while not watching.poll() and at_work(folder):  # a run that is about to begin
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
