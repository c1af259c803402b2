import json
import subprocess
import sys

from tune_jobs import search_spaces

HEAVY = [
    "jax",
    "optuna",
    "pandas",
    "pyarrow",
    "ray",
    "scipy",
    "sklearn",
    "torch",
    "wandb",
]


def test_importing_the_package_imports_no_heavy_library() -> None:
    code = "import json, sys, tune_jobs.search_spaces; print(json.dumps(sorted(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "tune_jobs.search_spaces" in json.loads(loaded)
    assert set(HEAVY).isdisjoint(json.loads(loaded))
    ours = {name for name in json.loads(loaded) if name.startswith("tune_jobs.")}
    others = {name for name in ours if not name.startswith("tune_jobs.search_spaces")}
    assert others <= {
        "tune_jobs.errors",
        "tune_jobs.problem",
        "tune_jobs.text",
    }  # leaves, which every module may import


def test_every_export_is_listed_once_and_exists() -> None:
    listed = search_spaces.__all__
    assert len(set(listed)) == len(listed)
    assert all(hasattr(search_spaces, name) for name in listed)
    public = {
        name
        for name, value in vars(search_spaces).items()
        if not name.startswith("_") and not hasattr(value, "__path__")
    }
    modules = {name for name in public if type(getattr(search_spaces, name)).__name__ == "module"}
    assert public - modules == set(listed)


def test_the_usage_example_of_the_package_runs() -> None:
    lines = (search_spaces.__doc__ or "").splitlines()
    code = "\n".join(line[4:] for line in lines if line.startswith("    "))
    assert "parse_space" in code
    exec(compile(code, "usage", "exec"), {})
