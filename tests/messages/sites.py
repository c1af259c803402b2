"""The texts of the packages that people may read, found in the source, and which of them the snapshots show."""

import ast
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("search_spaces", "trainers", "tune_jobs")

_WORDS = re.compile(r"[A-Za-z,;:.)'`] ['`(]?[a-z{\0]")
"""What a sentence has, and a name, a pattern or a format has not."""
_BETWEEN = 400
"""Characters that a value in a text may take."""

Parts = tuple[str, ...]
"""The constant parts of one text, with values between them."""


def source_files() -> list[Path]:
    """The modules of the packages, each once, however the tree links to them."""
    files = (path.resolve() for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py"))
    return sorted(set(files))


def texts() -> list[Parts]:
    """All texts with words in them; docstrings are left out."""
    found = {parts for path in source_files() for parts in _texts(ast.parse(path.read_text("utf-8")))}
    return sorted(found)


def error_classes() -> set[str]:
    """Names of the exception classes that the packages define."""
    bases: dict[str, list[str]] = {}
    for path in source_files():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                bases[node.name] = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
    found: set[str] = set()
    while new := {
        name
        for name, above in bases.items()
        if name not in found and any(base in found or base.endswith(("Error", "Exception")) for base in above)
    }:
        found |= new
    return found


def shown(parts: Parts, said: str) -> bool:
    """Whether `said`, with single blanks, has this text, with something short between its parts."""
    constant = [" ".join(part.split()) for part in parts]
    if not all(part in said for part in constant):
        return False
    pattern = f".{{0,{_BETWEEN}}}?".join(re.escape(part) for part in constant if part)
    return re.search(pattern, said) is not None


def template(parts: Parts) -> str:
    """The text in one line, with `{}` for each value."""
    return "{}".join(parts).replace("\n", "\\n")


def _texts(tree: ast.Module) -> Iterator[Parts]:
    skipped = set(_skipped(tree))
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        parts = _parts(node)
        if parts is not None and _WORDS.search("\0".join(parts)):
            yield parts


def _skipped(tree: ast.Module) -> Iterator[int]:
    """Strings that are statements, which are docstrings, and the parts of f-strings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield id(node.value)
        if isinstance(node, ast.JoinedStr):
            yield from (id(value) for value in node.values if isinstance(value, ast.Constant))


def _parts(node: ast.AST) -> Parts | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return (node.value,)
    if not isinstance(node, ast.JoinedStr):
        return None
    return _joined(node.values)


def _joined(values: Sequence[ast.expr]) -> Parts:
    """Constants side by side are one part; a value at an end, or beside another value, has an empty part there."""
    parts = [""]
    for before, value in pairwise([None, *values]):
        if isinstance(value, ast.Constant):
            joined = parts[-1] if before is None or isinstance(before, ast.Constant) else ""
            parts[-1] = joined + str(value.value)
        else:
            parts.append("")
    return tuple(parts)
