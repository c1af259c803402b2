import ast
import subprocess
import sys
from pathlib import Path

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


def test_the_torch_free_modules_import_neither_torch_nor_ray():
    code = f"import sys, {', '.join(TORCH_FREE)}; print({{'torch', 'ray', 'optuna', 'sklearn'}} & sys.modules.keys())"
    assert run(code) == "set()\n"


def test_the_package_imports_no_kind():
    code = "import sys, tune_jobs.trainers; print([name for name in sys.modules if '.pytorch' in name])"
    assert run(code) == "[]\n"


@pytest.mark.slow
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


def test_only_the_trainers_know_a_kind():
    """No module of `tune_jobs` outside `trainers` imports the PyTorch kind, not even late or for types."""
    package = Path(__file__).resolve().parents[2] / "tune_jobs"
    modules = [
        path for path in sorted(package.rglob("*.py")) if "trainers" not in path.relative_to(package).parts
    ]
    assert len(modules) > 100
    found = []
    for path in modules:
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            found += [
                f"{path.relative_to(package)}:{node.lineno} imports {name}"
                for name in names
                if name.startswith("tune_jobs.trainers.pytorch")
            ]
    assert not found, "\n".join(found)
