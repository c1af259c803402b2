"""The place of a job's own modules, and the names that they cannot have."""

import importlib
import random
import signal
import sys
import warnings
from pathlib import Path

import pytest

from tune_jobs.job.user_code import (
    UserModuleFinder,
    import_from,
    importable_from,
    is_reserved,
    module_path,
    process_kept,
)
from tune_jobs.trainers.references import load_reference


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def finders_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))


@pytest.mark.parametrize(
    "name", ["profile", "types", "ray", "torch", "numpy", "yaml", "pydantic", "tune_jobs", "requests"]
)
def test_names_that_a_run_needs_are_reserved(name: str) -> None:
    assert is_reserved(name)


@pytest.mark.parametrize("name", ["trainers", "search_spaces", "utils", "models", "data", "nets", "train"])
def test_names_that_people_use_are_free(name: str, tmp_path: Path) -> None:
    folder = write(tmp_path, {f"{name}.py": ""})
    assert not is_reserved(name, [str(folder)])
    spec = UserModuleFinder([str(folder)]).find_spec(name)
    assert spec is not None
    assert spec.origin == str(folder / f"{name}.py")


def test_a_job_imports_its_own_module_before_an_installed_one(tmp_path: Path, finders_restored: None) -> None:
    site, folder = tmp_path / "site", tmp_path / "job"
    write(site, {"helpers_of_both.py": "PLACE = 'site'"})
    write(folder, {"helpers_of_both.py": "PLACE = 'job'"})
    sys.path.append(str(site))
    try:
        with importable_from(folder):
            assert importlib.import_module("helpers_of_both").PLACE == "job"
    finally:
        sys.path.remove(str(site))
        sys.modules.pop("helpers_of_both", None)


def test_reserved_names_lead_to_the_installed_modules(tmp_path: Path) -> None:
    folder = write(tmp_path, dict.fromkeys(["profile.py", "ray.py", "torch/__init__.py"], "raise SystemExit"))
    finder = UserModuleFinder([str(folder)])
    assert [finder.find_spec(name) for name in ("profile", "ray", "torch")] == [None] * 3


def test_nothing_stays_importable_after_the_block(tmp_path: Path) -> None:
    before = list(sys.meta_path), list(sys.path)
    with importable_from(write(tmp_path, {"only_inside.py": ""})):
        importlib.import_module("only_inside")
    del sys.modules["only_inside"]
    assert (sys.meta_path, sys.path) == before
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("only_inside")


def test_a_worker_forgets_the_folders_of_the_run_before(tmp_path: Path, finders_restored: None) -> None:
    first = write(tmp_path / "first", {"nets_of_a_run.py": "def make(): return 1"})
    second = write(tmp_path / "second", {"nets_of_a_run.py": "def make(): return 2"})
    made = []
    for folder in (first, second):
        import_from([str(folder)])
        made.append(load_reference("nets_of_a_run:make")())
    sys.modules.pop("nets_of_a_run", None)
    assert made == [1, 2]
    assert sum(isinstance(finder, UserModuleFinder) for finder in sys.meta_path) == 1


def test_a_task_may_be_read_inside_a_block_whose_folder_stays_importable(
    tmp_path: Path, finders_restored: None
) -> None:
    before = list(sys.meta_path)
    outer = write(tmp_path / "outer", {"nets_of_the_block.py": "def make(): return 1"})
    with importable_from(outer):
        import_from([str(tmp_path / "task")])
        assert load_reference("nets_of_the_block:make")() == 1
    sys.modules.pop("nets_of_the_block", None)
    (left,) = (finder for finder in sys.meta_path if finder not in before)
    assert isinstance(left, UserModuleFinder)
    assert left.folders == [str(tmp_path / "task")]


def test_the_jobs_folder_comes_before_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert module_path(tmp_path / "job") == (str(tmp_path / "job"), str(tmp_path))
    assert module_path(tmp_path) == (str(tmp_path),)


