"""The files of the user's own code that a job runs: their SHA-256, their copies, and whether they have changed.

They are found by reading source files, not by importing: the modules of the references, and the modules that these
import, one by one. A module of a package that nothing imports does not count, nor does an import by other means
(`importlib`, a name made at run time).
"""

import ast
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path

from tune_jobs.files import fingerprint_of
from tune_jobs.job.job import Job
from tune_jobs.job.user_code import is_reserved, module_path

FOLDER = "modules"
"""Folder of the copies, in the folder of a run. The fingerprint of a file has the path of its copy as its name."""


@dataclass(frozen=True)
class _Module:
    name: str
    """The module by its dotted name."""
    top: Path
    """The folder in which its first package is."""
    file: Path

    @property
    def key(self) -> str:
        return f"{FOLDER}/{self.file.relative_to(self.top).as_posix()}"

    @property
    def package(self) -> str:
        """Return the package that relative imports start from."""
        return self.name if self.file.name == "__init__.py" else self.name.rpartition(".")[0]


def code_files(job: Job, more: Iterable[str] = ()) -> dict[str, Path]:
    """Return the source files of the user's code that the trainings of the job run, by their keys.

    Args:
        job: The job.
        more: Keys of files that count too if they are there, whatever imports them.
    """
    folders = [Path(folder) for folder in module_path(job.folder, type(job.kind).__module__)]
    names = [*job.facts.modules, *(text.partition(":")[0] for _, text in job.facts.references)]
    return _closure([*names, type(job.kind).__module__, *map(_name_of, more)], folders)


def code_fingerprints(job: Job) -> dict[str, str]:
    """Return the SHA-256 of these files, by their keys."""
    return {key: fingerprint_of(file) for key, file in code_files(job).items()}


def recorded_code(fingerprints: Mapping[str, str]) -> dict[str, str]:
    """Return those of a run's fingerprints that are of its code."""
    return {key: value for key, value in fingerprints.items() if key.startswith(f"{FOLDER}/")}


def copy_code(job: Job, run_folder: Path) -> None:
    """Copy the files into the folder of a run, from where they can be imported."""
    for key, file in code_files(job).items():
        (run_folder / key).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, run_folder / key)


@dataclass(frozen=True)
class CodeNow:
    """The code of a run as it is now, compared with what it was."""

    changed: Mapping[str, Path]
    """Files that have other content now, by their keys."""
    missing: tuple[str, ...]
    """Keys of files that are no longer there."""
    none: bool
    """Whether all files are missing: the run was moved, or its code was."""


def code_now(job: Job, recorded: Mapping[str, str]) -> CodeNow:
    """Compare the code of a job with the fingerprints that `recorded_code` returned."""
    files = code_files(job, recorded) if recorded else {}
    changed = {
        key: files[key]
        for key, value in recorded.items()
        if key in files and fingerprint_of(files[key]) != value
    }
    missing = tuple(key for key in recorded if key not in files)
    return CodeNow(changed, missing, none=bool(recorded) and len(missing) == len(recorded))


def are_copies_sound(recorded: Mapping[str, str], run_folder: Path) -> bool:
    """Return whether the folder of a run has all copies, unchanged."""
    files = {key: run_folder / key for key in recorded}
    return all(file.is_file() and fingerprint_of(file) == recorded[key] for key, file in files.items())


def _name_of(key: str) -> str:
    return key.removeprefix(f"{FOLDER}/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _closure(names: Iterable[str], folders: Sequence[Path]) -> dict[str, Path]:
    """Return the files of these modules, of their packages, and of all that these import."""
    found: dict[str, Path] = {}
    tops: dict[str, Sequence[Path]] = {}
    waiting, seen = list(names), set[str]()
    while waiting:
        name = waiting.pop()
        if not name or name in seen:
            continue
        seen.add(name)
        root = name.partition(".")[0]
        if root not in tops:
            tops[root] = _tops_of(root, folders)
        module = _find(name, tops[root])
        if module is not None and module.key not in found:
            found[module.key] = module.file
            waiting += [name.rpartition(".")[0], *_imports(module)]
    return dict(sorted(found.items()))


def _find(name: str, tops: Iterable[Path]) -> _Module | None:
    """Return the module of this name below one of the folders; None if it has no source file."""
    for top in tops:
        path = top.joinpath(*name.split("."))
        for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if file.is_file():
                return _Module(name, top, file)
    return None


def _tops_of(root: str, folders: Sequence[Path]) -> Sequence[Path]:
    """Return the folders in which a top-level module of the user may be; none if the name is a library's.

    As for Python, the first folder with a package or module is the only one. Folders without `__init__.py` are united.
    """
    if root == "__main__" or is_reserved(root, [str(folder) for folder in folders]):
        return []
    for folder in folders:
        if (folder / root / "__init__.py").is_file() or (folder / f"{root}.py").is_file():
            return [folder]
    if united := [folder for folder in folders if (folder / root).is_dir()]:
        return united
    spec = PathFinder.find_spec(root, [path for path in sys.path if not _is_library(path)])
    if spec is None or spec.origin is None or not spec.has_location:
        return []
    file = Path(spec.origin)
    return [file.parents[1] if file.name == "__init__.py" else file.parent]


@cache
def _is_library(path: str) -> bool:
    """Return whether a place of imports holds Python's own modules, or installed ones."""
    libraries = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    parts = set(Path(path).parts)
    return bool({"site-packages", "dist-packages", "lib-dynload"} & parts) or path in libraries


def _imports(module: _Module) -> Iterator[str]:
    """Yield the names that may be modules which a source file imports; none if it cannot be parsed."""
    try:
        tree = ast.parse(module.file.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base_of(node, module.package)
            if base is not None:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")


def _base_of(node: ast.ImportFrom, package: str) -> str | None:
    """Return the module that a `from … import` names; None if it leads out of the packages."""
    if not node.level:
        return node.module
    parts = package.split(".")
    if not package or node.level > len(parts):
        return None
    base = ".".join(parts[: len(parts) - node.level + 1])
    return f"{base}.{node.module}" if node.module else base
