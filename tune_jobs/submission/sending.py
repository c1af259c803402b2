"""Send a run folder through a log: which of its files are sent, and how.

The module is also a program that runs on the cluster, `python -m tune_jobs.submission.sending RUN`. It prints the
pieces that `fetching` puts together again.
"""

import base64
import hashlib
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from tune_jobs.checkpoints.opening import checkpoint_files
from tune_jobs.errors import SubmissionError, TuneJobsError
from tune_jobs.holdout import rows as holdout
from tune_jobs.record.folder import RunFolder
from tune_jobs.remote.working_copy import HOLDS_ROWS, complete, open_folder
from tune_jobs.results import open_run
from tune_jobs.selection.rule import rank
from tune_jobs.text import COMPLAINT

MOST_BYTES = 64 * 1024**2
"""Largest size in bytes, compressed: a larger run would be slow through a log."""
BEGIN = "archive: "
"""Start of the line before the archive, which its facts follow."""
END = "end of the archive"
"""The line after the archive."""
_PIECE = 3 * 16384
"""Bytes of the archive in one line of the log."""


def whole_run(run: str | Path) -> RunFolder:
    """Return the folder of a run with the files that are sent; for a run in an object store, this machine's copy."""
    folder = open_folder(run)
    complete(folder, without=HOLDS_ROWS)
    for candidate in rank(open_run(folder.path).record)[:1]:
        checkpoint_files(folder, candidate.trial.trial_id, candidate.trial.configuration)
    return folder


def files_worth_sending(folder: RunFolder) -> list[Path]:
    """Return the files of a run that a copy has.

    Left out are checkpoints of trials other than the best one, the sealed rows, what came with a submission, which
    may hold test rows too, and the files of Ray.
    """
    best = rank(open_run(folder.path).record)[:1]
    kept = {folder.checkpoints / candidate.trial.trial_id for candidate in best}
    return [
        path
        for path in sorted(folder.path.rglob("*"))
        if path.is_file()
        and not path.name.endswith(".tmp")
        and not path.is_relative_to(folder.ray)
        and not path.is_relative_to(folder.submitted)
        and path != folder.holdout / holdout.ROWS  # the holdout is opened once, so in one place
        and (not path.is_relative_to(folder.checkpoints) or path.parent in kept)
    ]


def send(run: str, most: int = MOST_BYTES) -> Iterator[str]:
    """Yield the lines that the archive of the run at `run` is printed as.

    Raises:
        SubmissionError: The archive has more than `most` bytes, compressed.
    """
    folder = whole_run(run)
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w:gz", dereference=True) as archive:  # links are refused
            for path in files_worth_sending(folder):
                with suppress(FileNotFoundError):  # a run in progress removes files
                    archive.add(path, path.relative_to(folder.path).as_posix(), recursive=False)
        size = file.tell()
        if size > most:
            raise SubmissionError(
                f"{run}: {size // 10**6} MB compressed, and at most {most // 10**6} MB are fetched "
                f"through the Jobs server; copy the folder from a machine of the cluster, as with "
                f"`rsync -a --exclude {holdout.ROWS} --exclude submitted HEAD:{run} .`"
            )
        yield f"{BEGIN}{size} {_digest(file)}"
        file.seek(0)
        while piece := file.read(_PIECE):
            yield base64.b64encode(piece).decode()
        yield END


def _digest(file: IO[bytes]) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # a temporary file is one


def main(run: str) -> int:
    """Print the archive, or why it cannot be sent."""
    try:
        for line in send(run):
            print(line)  # noqa: T201 (what the program is for)
    except (TuneJobsError, OSError) as error:
        print(f"{COMPLAINT}{error}")  # noqa: T201
        return error.exit_code if isinstance(error, TuneJobsError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
