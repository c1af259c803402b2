"""References of the form `package.module:function`: loading them, and checking them without running code."""

import ast
import importlib
import importlib.util
import os
import pkgutil
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any
from zipimport import zipimporter

from tune_jobs.text import did_you_mean
from tune_jobs.trainers.errors import ReferenceNotFound
from tune_jobs.trainers.settings import REFERENCE
from tune_jobs.trainers.user_imports import as_program, isolated_import


def load_reference(text: str) -> Callable[..., Any]:
    """Import the module of a `package.module:function` and return the function.

    The caller makes the job's folder importable before.

    Raises:
        ReferenceNotFound: The text is no reference, the module cannot be imported, or the name is missing
            or cannot be called.
    """
    if problem := _form_problem(text):
        raise ReferenceNotFound(problem)
    module_name, name = text.split(":")
    root, loaded = module_name.partition(".")[0], set(sys.modules)
    _forget_namesake(root)
    try:
        if (module := sys.modules.get(module_name)) is None:
            with paths_kept(), isolated_import(_file_of(module_name)):
                module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # the user's code may do anything
        _forget(root, kept=loaded)
        absent = error.name if isinstance(error, ModuleNotFoundError) else None
        if absent and f"{module_name}.".startswith(f"{absent}."):
            reason = "; ".join(check_reference(text)) or f"{text}: there is no module {absent!r}"
            raise ReferenceNotFound(reason) from error
        raise ReferenceNotFound(
            f"{text}: module {module_name!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    try:
        found = getattr(module, name)
    except AttributeError as error:
        raise ReferenceNotFound(_missing_name(text, module_name, name, vars(module))) from error
    if not callable(found):
        kind = type(found).__name__
        raise ReferenceNotFound(f"{text}: {name!r} is of type {kind}; name a function or a class")
    return found  # type: ignore[no-any-return]  # a module's attribute has no type


@contextmanager
def calling(text: str) -> Iterator[None]:
    """Let `sys.argv` be that of a program without arguments while the function of a loaded reference runs."""
    with as_program(getattr(sys.modules.get(text.partition(":")[0]), "__file__", None)):
        yield


@contextmanager
def paths_kept() -> Iterator[None]:
    """Keep all places that Python imports from, if code of the user removes some of them inside the block.

    Places that it adds stay. Without this, later imports of this program, and of Python itself, would fail.
    """
    before = list(sys.path)
    try:
        yield
    finally:
        sys.path.extend(path for path in before if path not in sys.path)


def _forget_namesake(root: str) -> None:
    """Forget a loaded module if `sys.path` now leads to another file of that name, such as another job's."""
    loaded = getattr(sys.modules.get(root), "__file__", None)
    spec = _find_top(root)
    if (
        loaded is None
        or spec is None
        or spec.origin is None
        or os.path.realpath(loaded) == os.path.realpath(spec.origin)
    ):
        return
    _forget(root)


def _forget(root: str, kept: Collection[str] = ()) -> None:
    """Forget a loaded top-level module and all below it, except the modules `kept`."""
    for name in [name for name in sys.modules if name == root or name.startswith(f"{root}.")]:
        if name not in kept:
            del sys.modules[name]


def check_reference(text: str) -> list[str]:
    """Return the problems of a reference, found by reading source files. Nothing is imported or executed.

    Modules without source (built in, compiled) are accepted, and so are names that only exist once the module runs
    (`from x import *`, a module-level `__getattr__`). A module without a file, which another module creates when it is
    imported (`os.path`), is not found.
    """
    if problem := _form_problem(text):
        return [problem]
    importlib.invalidate_caches()
    module_name, name = text.split(":")
    search: list[str] | None = None
    spec: ModuleSpec | None = None
    passed: list[str] = []
    for segment in module_name.split("."):
        if passed and search is None:
            return [f"{text}: {'.'.join(passed)!r} is a module, not a package; it has no module {segment!r}"]
        spec = _find(segment, search)
        if spec is None:
            return [_missing_module(text, passed, segment, search)]
        passed.append(segment)
        search = None if spec.submodule_search_locations is None else list(spec.submodule_search_locations)
    assert spec is not None
    if search is not None and not spec.has_location:
        return [f"{text}: {module_name!r} is a folder without __init__.py; name a module in it"]
    return _name_problems(text, module_name, name, spec)


def _form_problem(text: str) -> str | None:
    if re.fullmatch(REFERENCE, text) and ".." not in text and ".:" not in text:
        return None
    return f"{text!r} is no reference; write package.module:function, such as my_project.data:load"


def _find(segment: str, search: list[str] | None) -> ModuleSpec | None:
    """Find a segment below its parent's folders. Finding `a.b` by its whole name would import `a`."""
    return _find_top(segment) if search is None else PathFinder.find_spec(segment, search)


def _find_top(name: str) -> ModuleSpec | None:
    """Find the place from which a top-level module would be imported now, whatever is loaded under its name."""
    finders = (getattr(finder, "find_spec", None) for finder in sys.meta_path)
    return next(
        (spec for find in finders if find is not None and (spec := find(name, None)) is not None), None
    )


def _file_of(module_name: str) -> str | None:
    """Return the file of a module, found without importing its packages; None if it has none."""
    search: list[str] | None = None
    spec: ModuleSpec | None = None
    for segment in module_name.split("."):
        spec = _find(segment, search)
        if spec is None:
            return None
        search = None if spec.submodule_search_locations is None else list(spec.submodule_search_locations)
    return None if spec is None else spec.origin


def _missing_module(text: str, passed: list[str], segment: str, search: list[str] | None) -> str:
    if search is None:
        search = [*(path for finder in sys.meta_path for path in getattr(finder, "folders", ())), *sys.path]
    hint = did_you_mean(segment, (module.name for module in pkgutil.iter_modules(search)), cutoff=0.7)
    if passed:
        return f"{text}: package {'.'.join(passed)!r} has no module {segment!r}{hint}"
    return f"{text}: there is no module {segment!r} in the job's folder or among the installed packages{hint}"


def _missing_name(text: str, module_name: str, name: str, known: Iterable[str]) -> str:
    return f"{text}: module {module_name!r} has no {name!r}{did_you_mean(name, known)}"


def _name_problems(text: str, module_name: str, name: str, spec: ModuleSpec) -> list[str]:
    if not isinstance(spec.loader, InspectLoader | zipimporter):
        return []
    try:
        source = spec.loader.get_source(spec.name)
        tree = None if source is None else ast.parse(source)
    except (ImportError, SyntaxError, ValueError, OSError) as error:
        where = f" in line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        return [f"{text}: {spec.origin} cannot be read as Python{where}: {error.args[0]}"]
    if tree is None:
        return []
    names = set(_top_level_names(tree.body))
    if names & {name, "*", "__getattr__"}:
        return []
    return [_missing_name(text, module_name, name, names)]


def _top_level_names(body: Iterable[ast.AST]) -> Iterator[str]:
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Import():
                yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
            case ast.ImportFrom():
                yield from (alias.asname or alias.name for alias in node.names)
            case ast.Name(ctx=ast.Store()):
                yield node.id
            case ast.Lambda() | ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                pass  # their names are their own
            case _:
                yield from _top_level_names(ast.iter_child_nodes(node))
