import random
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tune_jobs.trainers.errors import ReferenceNotFound
from tune_jobs.trainers.references import check_reference, load_reference

MODULE = """
import json as js
from os.path import join

raise_on_import = 1 / DIVISOR if (DIVISOR := 0) else 0

def load(): ...
async def later(): ...
class Model: ...
first, (second, *rest) = (1, (2, 3))
annotated: int = 1
if True:
    def conditional(): ...
try:
    import fast
except ImportError as error:
    fallback = lambda inner: inner
hidden_in = [hidden for hidden in ()]

def outer():
    def nested(): ...
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_checking_runs_nothing_of_the_users(folder: Path) -> None:
    write(folder, "ref_pkg/__init__.py", "raise RuntimeError('package was run')")
    write(folder, "ref_pkg/inner/__init__.py", "raise RuntimeError('subpackage was run')")
    write(folder, "ref_pkg/inner/module.py", "raise RuntimeError('module was run')\ndef load(): ...")
    assert check_reference("ref_pkg.inner.module:load") == []
    assert not [name for name in sys.modules if name.startswith("ref_pkg")]


@pytest.mark.parametrize(
    "name",
    [
        "js",
        "join",
        "load",
        "later",
        "Model",
        "first",
        "second",
        "rest",
        "annotated",
        "conditional",
        "fast",
        "fallback",
    ],
)
def test_names_defined_at_the_top_level_are_found(folder: Path, name: str) -> None:
    write(folder, "ref_names.py", MODULE)
    assert check_reference(f"ref_names:{name}") == []


@pytest.mark.parametrize("name", ["nested", "inner", "hidden", "json"])
def test_names_of_inner_scopes_are_not_found(folder: Path, name: str) -> None:
    write(folder, "ref_names.py", MODULE)
    assert len(check_reference(f"ref_names:{name}")) == 1


@pytest.mark.parametrize("text", ["from os.path import *", "def __getattr__(name): ..."])
def test_names_that_exist_only_at_run_time_are_accepted(folder: Path, text: str) -> None:
    write(folder, "ref_open.py", text)
    assert check_reference("ref_open:anything") == []


def test_namespace_packages_below_each_other_are_found(folder: Path) -> None:
    write(folder, "ref_ns/deep/module.py", "def load(): ...")
    assert check_reference("ref_ns.deep.module:load") == []
    assert check_reference("ref_ns.deep:load") == [
        "ref_ns.deep:load: 'ref_ns.deep' is a folder without __init__.py; name a module in it"
    ]


def test_modules_in_a_zip_file_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as archive:
        archive.writestr("ref_zipped.py", "def load(): ...")
    monkeypatch.syspath_prepend(tmp_path / "code.zip")
    assert check_reference("ref_zipped:load") == []
    assert "did you mean 'load'?" in check_reference("ref_zipped:loat")[0]


@pytest.mark.parametrize("text", ["sys:exit", "math:sqrt", "zlib:crc32", "posixpath:join", "json:dumps"])
def test_modules_of_python_itself_are_accepted(text: str) -> None:
    assert check_reference(text) == []


def test_messages_name_the_closest_module_and_name(folder: Path) -> None:
    write(folder, "ref_pkg/__init__.py", "")
    write(folder, "ref_pkg/data.py", "def load_digits(): ...")
    assert check_reference("ref_pkg.data:load_digit") == [
        "ref_pkg.data:load_digit: module 'ref_pkg.data' has no 'load_digit'; did you mean 'load_digits'?"
    ]
    assert check_reference("ref_pkg.dat:load_digits") == [
        "ref_pkg.dat:load_digits: package 'ref_pkg' has no module 'dat'; did you mean 'data'?"
    ]
    assert check_reference("ref_pgk.data:load_digits") == [
        "ref_pgk.data:load_digits: there is no module 'ref_pgk' in the job's folder or among the installed "
        "packages; did you mean 'ref_pkg'?"
    ]
    assert check_reference("ref_pkg.data.more:load") == [
        "ref_pkg.data.more:load: 'ref_pkg.data' is a module, not a package; it has no module 'more'"
    ]


@pytest.mark.parametrize(
    "text", ["", "module", "module.function", "a:b:c", "a b:c", "a..b:c", "a.:c", "3a:b", "a:"]
)
def test_wrong_references_are_reported(text: str) -> None:
    problem = f"{text!r} is no reference; write package.module:function, such as my_project.data:load"
    assert check_reference(text) == [problem]
    with pytest.raises(ReferenceNotFound) as caught:
        load_reference(text)
    assert str(caught.value) == problem


def test_a_syntax_error_is_reported_with_its_line(folder: Path) -> None:
    write(folder, "ref_broken.py", "x = 1\ndef load(:\n")
    (problem,) = check_reference("ref_broken:load")
    assert "ref_broken.py cannot be read as Python in line 2: invalid syntax" in problem
    with pytest.raises(ReferenceNotFound, match="'ref_broken' cannot be imported: SyntaxError"):
        load_reference("ref_broken:load")


def test_loading_gives_the_function(folder: Path) -> None:
    write(folder, "ref_loaded.py", "def load(n):\n    return n + 1")
    assert load_reference("ref_loaded:load")(1) == 2


def test_errors_of_loading_are_reported(folder: Path) -> None:
    write(folder, "ref_bad.py", "import ref_absent_dependency")
    write(folder, "ref_failing.py", "raise RuntimeError('no data here')")
    write(folder, "ref_value.py", "load = 3\ndef loader(): ...")
    messages = {
        "ref_bad:load": "ref_bad:load: module 'ref_bad' cannot be imported: "
        "ModuleNotFoundError: No module named 'ref_absent_dependency'",
        "ref_failing:load": "ref_failing:load: module 'ref_failing' cannot be imported: "
        "RuntimeError: no data here",
        "ref_value:load": "ref_value:load: 'load' is of type int; name a function or a class",
        "ref_value:loadr": "ref_value:loadr: module 'ref_value' has no 'loadr'; did you mean 'loader'?",
        "ref_valu:load": "ref_valu:load: there is no module 'ref_valu' in the job's folder or among the "
        "installed packages; did you mean 'ref_value'?",
    }
    for text, message in messages.items():
        with pytest.raises(ReferenceNotFound) as caught:
            load_reference(text)
        assert str(caught.value) == message


def test_a_checked_module_can_still_be_loaded_after_it_was_mended(folder: Path) -> None:
    assert check_reference("ref_late:load")
    write(folder, "ref_late.py", "def load(): ...")
    assert check_reference("ref_late:load") == []


def test_torch_is_checked_without_being_imported() -> None:
    code = (
        "import sys; from tune_jobs.trainers.references import check_reference; "
        "assert check_reference('torch.nn.functional:mse_loss') == []; "
        "assert not {'torch', 'ray'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_module_of_the_same_name_in_another_folder_is_another_module(tmp_path, monkeypatch):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "namesake_code.py").write_text(f"def where():\n    return {folder!r}\n")
    for folder in ("a", "b", "a"):
        with monkeypatch.context() as path:
            path.syspath_prepend(tmp_path / folder)
            assert load_reference("namesake_code:where")() == folder


DRAWING = """
import random, sys
import numpy as np
import torch

