"""Messages between the machine that submits a run and the run's driver."""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from rich.console import Console

from tune_jobs.errors import ClusterError
from tune_jobs.job.job import Job
from tune_jobs.job.user_modules import UserModule, copy_modules
from tune_jobs.record.events import Event, RunResumed, RunStarted
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Listener
from tune_jobs.remote.working_copy import complete
from tune_jobs.versions import differences, versions_here

VARIABLE = "TUNE_JOBS_SUBMISSION"
"""Variable in the driver's environment that holds the handover."""
_BEGUN = "begun: "
_SIDES = ("where the job was submitted", "on the cluster")
"""Words for the two sides whose versions are compared."""


@dataclass(frozen=True)
class Handover:
    """Facts that travel with a submission, as text."""

    run: str
    """Name of the run folder."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions on the submitting machine; empty if they do not matter, as for a resumed run."""

    @classmethod
    def from_environment(cls) -> Self | None:
        """Return the handover of this process; None if its run was not submitted."""
        text = os.environ.get(VARIABLE)
        return None if text is None else cls(**json.loads(text))

    def to_environment(self) -> dict[str, str]:
        """Return the environment variable that holds it."""
        return {VARIABLE: json.dumps(asdict(self))}

    def check_versions(self) -> None:
        """Check that this machine computes the same as the submitting one.

        Raises:
            ClusterError: The versions differ.
        """
        if differing := differences(self.versions, versions_here(self.versions), _SIDES, python_numbers=2):
            raise ClusterError(
                f"the versions differ: {differing}; install the same on both sides, with the project's "
                "constraints.txt, and submit the job again"
            )

    def enter(self, folder: RunFolder) -> None:
        """Change to the folder that was submitted with the run, as at its start: a data function may rely on it.

        Raises:
            RunFolderError: The object store that has the run cannot be reached.
        """
        complete(folder)
        if folder.submitted.is_dir():
            os.chdir(folder.submitted)

    def make_announcer(self, console: Console) -> Listener:
        """Return a listener that prints that the run has started, for the command that waits for it."""

        def tell(event: Event) -> None:
            if isinstance(event, RunStarted | RunResumed):
                console.print(f"{_BEGUN}{self.run}", markup=False)

        return tell


def has_begun(log: str) -> bool:
    """Return whether the driver that wrote `log` has started its run."""
    return any(line.startswith(_BEGUN) for line in log.splitlines())


def keep_submitted(job_folder: Path, folder: RunFolder, modules: Iterable[UserModule]) -> None:
    """Copy what came with the job to the run folder. Resuming then needs nothing from the submitting machine.

    The files may hold test rows, so only their owner can read them, here and where they arrived. The `modules` are
    kept a second time, without the rest, for trials and for readers of the run.
    """
    job_folder.chmod(0o700)
    folder.submitted.mkdir(mode=0o700)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(job_folder, folder.submitted, ignore=ignored, dirs_exist_ok=True)
    keep_modules(folder, modules)


def keep_modules(folder: RunFolder, modules: Iterable[UserModule]) -> None:
    """Keep the modules of a submitted run. Resuming does so again, since a copy may be incomplete."""
    folder.modules.mkdir(exist_ok=True)
    copy_modules(modules, folder.modules)


def job_of_submission(job: Job, folder: RunFolder) -> Job:
    """Return the same job, with the files that were kept in the run folder."""
    return Job.from_mapping(job.to_mapping(), folder.submitted)
