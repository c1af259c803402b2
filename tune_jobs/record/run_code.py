"""The user's code of a run: its copies in the run folder, and whether the code in use is still the same."""

from collections.abc import Iterable
from pathlib import Path

from tune_jobs.errors import RunFolderError
from tune_jobs.job.code_files import are_copies_sound, code_now, recorded_code
from tune_jobs.job.job import Job
from tune_jobs.record.events import Event, RunStarted
from tune_jobs.record.folder import RunFolder


def check_code(folder: RunFolder, events: Iterable[Event], job: Job) -> Path:
    """Return the folder from which the code of the run can be imported: the job's, or that of the copies.

    The copies are used if the job's folder has none of the files any more, such as on another machine.

    Args:
        folder: The folder of the run.
        events: The events of its journal.
        job: The job of the run.

    Raises:
        RunFolderError: A file has changed since the run began, or some are missing.
    """
    started = next(event for event in events if isinstance(event, RunStarted))
    recorded = recorded_code(started.fingerprints)
    now = code_now(job, recorded)
    if now.none and are_copies_sound(recorded, folder.path):
        return folder.modules
    if not now.changed and not now.missing:
        return job.folder
    said = [f"{file} was changed" for file in now.changed.values()]
    said += [f"{Path(key).relative_to(folder.modules.name)} is missing" for key in now.missing]
    more = f", and {len(said) - 3} more" if len(said) > 3 else ""
    first = next(iter([*now.changed, *now.missing]))
    raise RunFolderError(
        f"{folder.path}: the code is no longer that of the run: {', '.join(said[:3])}{more}. A model of other code is "
        f"not the one that was trained. Restore the code, of which {folder.path / first} is a copy, or start a new run"
    )
