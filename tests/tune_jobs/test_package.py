"""The exports of the package, and libraries that must not be imported before they are needed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import tune_jobs

ROOT = Path(__file__).parents[2]

LOADED = """
import json, sys
code = 0
{program}
print(json.dumps([code, sorted({{name.partition(".")[0] for name in sys.modules}})]))
"""
HEAVY = {"torch", "ray", "optuna", "sklearn", "scipy", "pandas", "wandb"}


def loaded(program: str, folder: Path) -> tuple[int, set[str]]:
    """Run `program` in a separate process, and return its exit code and the packages that it imported."""
    command = [sys.executable, "-c", LOADED.format(program=program)]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    code, modules = json.loads(ran.stdout.splitlines()[-1])
    return code, set(modules)


def test_importing_the_package_imports_nothing_heavy(tmp_path: Path) -> None:
    _, modules = loaded("import tune_jobs", tmp_path)
    assert not modules & HEAVY


def test_reading_a_job_imports_nothing_heavy(tmp_path: Path) -> None:
    example = str(ROOT / "examples" / "digits.yaml")
    _, modules = loaded(f"from tune_jobs import Job; Job.from_file({example!r})", tmp_path)
    assert "pydantic" in modules
    assert not modules & HEAVY


@pytest.mark.slow
def test_validate_imports_neither_torch_nor_ray(tmp_path: Path) -> None:
    example = str(ROOT / "examples" / "digits.yaml")
    code, modules = loaded(
        f"from tune_jobs.cli.main import main; code = main(['validate', {example!r}])", tmp_path
    )
    assert code == 0
    assert "sklearn" in modules  # the data was read
    assert not modules & {"torch", "ray", "optuna", "wandb"}
    assert list(tmp_path.iterdir()) == []


def test_an_invalid_job_ends_with_2_before_anything_heavy_is_imported_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    (tmp_path / "job.yaml").write_text("name: x\n")
    code, modules = loaded("from tune_jobs.cli.main import main; code = main(['run', 'job.yaml'])", tmp_path)
    assert code == 2
    assert not modules & HEAVY
    assert [path.name for path in tmp_path.iterdir()] == ["job.yaml"]


@pytest.mark.slow
def test_showing_a_run_imports_neither_torch_nor_ray(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    code, modules = loaded("from tune_jobs.cli.main import main; code = main(['list'])", tmp_path)
    assert code == 0
    assert not modules & {"torch", "ray", "optuna", "wandb"}


def test_every_exported_name_is_there_and_no_other() -> None:
    assert sorted(tune_jobs.__all__) == tune_jobs.__all__
    for name in tune_jobs.__all__:
        assert getattr(tune_jobs, name).__name__ == name
    with pytest.raises(AttributeError, match="module 'tune_jobs' has no attribute 'Jobs'"):
        tune_jobs.Jobs  # noqa: B018
