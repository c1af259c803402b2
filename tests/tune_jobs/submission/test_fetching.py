"""A run folder that is sent as text arrives unchanged, without the checkpoints of losers, or not at all."""

import base64
import gzip
import hashlib
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.tune_jobs.conftest import events_of
from tests.tune_jobs.holdout.lines import unseal
from tune_jobs import open_run
from tune_jobs.cli.main import main as command_line
from tune_jobs.errors import ClusterError, RunFolderError, SubmissionError
from tune_jobs.holdout import rows as holdout
from tune_jobs.holdout.ledger import read_ledger
from tune_jobs.record.codes import Ending, Status
from tune_jobs.record.events import RunStarted
from tune_jobs.record.folder import RunFolder
from tune_jobs.submission import fetching
from tune_jobs.submission.client import JobsServer
from tune_jobs.submission.fetching import fetch_seen, fetch_through, unpack
from tune_jobs.submission.progress import SubmissionState
from tune_jobs.submission.sending import BEGIN, END, main, send
from tune_jobs.trainers.data import Rows

TRIALS = [{"losses": [3.0]}, {"losses": [1.0]}, {"losses": [2.0]}, {"status": Status.FAILED}]
BEST = "0001"


@pytest.fixture
def run(make_run: Callable[..., RunFolder]) -> RunFolder:
    folder = make_run(TRIALS)
    for number in range(3):
        file = folder.checkpoints / f"{number:04d}" / "epoch-000001.pt"
        file.parent.mkdir()
        file.write_bytes(bytes([number]) * 1000)
    if not (folder.holdout / "rows.npz").exists():
        holdout.seal(folder, Rows(np.ones((2, 3), np.float32), np.ones(2)))
    for home, names in ((folder.submitted, ("nets.py", "rows.csv")), (folder.modules, ("nets.py",))):
        home.mkdir()
        for name in names:
            (home / name).write_text("import torch\n")
    (folder.ray / "state.json").write_text("{}")
    (folder.path / ".table.123.tmp").write_text("half")
    return folder


def worth(folder: RunFolder) -> dict[str, bytes]:
    """Return the files that must arrive."""
    return {
        name: path.read_bytes()
        for path in folder.path.rglob("*")
        if path.is_file()
        and not (name := path.relative_to(folder.path).as_posix()).startswith(
            ("ray/", ".table", "submitted/")
        )
        and (not name.startswith("checkpoints/") or name.startswith(f"checkpoints/{BEST}/"))
        and name != "holdout/rows.npz"
    }


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_a_run_that_this_machine_sees_is_copied(run: RunFolder, tmp_path: Path) -> None:
    there = fetch_seen(run, tmp_path / "got")
    assert there == tmp_path / "got" / run.name
    assert files(there) == worth(run) | {"holdout/original": f"{run.path}\n".encode()}
    assert f"checkpoints/{BEST}/epoch-000001.pt" in files(there)
    assert open_run(there).winner_id == BEST


def test_the_test_rows_stay_with_the_run_and_a_copy_says_so(run: RunFolder, tmp_path: Path) -> None:
    assert (run.holdout / "rows.npz").is_file()
    there = RunFolder(fetch_seen(run, tmp_path / "got"))
    assert not (there.holdout / "rows.npz").exists()
    (started,) = events_of([], ending=None)
    assert isinstance(started, RunStarted)
    words = f"this is a copy without the test rows, .* with its path: {run.path}"
    with pytest.raises(RunFolderError, match=words):
        unseal(there, BEST)
    with pytest.raises(RunFolderError, match=words):
        holdout.check_sealed(there, Rows(np.zeros((1, 1)), np.zeros(1)), started)
    assert read_ledger(there) == []


def test_nothing_is_replaced(run: RunFolder, tmp_path: Path) -> None:
    fetch_seen(run, tmp_path / "got")
    before = files(tmp_path / "got")
    with pytest.raises(RunFolderError, match="exists already; give another folder with `--output FOLDER`"):
        fetch_seen(run, tmp_path / "got")
    assert files(tmp_path / "got") == before


