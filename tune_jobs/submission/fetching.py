"""Fetch a run folder from a cluster: copy it if this machine can read it, else send it through the Jobs server."""

import base64
import binascii
import gzip
import hashlib
import io
import secrets
import shutil
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tune_jobs.errors import ClusterError, RunFolderError, SubmissionError
from tune_jobs.files import exists
from tune_jobs.holdout.rows import ROWS, mark_copy
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import scan_journal
from tune_jobs.submission.client import OURS, JobsServer
from tune_jobs.submission.progress import SubmissionState, complaint_in
from tune_jobs.submission.sending import BEGIN, END, files_worth_sending
from tune_jobs.text import quoted

SECONDS_TO_SEND = 600.0
"""Seconds within which the cluster must send a run."""
SECONDS_TO_STOP = 20.0
"""Seconds that a process that sends a run has to end after it was told to stop."""
SECONDS_TO_BE_NOTICED = 3.0
"""Seconds until Ray, which checks each second, has seen a submission end. Removed earlier, it is listed as failed."""


def fetch_seen(folder: RunFolder, output: Path) -> Path:
    """Copy a run that this machine can read into the folder `output`; return its path.

    Raises:
        OtherVersion: Another version of tune-jobs wrote to the run.
        RunFolderError: There is a folder of that name, or it cannot be written to.
        DamagedRun: The journal or the job is damaged.
    """
    files = files_worth_sending(folder)  # reads the journal, so it refuses one of another version
    with _new_folder(output, folder.name) as target:
        for path in files:
            copy = target / path.relative_to(folder.path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # a run in progress removes files
                shutil.copy2(path, copy)
        mark_copy(RunFolder(target), folder.address)
    return output / folder.name


def fetch_through(server: JobsServer, run: str, output: Path) -> Path:
    """Copy the run folder that the cluster has at `run` into the folder `output`; return its path.

    Raises:
        OtherVersion: Another version of tune-jobs wrote to the run; nothing of it stays here.
        RunFolderError: There is a folder of that name, or it cannot be written to.
        ClusterError: The run cannot be sent.
    """
    name = run.rstrip("/").rpartition("/")[2]
    with _new_folder(output, name) as target:
        content = unpack(_run_sender(server, run), run)
        _extract(content, run, target)
        scan_journal(RunFolder(target).journal, shown_as=run)
        mark_copy(RunFolder(target), run)
    return output / name


def unpack(log: str, run: str) -> bytes:
    """Return the archive that `log` holds.

    Raises:
        ClusterError: The archive is not whole.
    """
    rest = log.partition(BEGIN)[2]
    first, _, rest = rest.partition("\n")
    pieces, end, _ = rest.partition(END)
    with suppress(binascii.Error, ValueError):
        size, digest = first.split()
        content = b"".join(base64.b64decode(line) for line in pieces.split()) if end else b""
        if len(content) == int(size) and hashlib.sha256(content).hexdigest() == digest:
            return content
    raise ClusterError(
        f"{run}: did not arrive whole; try again, or copy the folder from a machine of the cluster, as with "
        f"`rsync -a --exclude {ROWS} --exclude submitted HEAD:{run} .`"
    )


def _extract(content: bytes, run: str, target: Path) -> None:
    """Extract an archive of regular files into the folder `target`.

    Raises:
        ClusterError: It cannot be read, lacks a journal, or has links, devices, or paths out of the folder.
        OSError: The folder cannot be written to.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            for member in archive:
                if not (member.isreg() or member.isdir()):
                    raise tarfile.ExtractError(f"{member.name!r} is no regular file")
                if member.name.startswith("/") or ".." in member.name.split("/"):
                    raise tarfile.ExtractError(f"{member.name!r} leads out of the folder")
                archive.extract(member, target, filter="data")
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile, ValueError) as error:
        raise ClusterError(
            f"{run}: the cluster sent no archive of a run ({' '.join(str(error).split())}), so nothing was kept. Copy "
            "the folder from a machine that you trust"
        ) from error
    if not RunFolder(target).is_run:
        raise ClusterError(f"{run}: the cluster sent an archive without a journal, so nothing was kept")


def _run_sender(server: JobsServer, run: str) -> str:
    """Start a submission that prints the run; return its log."""
    submission_id = f"fetch-{secrets.token_hex(6)}"
    command = f"tune_jobs.submission.sending {quoted(run)}"
    deadline = time.monotonic() + SECONDS_TO_SEND
    try:
        server.submit(command, submission_id, metadata={OURS: "fetch"})
        while not (sent := server.submission(submission_id)).over:
            if time.monotonic() > deadline:
                raise ClusterError(f"{run}: the cluster did not send it within {SECONDS_TO_SEND:g} s")
            time.sleep(0.5)
        log = server.log(submission_id)
    finally:
        _end(server, submission_id)
    if sent.state is not SubmissionState.DONE:
        raise ClusterError(f"the cluster cannot send the run: {complaint_in(log)}")
    return log


def _end(server: JobsServer, submission_id: str) -> None:
    """Stop a submission if it is not over, and remove it from the cluster."""
    deadline = time.monotonic() + SECONDS_TO_STOP
    with suppress(ClusterError, SubmissionError):  # the cluster is away, or never had it
        if not server.submission(submission_id).over:
            server.stop(submission_id)
        while not server.submission(submission_id).over and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(SECONDS_TO_BE_NOTICED)
        server.forget(submission_id)


@contextmanager
def _new_folder(output: Path, name: str) -> Iterator[Path]:
    """Make an empty folder that becomes `output/name` at the end. If the block fails, nothing of it stays."""
    target = output / name
    if exists(target):
        raise RunFolderError(f"{target}: exists already; give another folder with `--output FOLDER`")
    made: Path | None = None
    try:
        output.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=output))
        yield made
        made.chmod(0o755)
        made.rename(target)
    except OSError as error:
        raise RunFolderError(
            f"{output}: cannot be written to ({error.strerror}); give another, with `--output FOLDER`"
        ) from error
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)
