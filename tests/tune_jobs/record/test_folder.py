"""The run folder: its paths, and how one is made and opened."""

import errno
import os
import re
import resource
from dataclasses import fields
from pathlib import Path

import pytest

from tune_jobs.errors import RunFolderError
from tune_jobs.files import PROBE_BYTES
from tune_jobs.record.folder import RunFolder


def test_a_new_folder_has_name_time_and_letters_and_a_private_holdout(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "some" / "where", "digits.v2")
    assert folder.path.parent == tmp_path / "some" / "where"
    assert re.fullmatch(r"digits\.v2-\d{8}T\d{6}Z-[a-z]{4}", folder.name)
    assert sorted(path.name for path in folder.path.iterdir()) == ["checkpoints", "holdout", "journal", "ray"]
    assert folder.holdout.stat().st_mode & 0o777 == 0o700
    assert not folder.is_run  # until its journal is begun
    assert RunFolder.create(tmp_path / "some" / "where", "digits.v2") != folder


def test_the_names_in_the_folder_are_those_of_the_contract(folder: RunFolder) -> None:
    assert [field.name for field in fields(folder)] == ["path"]
    names = {
        "job": "job.yaml",
        "trials": "trials.parquet",
        "epochs": "epochs.parquet",
        "selection": "selection.json",
        "checkpoints": "checkpoints",
        "study": "study.log",
        "holdout": "holdout",
        "wandb": "wandb",
        "tensorboard": "tensorboard",
        "ray": "ray",
    }
    for name, relative in names.items():
        assert getattr(folder, name) == folder.path / relative
    assert folder.journal.parent == folder.path / "journal"


def test_storage_that_cannot_be_written_to_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError) as caught:
        RunFolder.create(tmp_path / "file", "digits")
    assert str(caught.value) == (
        f"storage: cannot write to {tmp_path / 'file'} (Not a directory); "
        "give a folder that you may write to, with `--storage FOLDER`"
    )
    assert (tmp_path / "file").is_file()


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), OSError("torn"), KeyboardInterrupt()]
)
def test_a_folder_that_cannot_be_filled_is_removed(tmp_path: Path, error: BaseException) -> None:
    def make(storage: Path) -> None:
        with RunFolder.making(storage, "digits") as folder:
            (folder.checkpoints / "half").write_bytes(b"made")
            raise error

    given = RunFolderError if isinstance(error, OSError) else type(error)
    with pytest.raises(given) as caught:
        make(tmp_path / "some" / "where")
    assert list(tmp_path.iterdir()) == []
    if error.args:
        assert str(caught.value).startswith(f"storage: cannot write to {tmp_path / 'some' / 'where'} (")
    (tmp_path / "runs" / "another").mkdir(parents=True)
    with pytest.raises(given):
        make(tmp_path / "runs")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["another"]


def test_a_folder_takes_more_than_a_few_bytes_before_it_is_made(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (PROBE_BYTES - 1, hard))
    try:
        with pytest.raises(RunFolderError, match=r"cannot write to .* \(File too large\)"):
            RunFolder.create(tmp_path / "runs", "digits")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_only_a_folder_with_a_journal_is_a_run(tmp_path: Path, folder: RunFolder) -> None:
    with pytest.raises(RunFolderError) as caught:
        RunFolder.open(tmp_path / "gone")
    assert str(caught.value) == (
        f"{tmp_path / 'gone'}: no such folder; `tune-jobs list` shows the runs of a folder"
    )
    submission = "digits-20261125T101500Z-abcd"
    with pytest.raises(
        RunFolderError, match=rf"and `tune-jobs status {submission}` where the folder of a submission is$"
    ):
        RunFolder.open(submission)
    with pytest.raises(RunFolderError) as caught:
        RunFolder.open(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: not a run folder (it has no journal); `tune-jobs list {tmp_path}` shows the runs in it"
    )
    folder.journal.touch()
    assert RunFolder.open(folder.path) == folder


UNUSUAL = ("a[1] *?", "a\nb", " a ", "~", "%s {0} $(id)", "é\u202e", "a\x1b[31m", "m" * 200)
"""Names of folders that a shell, a pattern, a format or a terminal would take for something else."""


@pytest.mark.parametrize("name", UNUSUAL)
def test_a_storage_may_have_any_name(tmp_path: Path, name: str) -> None:
    other = tmp_path / "a1 x"
    other.mkdir()
    made = RunFolder.create(tmp_path / name, "small")
    assert made.path.parent == tmp_path / name
    made.journal.touch()
    assert RunFolder.open(made.path) == made
    assert list(other.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("n" * 300, r"cannot write to .* \(File name too long\)"),
        (os.fsdecode(b"\xff"), "is not in UTF-8, which Ray"),
    ],
)
def test_a_storage_whose_name_cannot_be_used_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(RunFolderError, match=f"^storage: .*{reason}.*`--storage FOLDER`"):
        RunFolder.create(tmp_path / name, "small")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RunFolderError, match="no such folder"):
        RunFolder.open(tmp_path / name)


def test_a_relative_path_and_a_link_lead_to_the_same_folder(
    tmp_path: Path, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.journal.touch()
    monkeypatch.chdir(folder.path.parent)
    assert RunFolder.open(folder.name) == folder
    (tmp_path / "latest").symlink_to(folder.path)
    assert RunFolder.open(tmp_path / "latest") == folder


def test_paths_are_written_relative_to_the_folder_so_that_it_can_be_moved(folder: RunFolder) -> None:
    assert (
        folder.relative(folder.checkpoints / "0001" / "epoch-000003.pt") == "checkpoints/0001/epoch-000003.pt"
    )
    with pytest.raises(ValueError, match="not in the subpath"):
        folder.relative(folder.path.parent / "elsewhere")
