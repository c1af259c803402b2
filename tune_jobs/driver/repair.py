"""Rebuild what follows from the journal of a run: tables, selection, study, dashboards.

Nothing can replace the journal itself. If a line in its middle is damaged, the lines before it are kept only on
request, and a copy of the file stays beside it.
"""

import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from tune_jobs.errors import DamagedRun, ResourceError, RunFolderError
from tune_jobs.files import fingerprint_of, reason_of, replacing
from tune_jobs.holdout.ledger import LEDGER, append_openings, openings_in, read_openings, write_ledger
from tune_jobs.job.job import Job
from tune_jobs.job.settings import TrackingSettings
from tune_jobs.record.events import Event, HoldoutUnsealed, JobChanged, TrialCreated, in_force
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal, lock, scan_journal
from tune_jobs.record.reading import job_files, job_of
from tune_jobs.record.run_record import RunRecord
from tune_jobs.record.tables import write_tables
from tune_jobs.remote.opened_run import opened_run
from tune_jobs.remote.working_copy import complete, open_folder
from tune_jobs.report.writing import write_report
from tune_jobs.selection.rule import select_winner, write_selection
from tune_jobs.text import count_text, quoted
from tune_jobs.tracking.base import TrackedRun
from tune_jobs.tracking.opening import file_trackers
from tune_jobs.tracking.optuna_study import StudyMirror
from tune_jobs.tracking.wandb_files import upload_command

STAGING = ".repair"
"""Name of the folder in the run folder where the dashboards' files are made before they replace the old ones."""


@dataclass(frozen=True)
class Repaired:
    """The result of a repair."""

    path: Path
    """The run folder."""
    lines: Sequence[str]
    """Sentences for the user, about the journal first."""


def repair(path: str | Path, *, cut: bool = False) -> Repaired:
    """Rebuild what follows from the journal of the run in the folder at `path`.

    A second repair changes nothing. Checkpoints stay as they are. If the journal is cut, those of trials that it no
    longer has are set aside, because a resumed run gives their names to other trials.

    Args:
        path: The run folder.
        cut: Drop the first damaged line of the journal and all lines after it; a copy of the file is kept.

    Raises:
        RunFolderError: The path is no run folder, or it cannot be written to.
        RunInUse: Another process writes to the run.
        DamagedRun: The journal is damaged, and `cut` was not given or nothing would be left; or the job's file or
            the ledger of the holdout is damaged.
    """
    folder = open_folder(path)
    complete(folder)
    with _unwritable(folder):
        lines = _cut_damage(folder) if cut else []
        with opened_run(folder, replace=cut) as opened:
            journal = opened.journal
            if lines:
                _keep_job_of_cut_lines(folder, journal)
            try:
                job = job_of(folder, journal.past)
                aside = _set_ledger_aside(folder, journal)
                openings = append_openings(journal, folder)
            except DamagedRun as error:
                raise DamagedRun("; ".join([str(error), *lines])) from error
            lines += _about_journal(journal, openings)
            if write_ledger(folder, openings_in(journal.past)) and not openings:
                lines.append(f"ledger of the holdout: made again from the journal{aside}")
            lines += _rebuild(folder, job, in_force(journal.past))
    return Repaired(folder.path, tuple(lines))


def _keep_job_of_cut_lines(folder: RunFolder, journal: Journal) -> None:
    """Record the file of the job again: the line that knew its last change may have been cut."""
    try:
        text = fingerprint_of(folder.job)
    except OSError:  # `job_of` says what is wrong with it
        return
    if text not in job_files(journal.past)[-1:]:
        journal.append_to_past([JobChanged(job_file=text)])


def continued_text(record: RunRecord, rungs: Sequence[int]) -> str:
    """Return `of 48 trials 16 continued after epoch 2, 5 after epoch 6`; empty without rungs."""
    epochs = [trial.curve.last_epoch for trial in record.trials.values()]
    counts = [(sum(last > rung for last in epochs), rung) for rung in rungs]
    if not counts:
        return ""
    (first, rung), *others = counts
    rest = "".join(f", {count} after epoch {epoch}" for count, epoch in others)
    return f"of {count_text(len(epochs), 'trial')} {first} continued after epoch {rung}{rest}"


