import subprocess
import sys

import pytest

from tune_jobs import trainers

TORCH_FREE = [
    "tune_jobs.trainers",
    "tune_jobs.trainers.early_stopping",
    "tune_jobs.trainers.errors",
    "tune_jobs.trainers.pytorch.metric_rules",
    "tune_jobs.trainers.pytorch.model_arguments",
    "tune_jobs.trainers.pytorch.plan",
    "tune_jobs.trainers.references",
    "tune_jobs.trainers.interface",
    "tune_jobs.trainers.kinds",
    "tune_jobs.trainers.pytorch.kind",
    "tune_jobs.trainers.scores",
    "tune_jobs.trainers.settings",
]


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_what_is_torch_free_imports_neither_torch_nor_ray():
    code = f"import sys, {', '.join(TORCH_FREE)}; print({{'torch', 'ray', 'optuna', 'sklearn'}} & sys.modules.keys())"
    assert run(code) == "set()\n"


def test_training_imports_neither_ray_nor_the_search():
    code = "import sys, tune_jobs.trainers.pytorch.trainer; print(*sys.modules)"
    loaded = set(run(code).split())
    assert not {"ray", "optuna", "tune_jobs.search_spaces"} & loaded
    ours = {name for name in loaded if name.startswith("tune_jobs.")}
    others = {name for name in ours if not name.startswith("tune_jobs.trainers")}
    assert others <= {"tune_jobs.errors", "tune_jobs.problem", "tune_jobs.text", "tune_jobs.files"}  # leaves


def test_exports_are_sorted_and_all_there():
    assert trainers.__all__ == sorted(trainers.__all__)
    assert all(getattr(trainers, name).__name__ == name for name in trainers.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Trainr'"):
        trainers.Trainr  # noqa: B018
