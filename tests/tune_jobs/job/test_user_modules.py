"""The user's files that are sent to other machines."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.declared_nodes import declared_nodes
from tests.processes import PATIENCE
from tests.tune_jobs.runs import job_in, steady_in
from tune_jobs.errors import JobError
from tune_jobs.job import user_modules as under_test
from tune_jobs.job.user_modules import copy_modules, user_modules

ROOT = Path(__file__).parents[3]
"""The repository, whose packages the nodes import, too."""


def sent(folder: Path, files: Mapping[str, str], **changes: object) -> set[str]:
    """Return the files that would arrive on another machine."""
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
        "layers/.env": "TOKEN=1",
        "layers/.cache/key": "1",
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


def test_installed_packages_are_not_sent(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    assert sent(folder, {}, model__name="torch.nn:Linear") == set()


def test_our_own_packages_are_on_every_node(tmp_path: Path) -> None:
    files = {"nets.py": "from tune_jobs.trainers.settings import Settings\n", "trainers/settings.py": ""}
    assert sent(tmp_path / "job", files, model__name="nets:make") == {"nets.py"}


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


@pytest.mark.slow
def test_a_machine_that_hides_what_it_is_sent_is_refused_before_a_trial_fails_there(tmp_path: Path) -> None:
    """A start-up file sets PYTHONPATH. Ray's workers read it after Ray has set the path of the modules."""
    job = steady_in(tmp_path, {})
    (tmp_path / "job.yaml").write_text(job.to_yaml())
    hiding = tmp_path / "site" / "sitecustomize.py"
    hiding.parent.mkdir()
    hiding.write_text("import sys\nsys.path[:] = [p for p in sys.path if 'working_dir_files' not in p]\n")
    with declared_nodes({"PYTHONPATH": f"{hiding.parent}{os.pathsep}{ROOT}"}, num_cpus=1) as cluster:
        command = [sys.executable, "-m", "tune_jobs", "run", "job.yaml", "--address", cluster.address]
        environment = {
            **cluster.environment,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        ran = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert ran.returncode == 2, ran.stdout
    assert "the job's modules user_code cannot be imported there, although they were sent" in ran.stderr
