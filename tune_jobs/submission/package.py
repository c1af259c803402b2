"""Pack what is sent to a cluster: the job, its data file and the user's modules, and nothing else.

No environment variable and no key is sent. A file that the cluster already has, such as data on a shared disk, is
named by its absolute path and stays there.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune_jobs.errors import JobError
from tune_jobs.job.checks import check_surroundings
from tune_jobs.job.file import apply_overrides, read_yaml
from tune_jobs.job.job import Job
from tune_jobs.job.user_modules import copy_modules, user_modules
from tune_jobs.search_spaces import Problem

MOST_BYTES = 100 * 1024**2
"""Size in bytes of the largest package that Ray's Jobs server takes."""
JOB_FILE = "job.yaml"
_DATA = "data"
_OUTSIDE = "://"


@dataclass(frozen=True)
class ToSubmit:
    """A job that was checked as far as this machine can check it."""

    job: Job
    data_here: bool
    """False if only the cluster has the data file."""

    @property
    def data_files(self) -> dict[str, str]:
        """Return the files to send, by the keys that name them; those with absolute paths stay where they are."""
        return {key: path for key, path in self.job.facts.files.items() if not Path(path).is_absolute()}


def job_to_submit(path: Path, overrides: Sequence[tuple[str, Any]]) -> ToSubmit:
    """Read the job in the file at `path`, for a cluster; see `Job.from_file`.

    A data file with an absolute path is one of the cluster. This machine need not have it.

    Raises:
        JobError: The job has problems, such as a `storage` that a cluster cannot share; the error lists all of them.
    """
    sections = apply_overrides(read_yaml(path), overrides)
    folder = path.parent.resolve()
    try:
        job = Job.from_mapping(sections, folder)
    except JobError as error:
        raise JobError(error.problems, name=str(path)) from error
    elsewhere = {
        key.partition(".")[0]
        for key, file in job.facts.files.items()
        if Path(file).is_absolute() and not Path(file).is_file()
    }
    checked = {name: own for name, own in job.own_sections.items() if name not in elsewhere}
    facts = job.kind_class.facts(checked)
    problems = [
        *check_surroundings(facts, job.tracking, folder, job.search.space.parameters),
        *_storage(job.storage),
    ]
    if problems:
        raise JobError(problems, name=str(path))
    return ToSubmit(job, data_here=not elsewhere)


def make_package(submitted: ToSubmit, folder: Path, include: Sequence[str] = ()) -> int:
    """Fill `folder` with what is sent; return its size in bytes.

    Args:
        submitted: The job.
        folder: An empty folder.
        include: Further files and folders, relative to the job's folder, which keep their names.

    Raises:
        JobError: A file is missing, or the package is too large to be sent.
    """
    job = submitted.job
    copy_modules(user_modules(job), folder)
    for name in include:
        _include(job.folder, name, folder)
    sent = {}
    for key, path in submitted.data_files.items():
        file = job.folder / path
        _check_size(file.stat().st_size, file, job)
        inside = Path(os.path.normpath(path))
        place = inside if ".." not in inside.parts else Path(_DATA, file.name)
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / place)
        sent[key] = place.as_posix()
    job = job.with_files(sent)
    (folder / JOB_FILE).write_text(job.to_yaml(), encoding="utf-8")
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    size = sum(sizes.values())
    _check_size(size, max(sizes, key=lambda path: sizes[path]), job)
    return size


def _storage(storage: str) -> list[Problem]:
    if _OUTSIDE in storage or Path(storage).is_absolute():
        return []
    return [
        Problem(
            "storage",
            f"given {storage!r}, which is relative to this machine's current folder; a cluster needs a place that all "
            "of its nodes share: `--storage /shared/runs` or `--storage s3://bucket/runs`",
        )
    ]


def _check_size(size: int, largest: Path, job: Job) -> None:
    if size <= MOST_BYTES:
        return
    key = next((key for key, path in job.facts.files.items() if Path(path).name == largest.name), None)
    if key is not None:
        way = (
            f"put {largest.name} on storage that the cluster shares, and name it by its absolute path there: "
            f"`--{key} /shared/{largest.name}`"
        )
    else:
        way = "send less, and put large files on storage that the cluster shares"
    raise JobError(
        [
            Problem(
                str(largest.name),
                f"{size / 1e6:.0f} MB would be sent, and a cluster takes {MOST_BYTES / 1e6:.0f} MB at most; {way}",
            )
        ],
        name=f"submit {job.name}",
    )


def _include(home: Path, name: str, folder: Path) -> None:
    path = Path(os.path.normpath(home / name))
    if not path.is_relative_to(home) or path == home or not path.exists():
        raise JobError(
            [Problem("--include", f"given {name!r}; valid: a file or folder in {home}")],
            name="the command line",
        )
    target = folder / path.relative_to(home)
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(path, target, ignore=ignored, dirs_exist_ok=True)
    else:
        shutil.copyfile(path, target)
