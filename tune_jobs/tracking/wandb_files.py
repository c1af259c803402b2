"""The files of W&B on the disk: a folder for each W&B run, and a mark beside the data of those that are uploaded."""

import re
import shutil
from pathlib import Path

from tune_jobs.text import quoted

_FOLDER = re.compile(r"(?:offline-)?run-\d{8}_\d{6}-(?P<run_id>.+)")
_LONGEST_ID = 64
"""Largest number of characters of an id."""


def wandb_run_id(run_name: str, part: str) -> str:
    """Return the id of a W&B run. It holds the name of the run folder, since ids are unique in a project.

    Args:
        run_name: Name of the run folder, whose last letters are random.
        part: The part of the run, such as a trial's id or `summary`.
    """
    return f"{run_name}-{part}"[-_LONGEST_ID:].lstrip("-_.")


def data_files(folder: Path) -> dict[Path, Path]:
    """Return the folders of W&B runs in `folder`, the `wandb` of a run, each with its file of records."""
    return {file.parent: file for file in sorted(folder.glob("*run-*/run-*.wandb"))}


def synced_mark(file: Path) -> Path:
    """Return the mark that W&B makes once it has uploaded `file`; it skips files that have one."""
    return file.with_name(f"{file.name}.synced")


def files_to_upload(folder: Path) -> list[Path]:
    """Return the files of W&B runs in `folder` that have not been uploaded."""
    return [file for file in data_files(folder).values() if not synced_mark(file).exists()]


def remove_run(folder: Path, run_id: str) -> None:
    """Remove the folder of a W&B run, which can then be written again."""
    for path in folder.glob("*run-*"):
        named = _FOLDER.fullmatch(path.name)
        if named and named["run_id"] == run_id:
            shutil.rmtree(path)


def upload_command(folder: Path) -> str:
    """Return the command that uploads everything in `folder` that has not been uploaded."""
    return f"wandb sync {quoted(folder)}"


def upload_line(folder: Path) -> str | None:
    """Return the message about W&B runs that have not been uploaded; None if there are none."""
    count = len(files_to_upload(folder))
    if not count:
        return None
    runs = "1 W&B run is" if count == 1 else f"{count} W&B runs are"
    return (
        f"W&B: {runs} on this disk alone; `{upload_command(folder)}` uploads {'it' if count == 1 else 'them'}"
    )
