"""What the driver of a submitted run is told by the machine that has submitted it, and what it says back."""

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
"""Of the driver's environment."""
_BEGUN = "begun: "
_SIDES = ("where the job was submitted", "on the cluster")


@dataclass(frozen=True)
class Handover:
    """Travels with a submission, as text."""

    run: str
    """Name of the run folder."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of the machine that has submitted the run; empty where they do not matter, as to a run that is resumed."""

    @classmethod
    def from_environment(cls) -> Self | None:
        """What this process was told; None where its run was not submitted."""
        text = os.environ.get(VARIABLE)
        return None if text is None else cls(**json.loads(text))

    def to_environment(self) -> dict[str, str]:
        """The variable that tells it."""
        return {VARIABLE: json.dumps(asdict(self))}

    def check_versions(self) -> None:
        """Makes sure that this machine computes what the one that has submitted the run would.

        Raises:
            ClusterError: it does not.
        """
        if differing := differences(self.versions, versions_here(), _SIDES, python_numbers=2):
            raise ClusterError(
                f"the versions differ: {differing}; install the same on both sides, with the project's "
                "constraints.txt, and submit the job anew"
            )

    def enter(self, folder: RunFolder) -> None:
        """Makes what came with the run the current folder, as at its beginning: a data function may rely on it.

        Raises:
            RunFolderError: the object store that the run is kept in cannot be asked for it.
        """
        complete(folder)
        if folder.submitted.is_dir():
            os.chdir(folder.submitted)

    def announcing(self, console: Console) -> Listener:
        """Tells whoever waits for it that the run has been taken up."""

        def tell(event: Event) -> None:
            if isinstance(event, RunStarted | RunResumed):
                console.print(f"{_BEGUN}{self.run}", markup=False)

        return tell


def has_begun(log: str) -> bool:
    """Has the driver that wrote `log` taken its run up?"""
    return any(line.startswith(_BEGUN) for line in log.splitlines())


def keep_submitted(job_folder: Path, folder: RunFolder, modules: Iterable[UserModule]) -> None:
    """Keeps in the run folder what came with the job, so that a run can be resumed without who submitted it.

    All of it may hold test rows, and is for its owner alone, here and where it came to. The `modules` are kept once
    more, without the rest, for trials and for who reads the run.
    """
    job_folder.chmod(0o700)
    folder.submitted.mkdir(mode=0o700)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(job_folder, folder.submitted, ignore=ignored, dirs_exist_ok=True)
    keep_modules(folder, modules)


def keep_modules(folder: RunFolder, modules: Iterable[UserModule]) -> None:
    """Keeps the modules of a submitted run; also when it is resumed, since they may not have come along whole."""
    folder.modules.mkdir(exist_ok=True)
    copy_modules(modules, folder.modules)


def job_of_submission(job: Job, folder: RunFolder) -> Job:
    """The same job, from what was kept of it in the run folder."""
    return Job.from_mapping(job.to_mapping(), folder.submitted)
