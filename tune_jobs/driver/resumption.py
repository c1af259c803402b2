"""Answer from the journal whether a run can be resumed, as which job, and whether anything is left to do."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from tune_jobs.driver.preparation import data_fingerprints, recorded_versions, this_process
from tune_jobs.errors import JobError, RunFolderError
from tune_jobs.files import replacing
from tune_jobs.holdout import rows as holdout
from tune_jobs.job.file import apply_overrides
from tune_jobs.job.fingerprint import check_changeable
from tune_jobs.job.job import Job
from tune_jobs.job.user_modules import user_modules
from tune_jobs.record.codes import Ending
from tune_jobs.record.events import (
    Event,
    JobChanged,
    RunEnded,
    RunResumed,
    RunStarted,
    TrialCreated,
    in_force,
    seconds_spent,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal
from tune_jobs.record.reading import job_files, job_of
from tune_jobs.search_spaces import Problem
from tune_jobs.submission.handover import keep_modules
from tune_jobs.text import count_text

if TYPE_CHECKING:
    from tune_jobs.trainers.data import PreparedData


def job_to_resume(folder: RunFolder, events: Sequence[Event], overrides: Sequence[tuple[str, Any]]) -> Job:
    """Return the job of the run with the overrides.

    Raises:
        DamagedRun: The job file of the run cannot be read, or was changed since the run began.
        JobError: An override is wrong, or its key cannot change.
    """
    job = job_of(folder, events)
    if not overrides:
        return job
    check_changeable(overrides, folder.name)
    changed = Job.from_mapping(apply_overrides(job.to_mapping(), overrides), job.folder)
    created = number_created(events)
    if changed.trials < created:
        problem = (
            f"given {changed.search.trials}; valid: {created} or more, because the run has that many trials"
        )
        raise JobError([Problem("search.trials", problem)], name=f"resume {folder.name}")
    return changed


def is_over(job: Job, events: Iterable[Event]) -> bool:
    """Return whether the run has ended, with nothing left to do for `job`."""
    events = list(events)
    endings = [event.ending for event in in_force(events) if isinstance(event, RunEnded)]
    if endings == [Ending.ALL_TRIALS]:
        return number_created(events) >= job.trials
    if endings == [Ending.TIME_LIMIT]:
        return job.limits.minutes is not None and seconds_spent(events) >= 60 * job.limits.minutes
    return False


def number_created(events: Iterable[Event]) -> int:
    """Return how many trials were created."""
    return sum(isinstance(event, TrialCreated) for event in events)


def check_data(folder: RunFolder, events: Sequence[Event], prepared: "PreparedData | None") -> None:
    """Check that rows, split and holdout are those that the run began with, if tune-jobs reads the data.

    Raises:
        RunFolderError: They differ.
        DamagedRun: The sealed rows are missing or damaged.
    """
    if prepared is None:
        return
    started = next(event for event in events if isinstance(event, RunStarted))
    now = data_fingerprints(prepared)
    for name, what in (("data", "the data differ"), ("split", "the division of the rows differs")):
        if started.fingerprints[name] != now[name]:
            raise RunFolderError(
                f"{folder.path}: {what} from the start of the run (fingerprint {now[name][:12]}, then "
                f"{started.fingerprints[name][:12]}), so new trials could not be compared with the earlier ones; "
                "restore the original data, or start a new run"
            )
    holdout.check_sealed(folder, prepared.test, started)


def run_resumed(job: Job, journal: Journal) -> RunResumed:
    """Return the event that a resumed run begins with."""
    versions = recorded_versions(job)
    return RunResumed(
        trials=job.trials,
        versions=versions,
        notices=(*_cut_notices(journal), *_version_notices(journal.past, versions), *job.notices()),
        driver=this_process(),
    )


def keep_job(job: Job, folder: RunFolder, journal: Journal, overrides: Sequence[tuple[str, Any]]) -> None:
    """Write the job as it is run from now on, with its own modules if it was submitted; the journal has it first."""
    kept = job if job.folder == folder.submitted else job.with_absolute_files()
    text, before = kept.to_yaml().encode(), folder.job.read_bytes()
    if text != before:
        if (current := sha256(before).hexdigest()) != job_files(journal.past)[-1]:
            # a driver died before it wrote its change
            journal.append_to_past([JobChanged(job_file=current)])
        journal.append_to_past([JobChanged(job_file=sha256(text).hexdigest(), changes=dict(overrides))])
        with replacing(folder.job) as file:
            file.write(text)
    if job.folder == folder.submitted:
        keep_modules(folder, user_modules(job))


def _cut_notices(journal: Journal) -> list[str]:
    if not journal.cut:
        return []
    return [
        f"the last line of the journal was incomplete ({count_text(journal.cut, 'byte')}) and was removed; the run "
        "repeats what that line recorded"
    ]


def _version_notices(events: Sequence[Event], versions: Mapping[str, str]) -> list[str]:
    before = [event.versions for event in events if isinstance(event, RunStarted | RunResumed)][-1]
    changed = [
        f"{name} {before[name]} is now {version}"
        for name, version in versions.items()
        if before.get(name, version) != version
    ]
    if not changed:
        return []
    return [f"{', '.join(changed)}: the last digits of losses may differ from those of earlier trials"]