def _cut_damage(folder: RunFolder) -> list[str]:
    """Cut the journal before its first damaged line, unless that is the last one, and return what was done.

    The cut itself comes last, so an interrupted repair can be repeated.
    """
    path = folder.journal
    with path.open("r+b") as file:
        lock(file.fileno(), path)
        scanned = scan_journal(path)
        if scanned.damaged is None:
            return []
        sound = scanned.sound
        if sound == 0:
            raise DamagedRun(
                f"{path}: line 1 is damaged, so nothing can be kept; restore the file from a copy"
            )
        content = file.read()
        kept = _unused(path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"))
        with replacing(kept) as copy:
            copy.write(content)
        known = {event.trial_id for event in scanned.events if isinstance(event, TrialCreated)}
        aside = _set_aside(folder, known, kept.suffix)
        file.truncate(sound)
        os.fsync(file.fileno())
    dropped = content[sound:].rstrip(b"\n").count(b"\n") + 1
    lines = [
        f"journal: cut before line {scanned.damaged}; {count_text(dropped, 'line')} removed. The original is in "
        f"{folder.relative(kept)}. `tune-jobs resume {quoted(folder.address)}` continues from the checkpoints, "
        "which hold the epochs of the removed lines"
    ]
    if aside:
        lines.append(f"checkpoints: those of {count_text(aside, 'removed trial')} are set aside")
    return lines


def _set_aside(folder: RunFolder, known: Collection[str], suffix: str) -> int:
    """Add `suffix` to the names of checkpoint folders of unknown trials, and return how many there are."""
    strangers = [
        path for path in folder.checkpoints.glob("*") if path.name.isdecimal() and path.name not in known
    ]
    for path in strangers:
        path.rename(path.with_name(path.name + suffix))
    return len(strangers)


def _set_ledger_aside(folder: RunFolder, journal: Journal) -> str:
    """Rename a ledger that is damaged or contradicts the journal; return where it is, to be added to a sentence.

    Raises:
        DamagedRun: The journal has no opening, so the ledger may be the only record of one.
    """
    try:
        read_openings(folder, journal.past)
    except DamagedRun:
        if not openings_in(journal.past):
            raise
        path = folder.holdout / LEDGER
        kept = _unused(path.with_name(f"{LEDGER}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"))
        path.rename(kept)
        return f"; the damaged one is in {folder.relative(kept)}"
    return ""


def _unused(path: Path) -> Path:
    """Return `path`, with a number if it is taken."""
    numbered = (path.with_name(f"{path.name}-{number}") for number in range(2, 10_000))
    return path if not path.exists() else next(other for other in numbered if not other.exists())


def _about_journal(journal: Journal, openings: Sequence[Event]) -> Iterator[str]:
    if journal.cut:
        yield f"journal: the last line was incomplete ({count_text(journal.cut, 'byte')}) and was removed"
    opened = sum(isinstance(event, HoldoutUnsealed) for event in openings)
    if opened:
        yield f"journal: {count_text(opened, 'opening')} of the holdout added from its ledger"
    if len(openings) > opened:
        yield f"journal: {count_text(len(openings) - opened, 'result')} of the holdout added from its ledger"
    yield f"journal: {count_text(len(journal.past), 'event')}, all intact"


def _rebuild(folder: RunFolder, job: Job, events: Sequence[Event]) -> Iterator[str]:
    """Rebuild everything from the events in force, and yield what was made."""
    record = RunRecord.replay(events, job.selection)
    write_tables(record, folder)
    trials, epochs = len(record.trials), sum(len(trial.epochs) for trial in record.trials.values())
    yield f"tables: {count_text(trials, 'trial')}, {count_text(epochs, 'epoch')}"
    if job.rungs:
        yield f"rungs: {continued_text(record, job.rungs)}"
    yield _select(folder, record)
    StudyMirror.on(folder, job.search.space, job.selection, (*job.rungs, job.max_epochs), events)
    yield f"study: {count_text(trials, 'trial')}"
    yield from _track(folder, job, events)


def _select(folder: RunFolder, record: RunRecord) -> str:
    if record.ended is None:
        folder.selection.unlink(missing_ok=True)
        resume = f"tune-jobs resume {quoted(folder.address)}"
        return f"selection: none, because the run has not ended; continue with `{resume}`"
    winner = select_winner(record)
    write_selection(record, winner, folder)
    return (
        f"selection: trial {winner.trial.trial_id}"
        if winner
        else "selection: none, because no trial succeeded"
    )


def _track(folder: RunFolder, job: Job, events: Sequence[Event]) -> Iterator[str]:
    """Rebuild the files of the dashboards, each as a whole; a dashboard that fails keeps its old files."""
    if job.tracking.tensorboard:
        made = _replace(folder, folder.tensorboard, TrackingSettings(tensorboard=True), job, events)
        yield f"TensorBoard: {made}"
    if job.tracking.wandb is not None:
        offline = job.tracking.wandb.model_copy(update={"mode": "offline"})
        made = _replace(folder, folder.wandb, TrackingSettings(wandb=offline), job, events)
        yield f"W&B: {made}; upload the run with `{upload_command(folder.wandb)}`"


def _replace(
    folder: RunFolder, files: Path, tracking: TrackingSettings, job: Job, events: Sequence[Event]
) -> str:
    """Track all events into a new folder that replaces `files`."""
    staging = RunFolder(folder.path / STAGING / folder.name)  # W&B's ids have the name of the run folder
    shutil.rmtree(staging.path.parent, ignore_errors=True)
    staging.path.mkdir(parents=True)
    try:
        staged = TrackedRun(
            job.model_copy(update={"tracking": tracking}),
            staging.path,
            events,
            write_report=partial(write_report, folder.path),
        )
        for make in file_trackers(staged).values():
            make().close()  # it writes what it finds missing, which is everything
        made = staging.path / files.name
        made.mkdir(exist_ok=True)  # without a trial there are no files
        if files.exists():
            files.rename(staging.path / "old")
        made.rename(files)
    except ResourceError as error:
        return f"not rebuilt: {error}"
    except (Exception, SystemExit) as error:  # a guest: whatever it raises, the rest is done
        text = " ".join(str(error).split()) or "no reason given"
        return f"not rebuilt: {type(error).__name__}: {text}"
    finally:
        shutil.rmtree(staging.path.parent, ignore_errors=True)
    return f"{files.name}/ was rebuilt"


@contextmanager
def _unwritable(folder: RunFolder) -> Iterator[None]:
    """Turn the errors of a full or read-only disk into one message."""
    try:
        yield
    except OSError as error:
        raise RunFolderError(
            f"{error.filename or folder.path}: cannot be written to ({reason_of(error, folder.path)}). Nothing "
            "that was reported is lost. Free disk space, or make the folder writable; then repair the run again"
        ) from error
