"""The files of the user's code that a job runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.slope import slope_registered
from tests.tune_jobs.runs import job_in
from tune_jobs.job.code_files import are_copies_sound, code_files, code_fingerprints, code_now, copy_code
from tune_jobs.job.job import Job

FILES = {
    "project/__init__.py": "",
    "project/nets.py": "from .layers.dense import Dense\nfrom project import sizes\nimport torch, numpy\n",
    "project/layers/__init__.py": "from . import shapes\n",
    "project/layers/dense.py": "from ..activations import *\n",
    "project/layers/shapes.py": "import other.deep.module as m\nfrom ...beyond import nothing\n",
    "project/activations.py": "def lazily():\n    import late\n",
    "project/sizes.py": "",
    "project/plots.py": "import unused",
    "other/deep/module.py": "import project.nets",
    "late.py": "no python at all",
    "losses.py": "",
    "unused.py": "",
    "torch.py": "",
}
USED = {
    "project/__init__.py", "project/nets.py", "project/layers/__init__.py", "project/layers/dense.py",
    "project/layers/shapes.py", "project/activations.py", "project/sizes.py", "other/deep/module.py", "late.py",
    "losses.py",
}  # fmt: skip
OWN = {"model/name": "project.nets:make", "model/arguments": {}, "training/loss": "losses:huber"}


def job_with(folder: Path, files: Mapping[str, str], changes: Mapping[str, Any] = OWN) -> Job:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return job_in(folder, changes)


def test_files_that_the_references_import_directly_or_not(tmp_path: Path) -> None:
    """A module of their package that nothing imports may change: it is not of the run."""
    found = code_files(job_with(tmp_path, FILES))
    assert found == {f"modules/{name}": tmp_path / name for name in sorted(USED)}
    assert code_files(job_with(tmp_path, {}, {})) == {}


def test_optimizers_of_the_search_count_and_trackers_do_not(tmp_path: Path) -> None:
    changes = {
        "search/space": {"optimizer": {"values": ["sgd", "late:layerwise"]}},
        "tracking/trackers": ["unused:Tracker"],
    }
    assert set(code_files(job_with(tmp_path, FILES, changes))) == {"modules/late.py"}


def test_a_module_in_a_third_folder_counts_and_an_installed_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("mine", "venv/lib/python3.11/site-packages"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / f"nets_{place[:4]}.py").write_text("")
        monkeypatch.syspath_prepend(tmp_path / place)
    (tmp_path / "job").mkdir()
    for name, found in {"nets_mine": {"modules/nets_mine.py"}, "nets_venv": set()}.items():
        job = job_in(tmp_path / "job", {"model/name": f"{name}:make", "model/arguments": {}})
        assert set(code_files(job)) == found


def test_the_kind_of_training_counts_if_it_is_the_user_s() -> None:
    with slope_registered():
        job = Job.from_mapping(
            {"name": "a", "slope": {}, "search": {"space": {"rate": {"values": [0.1, 0.2]}}}}
        )
        assert "modules/tests/trainers/slope.py" in code_files(job)


def test_changes_are_found(tmp_path: Path) -> None:
    job = job_with(tmp_path, FILES)
    then = code_fingerprints(job)
    for name in ("project/plots.py", "unused.py"):
        (tmp_path / name).write_text("changed")
    now = code_now(job, then)
    assert (now.changed, now.missing, now.none) == ({}, (), False)
    (tmp_path / "project/layers/dense.py").write_text("changed")
    (tmp_path / "losses.py").unlink()
    now = code_now(job, then)
    assert now.changed == {"modules/project/layers/dense.py": tmp_path / "project/layers/dense.py"}
    assert now.missing == ("modules/losses.py",), "activations.py is still there, though nothing imports it"
    assert not now.none
    assert code_now(job, {}).none is False


def test_copies_are_the_files_that_were_there(tmp_path: Path) -> None:
    job, run = job_with(tmp_path / "job", FILES), tmp_path / "run"
    copy_code(job, run)
    then = code_fingerprints(job)
    assert {path.relative_to(run).as_posix() for path in run.rglob("*.py")} == set(then)
    assert are_copies_sound(then, run)
    (run / "modules/losses.py").write_text("changed")
    assert not are_copies_sound(then, run)
    (run / "modules/losses.py").unlink()
    assert not are_copies_sound(then, run)
    moved = job_in(tmp_path, OWN)
    assert code_now(moved, then).none
