"""The data of a submission."""

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from tune_jobs.errors import ClusterError
from tune_jobs.job.user_modules import UserModule
from tune_jobs.record.events import RunStarted, TrialStarted
from tune_jobs.record.folder import RunFolder
from tune_jobs.submission.handover import VARIABLE, Handover, has_begun, keep_submitted
from tune_jobs.versions import versions_here


def test_the_handover_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert Handover.from_environment() is None
    given = Handover("small-1-abcd", versions_here(("tune-jobs", "torch")))
    for name, value in given.to_environment().items():
        monkeypatch.setenv(name, value)
    assert Handover.from_environment() == given
    given.check_versions()


def test_another_version_is_refused_with_the_cure() -> None:
    with pytest.raises(
        ClusterError, match=r"torch 1\.0 where the job was submitted and .* install the same on both"
    ):
        Handover("small-1-abcd", {**versions_here(), "torch": "1.0"}).check_versions()


def test_a_waiting_client_learns_that_the_run_has_begun_from_one_line_alone() -> None:
    console = Console(file=io.StringIO())
    tell = Handover("small-1-abcd").make_announcer(console)
    tell(TrialStarted(trial_id="0000"))
    assert not has_begun(console.file.getvalue())  # type: ignore[attr-defined]
    tell(RunStarted(name="small", job_folder="", trials=1, rows={}, fingerprints={}, versions={}))
    assert has_begun(console.file.getvalue())  # type: ignore[attr-defined]


def test_the_owner_has_all_submitted_files_and_a_copy_has_the_modules(
    tmp_path: Path,
) -> None:
    came, folder = tmp_path / "came", RunFolder(tmp_path / "run")
    elsewhere, there = tmp_path / "job", Path("/head/small-20261125T101500Z-abcd/submitted")
    assert folder.home(elsewhere) == elsewhere
    for made in (came, folder.path):
        made.mkdir(mode=0o755)
    for name in ("rows.csv", "nets.py", ".hidden"):
        (came / name).write_text("")
    keep_submitted(came, folder, [UserModule(came / "nets.py")])
    for kept in (came, folder.submitted):
        assert kept.stat().st_mode & 0o077 == 0
        assert {path.name for path in kept.iterdir()} == {"rows.csv", "nets.py", ".hidden"}
    assert [path.name for path in folder.modules.iterdir()] == ["nets.py"]
    assert folder.home(there) == folder.submitted
    shutil.rmtree(folder.submitted)
    assert folder.home(there) == folder.modules
    assert folder.home(elsewhere) == elsewhere
