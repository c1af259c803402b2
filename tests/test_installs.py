"""The names that an install adds to Python, and a run next to files and folders with common names.

Wheel and editable install are really made, into separate environments that see the packages of this one.
"""

import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
JOB = """
name: beside
data: {source: "data.rows:make", split: {train: 0.5, validation: 0.25, test: 0.25, method: random, seed: 0}}
model: {name: "models.nets:make"}
training: {max_epochs: 2, loss: "trainers:loss", metrics: ["search_spaces.scores:largest_error"]}
search: {space: {lr: {low: 0.001, high: 0.1, log: true}}, method: random, trials: 2}
resources: {max_concurrent: 1}
"""
"""A job with functions in packages whose names are also folders of this repository and of many others."""

BESIDE = {
    "trainers/__init__.py": "from utils import mean\n\ndef loss(outputs, targets):\n"
    "    return mean((outputs - targets) ** 2)\n",
    "search_spaces/scores.py": "def largest_error(outputs, targets):\n"
    "    return float((outputs - targets).abs().max())\n",
    "utils.py": "def mean(x):\n    return x.mean()\n",
    "models/nets.py": "import torch\n\ndef make(input_shape, outputs):\n"
    "    return torch.nn.Linear(input_shape[0], outputs)\n",
    "data/__init__.py": "",
    "data/rows.py": "import numpy\n\ndef make():\n    x = numpy.linspace(-1, 1, 40, dtype='float32')[:, None]\n"
    "    return x, (2 * x).astype('float32')\n",
    **dict.fromkeys(
        ["ray.py", "torch.py", "profile.py", "numpy.py", "optuna.py"],
        "raise RuntimeError('a file beside the job was imported in place of a library')\n",
    ),
}


def ran(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=["wheel", "editable"])
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of an environment in which the package is installed in one of the two ways."""
    folder = tmp_path_factory.mktemp(request.param)
    source = folder / "source"
    tracked = ran("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).splitlines()
    for name in tracked:
        if name.startswith(
            ("tune_jobs", "trainers/", "search_spaces/", "pyproject.toml", "README", "LICENSE")
        ):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_symlink():
                (source / name).symlink_to((ROOT / name).readlink())
            elif (ROOT / name).exists():
                (source / name).write_bytes((ROOT / name).read_bytes())
    venv.create(folder / "env", with_pip=False, symlinks=True)
    interpreter = folder / "env" / "bin" / "python"
    site = Path(
        ran(interpreter, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    )
    here = [path for path in sys.path if Path(path).name == "site-packages"] or [
        sysconfig.get_path("purelib")
    ]
    (site / "packages.pth").write_text("\n".join(here) + "\n")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        interpreter,
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    how = ["-e", source] if request.param == "editable" else [source]
    ran(*pip, "--no-deps", "--no-build-isolation", "--no-index", "--force-reinstall", *how, cwd=folder)
    return interpreter


@pytest.mark.slow
def test_an_install_adds_one_name(python: Path, tmp_path: Path) -> None:
    code = """
import importlib.util, json
top = ["trainers", "search_spaces", "tests", "benchmarks", "docs", "examples"]
inner = ["tune_jobs.trainers.pytorch.trainer", "tune_jobs.search_spaces.space", "tune_jobs.trainers.data.prepare"]
import tune_jobs
from pathlib import Path
files = sorted(path.name for path in (Path(tune_jobs.__file__).parent / "report").iterdir())
print(json.dumps({
    "top": [name for name in top if importlib.util.find_spec(name)],
    "inner": [name for name in inner if not importlib.util.find_spec(name)],
    "typed": (Path(tune_jobs.__file__).parent / "py.typed").exists(),
    "at": tune_jobs.__file__,
    "page": [name for name in files if name.endswith((".j2", ".css", ".js"))],
}))
"""
    found = json.loads(ran(python, "-c", code, cwd=tmp_path))
    assert found["top"] == []
    assert found["inner"] == []
    assert found["typed"]
    assert found["page"]
    assert not Path(found["at"]).is_relative_to(ROOT)


@pytest.mark.slow
def test_a_job_runs_beside_files_with_the_names_of_libraries(python: Path, tmp_path: Path) -> None:
    """The script and the module take turns; each install begins a run with another one."""
    for name, text in {"job.yaml": JOB, **BESIDE}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    commands: list[list[str | Path]] = [[python.with_name("tune-jobs")], [python, "-m", "tune_jobs"]]
    one, other = commands if python.parents[2].name.startswith("wheel") else reversed(commands)
    ran(*other, "validate", "job.yaml", cwd=tmp_path)
    last = ran(*one, "run", "job.yaml", cwd=tmp_path).splitlines()[-1]
    run = last.removeprefix("run: ")
    assert ran(*one, "show", run, cwd=tmp_path).split().count("completed") == 2
    assert "test_loss" in ran(*other, "test", run, cwd=tmp_path)
