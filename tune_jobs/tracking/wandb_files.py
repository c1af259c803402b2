"""What W&B leaves on the disk: one folder for each W&B run, and a mark beside the data of those that are uploaded."""

import re
import shlex
import shutil
from pathlib import Path

_FOLDER = re.compile(r"(?:offline-)?run-\d{8}_\d{6}-(?P<run_id>.+)")
_LONGEST_ID = 64


def wandb_run_id(run_name: str, part: str) -> str:
    """Id of a W&B run; an id is used once in a project, and trials' ids recur, so that it names the run folder.

    Args:
        run_name: of the run folder; its end is unlike that of any other.
        part: such as a trial's id, or `summary`.
    """
    return f"{run_name}-{part}"[-_LONGEST_ID:].lstrip("-_.")


def data_files(folder: Path) -> dict[Path, Path]:
    """Folders of W&B runs in `folder`, the `wandb` of a run, each with its file of records."""
    return {file.parent: file for file in sorted(folder.glob("*run-*/run-*.wandb"))}


def synced_mark(file: Path) -> Path:
    """W&B makes this file once it has uploaded `file`, and passes over what has one."""
    return file.with_name(f"{file.name}.synced")


def not_uploaded(folder: Path) -> list[Path]:
    """Files of the W&B runs in `folder` that are on this disk alone."""
    return [file for file in data_files(folder).values() if not synced_mark(file).exists()]


def remove_run(folder: Path, run_id: str) -> None:
    """Removes what was written of a W&B run, so that it can be written anew."""
    for path in folder.glob("*run-*"):
        named = _FOLDER.fullmatch(path.name)
        if named and named["run_id"] == run_id:
            shutil.rmtree(path)


def upload_command(folder: Path) -> str:
    """Uploads everything in `folder` that has not been yet."""
    return f"wandb sync {shlex.quote(str(folder))}"


def upload_line(folder: Path) -> str | None:
    """What a user is told of W&B runs that are on this disk alone; None if there are none."""
    count = len(not_uploaded(folder))
    if not count:
        return None
    runs = "1 W&B run is" if count == 1 else f"{count} W&B runs are"
    return (
        f"W&B: {runs} on this disk alone; `{upload_command(folder)}` uploads {'it' if count == 1 else 'them'}"
    )
