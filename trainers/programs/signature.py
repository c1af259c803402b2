"""Read which parameters a function takes from its source file, without importing it."""

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Signature:
    """The names of a function's parameters."""

    names: Sequence[str]
    required: Sequence[str]
    takes_any: bool
    """Whether it takes any name, by `**values`."""


def file_of(reference: str, folder: Path) -> Path | None:
    """Return the source file of the module that a reference names; None if the folder does not have it."""
    parts = reference.partition(":")[0].split(".")
    candidates = (folder.joinpath(*parts, "__init__.py"), folder.joinpath(*parts).with_suffix(".py"))
    return next((file for file in candidates if file.is_file()), None)


def signature_of(reference: str, folder: Path) -> Signature | None:
    """Return the parameters of the function that a reference names; None if its file does not define it by `def`.

    Raises:
        SyntaxError: The file is no Python.
    """
    file = file_of(reference, folder)
    if file is None:
        return None
    name = reference.partition(":")[2]
    for node in reversed(ast.parse(file.read_bytes(), str(file)).body):
        if isinstance(node, ast.FunctionDef) and node.name == name and not node.decorator_list:
            return _signature(node.args)
    return None


def _signature(arguments: ast.arguments) -> Signature:
    positional = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
    optional = len(arguments.defaults)
    required = positional[: len(positional) - optional]
    keywords = [each.arg for each in arguments.kwonlyargs]
    required += [
        each.arg
        for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if default is None
    ]
    return Signature([*positional, *keywords], required, arguments.kwarg is not None)


def names_in(file: Path) -> set[str] | None:
    """Return the names that a module defines at its top; None if it also takes names by `import *`.

    Raises:
        SyntaxError: The file is no Python.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_bytes(), str(file))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return None if "*" in names else names
