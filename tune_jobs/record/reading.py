"""Read a run back from its folder: its events, its job, and the record that follows from both."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tune_jobs.errors import DamagedRun, JobError, RunFolderError, UnknownKind
from tune_jobs.files import fingerprint_of
from tune_jobs.job.file import read_yaml
from tune_jobs.job.fingerprint import job_fingerprint
from tune_jobs.job.job import Job
from tune_jobs.job.user_code import importable_from
from tune_jobs.location import location_of
from tune_jobs.record.events import (
    Event,
    HoldoutEvaluated,
    HoldoutUnsealed,
    JobChanged,
    RunStarted,
    TrialCreated,
    in_force,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import read_journal
from tune_jobs.record.lines import uncollected
from tune_jobs.record.run_record import RunRecord
from tune_jobs.trainers.errors import MetricMissing, ReferenceNotFound
from tune_jobs.trainers.kinds import register_class

JOB_FILE = "job.yaml"
"""Name of the fingerprint of the file of the job: the SHA-256 of its text, in hex digits."""


@dataclass(frozen=True)
class StoredRun:
    """The content of a run folder at one moment."""

    folder: RunFolder
    events: Sequence[Event]
    """All events of the journal, in order."""
    job: Job
    record: RunRecord
    """The record of the events in force."""

    def refuse_if_continued(self, events: Sequence[Event]) -> None:
        """Refuse to use this state of the run if another process has continued the run since it was read.

        Args:
            events: All events of the journal now.

        Raises:
            RunFolderError: The run was continued.
        """
        if _count_trial_events(events) != _count_trial_events(self.events):
            raise RunFolderError(
                f"{self.folder.path}: the run was continued after it was opened; open it again"
            )


def _count_trial_events(events: Sequence[Event]) -> int:
    """Return the number of events that may change which trial wins: all except openings of the holdout."""
    return sum(not isinstance(event, HoldoutUnsealed | HoldoutEvaluated) for event in events)


def read_run(folder: RunFolder) -> StoredRun:
    """Read the run in `folder`, whether it has ended or is in progress.

    Raises:
        DamagedRun, UnknownKind: See `job_of`.
    """
    with uncollected():
        events = read_journal(folder.journal)
        job = job_of(folder, events)
        return StoredRun(folder, events, job, _record_of(folder, events, job))


def _record_of(folder: RunFolder, events: Sequence[Event], job: Job) -> RunRecord:
    """Return the record of the events in force.

    Raises:
        DamagedRun: An epoch lacks the metric that the job selects by, so another job wrote the journal.
    """
    try:
        return RunRecord.replay(in_force(events), job.selection)
    except MetricMissing as error:
        raise DamagedRun(
            f"{folder.journal}: an epoch has no {job.selection.metric!r}, by which {folder.job.name} selects the "
            "winner, so the two files are not of the same run; restore them from a copy"
        ) from error


def job_of(folder: RunFolder, events: Sequence[Event]) -> Job:
    """Read the job of the run whose journal holds `events`.

    Raises:
        DamagedRun: The journal or the job is damaged, the job was changed by hand, a trial does not fit its search
            space, or the run was killed before its first event.
        UnknownKind: The kind of training is unknown here and cannot be imported.
    """
    if not events or not isinstance(events[0], RunStarted):
        raise DamagedRun(
            f"{folder.journal}: does not begin with the start of a run. If checkpoints/ is empty, the run was killed "
            "before its first event, and nothing is lost: run its job again. Otherwise restore the journal from a copy"
        )
    home = folder.home(Path(events[0].job_folder))
    _register_kind(folder, events[0], home)
    try:
        job = Job.from_mapping(read_yaml(folder.job), home)
    except JobError as error:
        text = "; ".join(p.message for p in error.problems)
        raise DamagedRun(f"{folder.job}: {text}; restore it from a copy") from error
    if events[0].fingerprints.get("job") not in {None, job_fingerprint(job)}:
        raise DamagedRun(
            f"{folder.job}: was changed since the run began, so it is not the job of these trials; restore it. Keys "
            "that may change are changed with `tune-jobs resume RUN --key value`"
        )
    if location_of(folder.path) is None:  # in a copy of a run in an object store, the file may lag behind
        _check_job_file(folder, events)
    _refuse_unfit_trials(folder, events, job)
    return job


def job_files(events: Iterable[Event]) -> list[str]:
    """Return the fingerprints of the texts that the job's file had, oldest first; "" where none is known."""
    found = []
    for event in events:
        if isinstance(event, RunStarted):
            found.append(event.fingerprints.get(JOB_FILE, ""))
        elif isinstance(event, JobChanged):
            found.append(event.job_file)
    return found


def _check_job_file(folder: RunFolder, events: Sequence[Event]) -> None:
    """Refuse a job file whose text is not the one that the journal knows.

    A driver may have died between `JobChanged` and the writing of the file; the text before is then as good.
    """
    known = job_files(events)
    if not known[0]:
        raise DamagedRun(
            f"{folder.journal}: the start of the run has no SHA-256 of its job; restore the journal from a copy"
        )
    if fingerprint_of(folder.job) not in known[-2:]:
        raise DamagedRun(
            f"{folder.job}: was changed by hand; restore it. Keys that may change are changed with `tune-jobs "
            "resume RUN --key value`, which the journal records"
        )


def _refuse_unfit_trials(folder: RunFolder, events: Sequence[Event], job: Job) -> None:
    """Refuse a journal with a trial that no search in the job's space creates.

    Raises:
        DamagedRun: A configuration lacks a parameter, or has another one or a value that is not valid.
    """
    for event in events:
        if isinstance(event, TrialCreated):
            problems = job.search.space.problems(event.configuration)
            if problems:
                raise DamagedRun(
                    f"{folder.journal}: trial {event.trial_id} does not fit the search space of the job "
                    f"({problems[0]}), so the two files are not of the same run; restore them from a copy"
                )


def _register_kind(folder: RunFolder, started: RunStarted, home: Path) -> None:
    """Register the kind of a run's trainings if this process does not know it.

    Args:
        folder: Of the run.
        started: The event that names the kind.
        home: Folder of the job, in which the kind's module may be.

    Raises:
        UnknownKind: The kind cannot be imported.
    """
    if not started.kind:
        return
    try:
        with importable_from(home):
            register_class(started.kind, started.kind_class)
    except (ReferenceNotFound, ValueError) as error:
        raise UnknownKind(
            f"{folder.path}: its trials are of the kind of training {started.kind!r}, which cannot be imported "
            f"({error}); install its package, or call this in the folder of its module, or register it before the run "
            "is opened"
        ) from error
