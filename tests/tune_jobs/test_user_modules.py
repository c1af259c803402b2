"""Which of the user's files go to other machines."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.tune_jobs.runs import job_in
from tune_jobs import user_modules as under_test
from tune_jobs.errors import JobError
from tune_jobs.user_modules import copy_modules, user_modules


def sent(folder: Path, files: Mapping[str, str], **changes: object) -> set[str]:
    """The files that would arrive elsewhere."""
    folder.mkdir()
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    job = job_in(folder, {path.replace("__", "/"): value for path, value in changes.items()})
    there = folder.parent / "there"
    there.mkdir()
    copy_modules(user_modules(job), there)
    return {path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file()}


def test_a_job_of_built_in_parts_sends_nothing(tmp_path: Path) -> None:
    assert sent(tmp_path / "job", {"other.py": ""}) == set()


def test_modules_that_are_named_and_what_they_import(tmp_path: Path) -> None:
    files = {
        "nets.py": "import torch\nfrom layers.dense import Dense\ndef make(): ...\n",
        "layers/__init__.py": "",
        "layers/dense.py": "from . import shapes\n",
        "layers/shapes.py": "import sizes\n",
        "layers/table.json": "{}",
        "layers/__pycache__/dense.pyc": "",
        "sizes.py": "def lazily():\n    import late\n",
        "late.py": "import nets\n",
        "losses.py": "",
        "unused.py": "",
        "secrets.env": "TOKEN=1",
    }
    folder = tmp_path / "job"
    arrived = sent(folder, files, model__name="nets:make", training__loss="losses:huber")
    assert arrived == {
        "nets.py", "layers/__init__.py", "layers/dense.py", "layers/shapes.py", "layers/table.json", "sizes.py",
        "late.py", "losses.py",
    }  # fmt: skip


def test_installed_packages_stay_where_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    assert sent(folder, {}, model__name="torch.nn:Linear") == set()


def test_a_module_that_cannot_be_parsed_is_sent_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    assert sent(folder, {"nets.py": "def make(:\n"}, model__name="nets:make") == {"nets.py"}


def test_too_large_a_package_is_refused_with_its_largest_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "MOST_BYTES", 1000)
    folder = tmp_path / "job"
    with pytest.raises(
        JobError, match=r"at most 0 MB are sent to other machines; the largest file is rows\.csv"
    ):
        sent(folder, {"nets/__init__.py": "", "nets/rows.csv": "1" * 2000}, model__name="nets:make")
