"""The run folder: one object names every path of a run, and makes or opens the folder."""

import os
import re
import secrets
import shutil
import string
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from tune_jobs.errors import RunFolderError
from tune_jobs.files import exists, probe_writable, reason_of
from tune_jobs.location import location_of
from tune_jobs.text import quoted

CHECKPOINT_SUFFIX = ".pt"
"""Suffix of the names of all checkpoints."""
_RUN = re.compile(r".+-\d{8}T\d{6}Z-[a-z]{4}")
"""Names that `new_run_name` makes."""


@dataclass(frozen=True)
class RunFolder:
    """The folder that one run leaves."""

    path: Path

    @classmethod
    def create(cls, storage: Path, name: str) -> Self:
        """Make a new folder `<name>-<UTC time>-<4 letters>` in `storage`, which is made if it is missing.

        Raises:
            RunFolderError: The folder cannot be made or written to; nothing of it stays.
        """
        with cls.making(storage, name) as folder:
            return folder

    @classmethod
    @contextmanager
    def making(cls, storage: Path, name: str, run: str | None = None) -> Iterator[Self]:
        """Make a new folder that the block fills; if the block fails, nothing of the folder stays.

        The content may be large, so the disk is probed before and after.

        Args:
            storage: The folder in which the new one is made; it is made if it is missing.
            name: The name of the job.
            run: Name of the folder; None makes a new name.

        Raises:
            RunFolderError: The folder exists, or cannot be made or written to. An `OSError` of the block
                becomes this error too.
        """
        storage = storage.resolve()
        try:
            str(storage).encode()
        except UnicodeEncodeError as error:
            raise RunFolderError(
                f"storage: {storage} has a name that is not in UTF-8, which Ray cannot write to; give another folder, "
                "with `--storage FOLDER`"
            ) from error
        folder = cls(storage / (run or new_run_name(name)))
        if exists(folder.path):
            raise RunFolderError(f"{folder.path}: exists already; `tune-jobs resume RUN` continues a run")
        made: list[Path] = []
        try:
            made = [path for path in (folder.path, storage, *storage.parents) if not path.exists()]
            for path in (folder.path, folder.journal.parent, folder.checkpoints, folder.ray):
                path.mkdir(parents=True)
            folder.holdout.mkdir(mode=0o700)
            probe_writable(folder.path)
            yield folder
            probe_writable(folder.path)
        except BaseException as error:
            reason = (
                reason_of(error, storage) if isinstance(error, OSError) else ""
            )  # before the disk is tidied up
            shutil.rmtree(folder.path, ignore_errors=True)
            for path in made:
                with suppress(OSError):  # another run may use it by now
                    path.rmdir()
            if not isinstance(error, OSError):
                raise
            raise RunFolderError(
                f"storage: cannot write to {storage} ({reason}); "
                "give a folder that you may write to, with `--storage FOLDER`"
            ) from error

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open the run folder at `path`. For the address of a run in a store see `remote.working_copy.open_folder`.

        Raises:
            RunFolderError: There is no folder, or it is not that of a run.
        """
        folder = cls(Path(path).resolve())
        if exists(folder.path) and folder.path.is_file():
            raise RunFolderError(
                f"{path}: a file, not a run folder; `tune-jobs list` shows the runs of a folder"
            )
        if not exists(folder.path) or not folder.path.is_dir():
            submission = (
                f", and `tune-jobs status {quoted(path)}` where the folder of a submission is"
                if _RUN.fullmatch(str(path))
                else ""
            )
            raise RunFolderError(
                f"{path}: no such folder; `tune-jobs list` shows the runs of a folder{submission}"
            )
        if not folder.is_run:
            raise RunFolderError(
                f"{path}: not a run folder (it has no journal); `tune-jobs list {quoted(path)}` shows the runs in it"
            )
        return folder

    @property
    def address(self) -> str:
        """Return the place of the run: this folder, or `s3://bucket/prefix/run` if this folder is a copy."""
        return str(location_of(self.path) or self.path)

    @property
    def is_run(self) -> bool:
        return self.journal.is_file()

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def job(self) -> Path:
        return self.path / "job.yaml"

    @property
    def journal(self) -> Path:
        return self.path / "journal" / "events.jsonl"

    @property
    def trials(self) -> Path:
        return self.path / "trials.parquet"

    @property
    def epochs(self) -> Path:
        return self.path / "epochs.parquet"

    @property
    def selection(self) -> Path:
        return self.path / "selection.json"

    @property
    def data_info(self) -> Path:
        return self.path / "data.json"

    @property
    def files(self) -> Path:
        """Return the folder with a folder of own files of each trial."""
        return self.path / "files"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def output(self) -> Path:
        return self.path / "output"

    @property
    def study(self) -> Path:
        return self.path / "study.log"

    @property
    def holdout(self) -> Path:
        return self.path / "holdout"

    @property
    def wandb(self) -> Path:
        return self.path / "wandb"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def submitted(self) -> Path:
        """Return the folder of a submitted run's job, data file and modules. Only the driver may read it."""
        return self.path / "submitted"

    @property
    def modules(self) -> Path:
        """Return the folder of copies of the user's modules. Trials of a submitted run import them from here."""
        return self.path / "modules"

    def home(self, job_folder: Path) -> Path:
        """Return the folder of the job's files, given the one that the run began in.

        For a submitted run it is the folder of what was submitted, or that of its modules alone: copies of the run, and
        users other than its owner, have no more.
        """
        if job_folder.name != self.submitted.name or not _RUN.fullmatch(job_folder.parent.name):
            return job_folder
        return self.submitted if os.access(self.submitted, os.R_OK | os.X_OK) else self.modules

    @property
    def ray(self) -> Path:
        return self.path / "ray"

    def relative(self, path: Path) -> str:
        """Return `path` as the run's own files hold it: relative, because the folder may be moved."""
        return path.resolve().relative_to(self.path).as_posix()


def new_run_name(name: str) -> str:
    """Make a name for a run of the job `name`: `<name>-<UTC time>-<4 letters>`."""
    time = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    letters = "".join(secrets.choice(string.ascii_lowercase) for _ in range(4))
    return f"{name}-{time}-{letters}"