def test_a_module_from_a_third_folder_is_looked_for_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    third = write(tmp_path, {"mine_from_a_third/__init__.py": "", "mine_from_a_third/kind.py": ""})
    monkeypatch.syspath_prepend(str(third))
    importlib.import_module("mine_from_a_third.kind")
    job, here = tmp_path / "job", str(Path.cwd())
    for name in ("mine_from_a_third", "mine_from_a_third.kind"):
        assert module_path(job, name) == (str(job), here, str(third))
    for name in ("__main__", "pytest", "torch", "tune_jobs.trainers", "never_imported"):
        assert module_path(job, name) == (str(job), here)


WILD = """
import os, signal, sys, warnings

def spoil():
    sys.path[:] = ["/nowhere"]
    sys.argv[:] = []
    os.chdir("/")
    warnings.simplefilter("error")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

spoil()
"""


def test_a_module_that_spoils_the_process_spoils_nothing_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may also put a new list in the place of the finders, which the end of the block must not stumble over."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    (tmp_path / "wild_module.py").write_text(WILD)
    before = (list(sys.argv), Path.cwd(), signal.getsignal(signal.SIGTERM), list(warnings.filters))
    paths, finders = list(sys.path), list(sys.meta_path)
    with importable_from(tmp_path), process_kept():
        load_reference("wild_module:spoil")()
        sys.meta_path = list(finders)
    assert (list(sys.argv), Path.cwd(), signal.getsignal(signal.SIGTERM), list(warnings.filters)) == before
    assert set(sys.path) == {*paths, "/nowhere"}, "what it added stays"
    assert sys.meta_path == finders


def test_modules_draw_the_same_numbers_in_whatever_order_and_place_they_are_imported(
    tmp_path: Path, finders_restored: None
) -> None:
    """A helper that a function imports late is one of them."""
    draw = "import random\nDRAWN = random.random()\n"
    files = {"drawers/__init__.py": "", "drawers/late.py": draw, "drawer_alone.py": draw}
    write(tmp_path, {**files, "drawer_of_both.py": "import drawer_alone\n" + draw})
    drawn = []
    with importable_from(tmp_path):
        for order in (["drawer_alone", "drawer_of_both", "drawers.late"], ["drawers.late", "drawer_of_both"]):
            for name in (*files, "drawers", "drawers.late", "drawer_alone", "drawer_of_both"):
                sys.modules.pop(name, None)
            random.seed(len(drawn))
            state = random.getstate()
            for name in order:
                importlib.import_module(name)
            assert random.getstate() == state
            drawn.append([sys.modules[n].DRAWN for n in ("drawer_alone", "drawer_of_both", "drawers.late")])
    assert drawn[0] == drawn[1]


def test_a_worker_runs_the_copies_under_the_names_of_the_originals(
    tmp_path: Path, finders_restored: None
) -> None:
    """Data beside a module are still found, and modules without a copy too."""
    names = ["copied/__init__.py", "copied/deep.py", "copied_alone.py", "not_copied.py"]
    job = write(tmp_path / "job", dict.fromkeys(names, "CODE = 'changed'"))
    copies = write(tmp_path / "copies", dict.fromkeys(names[:-1], "CODE = 'copied'"))
    import_from([str(job)], copies)
    for name, code in {"copied": "copied", "copied.deep": "copied", "copied_alone": "copied"}.items():
        module = importlib.import_module(name)
        assert code == module.CODE
        assert module.__file__ is not None
        assert Path(module.__file__).is_relative_to(job)
    assert importlib.import_module("not_copied").CODE == "changed"
    for name in ("copied", "copied.deep", "copied_alone", "not_copied"):
        del sys.modules[name]


def test_modules_are_imported_again_if_one_of_them_has_changed(tmp_path: Path) -> None:
    files = {"changing.py": "from changing_helper import CODE", "changing_helper.py": "CODE = 1"}
    write(tmp_path, files)

    def code() -> int:
        with importable_from(tmp_path):
            return int(importlib.import_module("changing").CODE)

    assert code() == 1
    first = sys.modules["changing"]
    assert code() == 1
    assert sys.modules["changing"] is first, "nothing has changed"
    write(tmp_path, {"changing_helper.py": "CODE = 22"})
    assert code() == 22
    del sys.modules["changing"], sys.modules["changing_helper"]
