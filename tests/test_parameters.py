"""Functions take few parameters: five at most, keyword-only ones included."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tune_jobs"
MOST = 5
"""The most parameters of a function, without `self` and `cls`."""
STRICT = ("driver", "tuning", "scheduling")
"""Packages without an exception."""
EXCEPTIONS = {
    "trainers/early_stopping.py: decide": "a pure rule: everything that it depends on is a parameter",
    "trainers/pytorch/explicit_gradients.py: _elementwise": "two of its parameters are bound in a table",
    "trainers/pytorch/schedules.py: Schedule.__init__": "PyTorch's schedules need each of these numbers",
    "trainers/pytorch/schedules.py: _build": "PyTorch's schedules need each of these numbers",
}
"""Functions of the other packages that may have more, each with the reason."""


def functions_in(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Return all functions and methods of a module with their qualified names."""

    def visit(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{prefix}{child.name}", child
                yield from visit(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.ClassDef):
                yield from visit(child, f"{prefix}{child.name}.")
            else:
                yield from visit(child, prefix)

    yield from visit(ast.parse(path.read_bytes(), str(path)), "")


def parameters_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Return the names of a function's parameters. `*rest` and `**rest` are one each."""
    given = function.args
    rest = [one for one in (given.vararg, given.kwarg) if one is not None]
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs, *rest)]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


@functools.cache
def wide_functions() -> dict[str, int]:
    """Return the functions with too many parameters, as `folder/module.py: name`."""
    links = [path for path in PACKAGE.iterdir() if path.is_symlink()]
    modules = [path for folder in (PACKAGE, *links) for path in sorted(folder.rglob("*.py"))]
    return {
        f"{path.relative_to(PACKAGE)}: {name}": len(parameters_of(function))
        for path in modules
        for name, function in functions_in(path)
        if len(parameters_of(function)) > MOST
    }


def test_packages_that_run_trials_have_narrow_functions_alone() -> None:
    assert [name for name in wide_functions() if name.split("/")[0] in STRICT] == []


def test_other_wide_functions_are_known_by_name() -> None:
    others = {name for name in wide_functions() if name.split("/")[0] not in STRICT}
    assert others == EXCEPTIONS.keys(), "make them narrow, or take what is narrow by now off the list"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("def f(a, /, b, *c, d, e=1, **g): ...", ["a", "b", "d", "e", "c", "g"]),
        ("class A:\n    def f(self, a): ...", ["a"]),
        ("class A:\n    @classmethod\n    async def f(cls, *, a): ...", ["a"]),
        ("def f():\n    def g(a): ...", ["a"]),
        ("if True:\n    def f(a): ...", ["a"]),
    ],
)
def test_every_parameter_counts(source: str, names: list[str], tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(source)
    *_, (_, function) = functions_in(tmp_path / "module.py")
    assert parameters_of(function) == names
