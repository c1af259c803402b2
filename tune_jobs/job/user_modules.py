"""Find and copy the user's own modules of a job, which are sent to other machines.

They are found by reading source files, not by importing: the modules that the job names, and the modules beside them
that these import. Imports by other means (`importlib`, a name made at run time) are not found.
"""

import ast
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from tune_jobs.errors import JobError
from tune_jobs.job.job import Job
from tune_jobs.job.user_code import is_reserved, module_path
from tune_jobs.search_spaces import Problem

MOST_BYTES = 100_000_000
"""The largest size of all modules together, in bytes. Ray accepts a few hundred megabytes at most."""
_LEFT_OUT = {"__pycache__", "runs"}
"""Names of folders in a package that are left out. So are hidden files and folders, which may hold keys."""


@dataclass(frozen=True)
class UserModule:
    """A module or package in one of the folders of a job."""

    path: Path
    """The file of a module, or the folder of a package."""

    @property
    def files(self) -> list[Path]:
        """Return all files of the module or package."""
        if self.path.is_file():
            return [self.path]
        return [
            path
            for path in sorted(self.path.rglob("*"))
            if path.is_file() and not any(map(_is_left_out, path.relative_to(self.path).parts))
        ]


def user_modules(job: Job) -> list[UserModule]:
    """Return the modules that the job names, and modules beside them that these import; no installed packages."""
    folders = module_path(job.folder, type(job.kind).__module__)
    return _find_with_imports(_module_names(job), [Path(folder) for folder in folders])


def copy_modules(modules: Iterable[UserModule], folder: Path) -> None:
    """Copy the modules into `folder`, from where they can be imported.

    Raises:
        JobError: The modules are too large for other machines.
    """
    files = [(path, path.relative_to(module.path.parent)) for module in modules for path in module.files]
    sizes = {path: path.stat().st_size for path, _ in files}
    if sum(sizes.values()) > MOST_BYTES:
        largest = max(sizes, key=lambda path: sizes[path])
        raise JobError(
            [
                Problem(
                    str(largest.parent),
                    f"the job's own modules have {sum(sizes.values()) / 1e6:.0f} MB, and at most "
                    f"{MOST_BYTES / 1e6:.0f} MB are sent to other machines; the largest file is {largest.name} with "
                    f"{sizes[largest] / 1e6:.0f} MB: move data out of the package",
                )
            ]
        )
    for path, name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)


@dataclass(frozen=True)
class ModulesArrived:
    """A check on the nodes of a cluster that the modules that were sent can be imported there."""

    names: tuple[str, ...]
    folders: tuple[str, ...] = ()
    """Further folders in which the modules may be."""

    def answer(self, node: str) -> str | None:
        """Return the problem on this node, or None; nothing is imported."""
        missing = [
            name for name in self.names if PathFinder.find_spec(name, [*self.folders, *sys.path]) is None
        ]
        if not missing:
            return None
        return (
            f"the job's modules {', '.join(missing)} cannot be imported there, although they were sent; if "
            "PYTHONPATH is set on that machine, keep its earlier value: PYTHONPATH=FOLDER:$PYTHONPATH"
        )


def _is_left_out(name: str) -> bool:
    return name in _LEFT_OUT or name.startswith(".")


def _module_names(job: Job) -> list[str]:
    """Return the top-level names of the modules that the job refers to, that of its kind of training included."""
    texts = [*(text for _, text in job.facts.references), *job.tracking.trackers, type(job.kind).__module__]
    names = [*job.facts.modules, *(text.partition(":")[0] for text in texts)]
    return [name.partition(".")[0] for name in names]


def _find_with_imports(names: Iterable[str], folders: Sequence[Path]) -> list[UserModule]:
    found: dict[str, UserModule] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        reserved = is_reserved(name, [str(folder) for folder in folders])
        module = None if name in found or reserved else _find(name, folders)
        if module is not None:
            found[name] = module
            waiting += [
                other for path in module.files if path.suffix == ".py" for other in _read_imports(path)
            ]
    return [found[name] for name in sorted(found)]


def _find(name: str, folders: Sequence[Path]) -> UserModule | None:
    """Find a module as Python does: a folder's package before its module, the first folder before the second."""
    for folder in folders:
        package, module = folder / name, folder / f"{name}.py"
        if (package / "__init__.py").is_file():
            return UserModule(package)
        if module.is_file():
            return UserModule(module)
        if package.is_dir() and any(package.glob("*.py")):
            return UserModule(package)
    return None


def _read_imports(path: Path) -> Iterator[str]:
    """Yield the top-level names that a source file imports; none if it cannot be parsed: its import will fail."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