def test_a_copy_is_not_resumed_and_nothing_is_started_for_it(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = fetch_seen(run, tmp_path / "got")
    assert command_line(["resume", str(there), "--search.trials", "9"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"{there}: this is a copy without the test rows" in said.err


@pytest.mark.parametrize("ending", [None, Ending.ALL_TRIALS])
def test_fetching_a_run_that_has_not_ended_gives_a_notice(
    ending: Ending | None,
    make_run: Callable[..., RunFolder],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = make_run(TRIALS, ending=ending)
    assert command_line(["fetch", str(folder.path), "--output", str(tmp_path / "got")]) == 0
    output = capsys.readouterr().out
    assert output.endswith(f"run: {tmp_path / 'got' / folder.name}\n")
    assert ("the run has not ended: this is how it stood" in output) == (ending is None)


def test_the_printed_text_holds_the_run(run: RunFolder) -> None:
    log = "\n".join(["something else", *send(str(run.path)), ""])
    with tarfile.open(fileobj=BytesIO(unpack(log, "x"))) as archive:
        content = {name: archive.extractfile(name).read() for name in archive.getnames()}  # type: ignore[union-attr]
    assert content == worth(run)


@pytest.mark.usefixtures("at_once")
def test_what_links_lead_to_is_sent_in_their_place(run: RunFolder, tmp_path: Path) -> None:
    """W&B makes links to the files of its latest run."""
    run.wandb.mkdir()
    (run.wandb / "debug.log").symlink_to(run.job)
    (run.wandb / "same.log").hardlink_to(run.job)
    lines = list(send(str(run.path)))
    archive = base64.b64decode("".join(lines[1:-1]))
    there = fetch_through(Sending(archive), str(run.path), tmp_path / "got")
    assert files(there) == worth(run) | {"holdout/original": f"{run.path}\n".encode()}
    assert not any(path.is_symlink() for path in there.rglob("*"))


def test_an_incomplete_transfer_is_refused(run: RunFolder) -> None:
    lines = list(send(str(run.path)))
    assert len(lines) == 3
    half = lines[1][: len(lines[1]) // 2]
    for damaged in ([], lines[:-1], [lines[0], half, lines[2]], [lines[0], "A" + lines[1][1:-4], lines[2]]):
        with pytest.raises(ClusterError, match="did not arrive whole; try again, or copy the folder"):
            unpack("\n".join(damaged), "/shared/run")


def test_a_run_that_is_too_large_for_a_log_is_to_be_copied(run: RunFolder) -> None:
    with pytest.raises(
        SubmissionError, match=rf"`rsync -a --exclude rows.npz --exclude submitted HEAD:{run.path} \.`"
    ):
        list(send(str(run.path), most=100))


def test_the_program_says_why_it_sends_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(str(tmp_path)) == 2
    assert capsys.readouterr().out.startswith(f"tune-jobs: {tmp_path}: not a run folder")


def member(name: str, **values: Any) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for key, value in values.items():
        setattr(made, key, value)
    return made


STRANGE = {
    "an absolute path": member("/etc/tune-jobs"),
    "a path out of the folder": member("checkpoints/../../outside"),
    "an absolute link": member("job.yaml", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a link out of the folder": member("job.yaml", type=tarfile.SYMTYPE, linkname="../outside"),
    "a link within the folder": member("report.html", type=tarfile.SYMTYPE, linkname="job.yaml"),
    "a hard link": member("job.yaml", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
    "a device": member("job.yaml", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    "a pipe": member("job.yaml", type=tarfile.FIFOTYPE),
    "no journal": member("job.yaml"),
}


def packed(strange: tarfile.TarInfo) -> bytes:
    """Return an archive of this one member."""
    content = BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        archive.addfile(strange)
    return content.getvalue()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "SECONDS_TO_BE_NOTICED", 0.0)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("how", STRANGE)
def test_an_archive_with_links_or_paths_out_of_the_folder_is_refused(tmp_path: Path, how: str) -> None:
    with pytest.raises(
        ClusterError, match=r"^/shared/run: the cluster sent (no|an) archive .*so nothing was kept"
    ):
        fetch_through(Sending(packed(STRANGE[how])), "/shared/run", tmp_path / "got")
    assert files(tmp_path) == {}
    assert not list((tmp_path / "got").iterdir())


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    "content",
    [b"", b"no archive", gzip.compress(b"no archive"), gzip.compress(b"x" * 999)[:20]],
    ids=[
        "nothing",
        "text",
        "compressed text",
        "cut",
    ],  # compressed bytes hold the time, and ids may not differ
)
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ClusterError, match=r"^/shared/run: the cluster sent no archive of a run"):
        fetch_through(Sending(content), "/shared/run", tmp_path / "got")
    assert not list((tmp_path / "got").iterdir())


class Sending(JobsServer):
    """A server whose sender prints this archive."""

    def __init__(self, archive: bytes) -> None:
        lines = [base64.b64encode(archive).decode(), END]
        self._log = "\n".join([f"{BEGIN}{len(archive)} {hashlib.sha256(archive).hexdigest()}", *lines])

    def submit(self, *_: Any, **__: Any) -> str:
        return "fetch"

    def submission(self, submission_id: str) -> Any:
        return SimpleNamespace(over=True, state=SubmissionState.DONE)

    def log(self, submission_id: str) -> str:
        return self._log

    def forget(self, submission_id: str) -> None:
        pass
