import subprocess
import sys

import pytest

import trainers

TORCH_FREE = [
    "trainers",
    "trainers.early_stopping",
    "trainers.errors",
    "trainers.metric_rules",
    "trainers.model_arguments",
    "trainers.plan",
    "trainers.references",
    "trainers.results",
    "trainers.scores",
    "trainers.settings",
]


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_what_is_torch_free_imports_neither_torch_nor_ray():
    code = f"import sys, {', '.join(TORCH_FREE)}; print({{'torch', 'ray', 'optuna', 'sklearn'}} & sys.modules.keys())"
    assert run(code) == "set()\n"


def test_training_imports_neither_ray_nor_the_search():
    code = "import sys, trainers.trainer; print({'ray', 'optuna', 'search_spaces', 'tune_jobs'} & sys.modules.keys())"
    assert run(code) == "set()\n"


def test_exports_are_sorted_and_all_there():
    assert trainers.__all__ == sorted(trainers.__all__)
    assert all(getattr(trainers, name).__name__ == name for name in trainers.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Trainr'"):
        trainers.Trainr  # noqa: B018
