"""The job files of runs that tests make: a journal has the SHA-256 of the file of its job."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

from tune_jobs.record.events import Event, JobChanged, RunStarted
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal
from tune_jobs.record.reading import JOB_FILE


def with_job_file(folder: RunFolder, events: Iterable[Event]) -> list[Event]:
    """Return the events of a run in `folder`, whose start has the fingerprint of its job file."""
    known = {JOB_FILE: sha256(folder.job.read_bytes()).hexdigest()}
    return [
        replace(event, fingerprints={**event.fingerprints, **known})
        if isinstance(event, RunStarted)
        else event
        for event in events
    ]


def change_job(folder: RunFolder, text: str, changes: Mapping[str, Any] | None = None) -> None:
    """Change the job file as a resumption with overrides does."""
    with Journal(folder.journal) as journal:
        job_file = sha256(text.encode()).hexdigest()
        time = journal.past[-1].time  # and not the present, which would be in the pages of reports
        journal.append_to_past([JobChanged(job_file=job_file, changes=changes or {}, time=time)])
    folder.job.write_text(text)