DRAWN = (random.random(), float(np.random.rand()), float(torch.rand(1)))
ARGUMENTS = list(sys.argv)
sys.argv[:] = ["spoilt"]
def load(): ...
"""


def test_an_import_draws_the_same_numbers_every_time_and_leaves_the_generators_alone(folder: Path) -> None:
    write(folder, "ref_drawing.py", DRAWING)
    drawn, after = [], []
    for seed in (1, 2):
        sys.modules.pop("ref_drawing", None)
        torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)
        before = torch.get_rng_state(), list(sys.argv)
        load_reference("ref_drawing:load")
        drawn.append(sys.modules["ref_drawing"].DRAWN)
        after.append(bool((torch.get_rng_state() == before[0]).all()) and sys.argv == before[1])
    assert drawn[0] == drawn[1]
    assert after == [True, True]


def test_a_module_that_parses_arguments_finds_none(folder: Path) -> None:
    write(folder, "ref_package/__init__.py", "")
    write(folder, "ref_package/drawing.py", DRAWING)
    load_reference("ref_package.drawing:load")
    assert [str(folder / "ref_package" / "drawing.py")] == sys.modules["ref_package.drawing"].ARGUMENTS


DEFAULTING = """
import torch
torch.set_default_dtype(torch.float64)
def load(): ...
"""


def test_a_module_that_changes_the_default_type_of_its_process_is_refused_each_time(folder: Path) -> None:
    write(folder, "ref_defaults/__init__.py", "")
    write(folder, "ref_defaults/helper.py", DEFAULTING)
    write(folder, "ref_defaults/user.py", "from ref_defaults.helper import load")
    for _ in range(2):
        with pytest.raises(
            ReferenceNotFound, match=r"user\.py changes PyTorch's default type from float32 to float64"
        ):
            load_reference("ref_defaults.user:load")
        assert torch.get_default_dtype() is torch.float32
