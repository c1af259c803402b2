"""The folders in which Python finds the modules of a job, and the names that they cannot have.

A job's own modules come before installed ones of the same name: a folder `utils` beside the job is the job's,
whatever is installed. A few names are reserved: those of Python's standard library, of tune-jobs, and of the
packages that tune-jobs is built on. A file `torch.py` beside a job is never imported in place of PyTorch.
"""

import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.metadata import Distribution, PackageNotFoundError, distribution, packages_distributions
from pathlib import Path
from types import CodeType, ModuleType

from tune_jobs.signals import restore_handlers
from tune_jobs.trainers.kinds import known_kinds
from tune_jobs.trainers.references import paths_kept
from tune_jobs.trainers.user_imports import isolated_import

_REQUIREMENT = re.compile(r"[A-Za-z0-9._-]+")
"""The name at the start of a requirement such as `ray[default,tune]>=2.60`."""


class UserModuleFinder:
    """Finds top-level modules in the folders of a job, before anything that is installed, and the modules below them.

    Args:
        folders: Folders of the job's own modules, in the order of the search.
        copies: Folder of copies of them, whose code is run in place of theirs; None runs theirs.
    """

    def __init__(self, folders: Sequence[str], copies: Path | None = None) -> None:
        self.folders = list(folders)
        self._copies = copies

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the job's own module of this name, or None if there is none or the name is reserved."""
        if path is not None:
            own = isinstance(getattr(_spec_of(name.partition(".")[0]), "loader", None), _IsolatedLoader)
            return self._isolated(PathFinder.find_spec(name, path)) if own else None
        if name in sys.stdlib_module_names:
            return None
        spec = PathFinder.find_spec(name, self.folders)
        return None if spec is None or is_reserved(name, self.folders) else self._isolated(spec)

    def _isolated(self, spec: ModuleSpec | None) -> ModuleSpec | None:
        """Return the description of a module whose code will run isolated, if it has source code."""
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _IsolatedLoader(spec.loader.name, spec.loader.path, self._copy_of(spec.loader.path))
        return spec

    def _copy_of(self, path: str) -> Path | None:
        folder = next((folder for folder in self.folders if Path(path).is_relative_to(folder)), None)
        if self._copies is None or folder is None:
            return None
        copy = self._copies / Path(path).relative_to(folder)
        return copy if copy.is_file() else None


class _IsolatedLoader(SourceFileLoader):
    """Runs a module so that it draws the same random numbers in every process, and finds no arguments.

    Args:
        name: The module by its dotted name.
        path: Its file, which is its `__file__`.
        copy: The file whose code is run; None runs that of `path`.
    """

    def __init__(self, name: str, path: str, copy: Path | None = None) -> None:
        super().__init__(name, path)
        self._copy = copy
        self._loaded: tuple[int, int] | None = None

    def get_code(self, fullname: str) -> CodeType | None:
        if self._copy is None:
            return super().get_code(fullname)
        return self.source_to_code(self._copy.read_bytes(), self.path)

    def exec_module(self, module: ModuleType) -> None:
        self._loaded = self._state()
        with isolated_import(self.path):
            super().exec_module(module)

    @property
    def has_changed(self) -> bool:
        """Return whether the file whose code was run is another one now."""
        return self._loaded is not None and self._state() != self._loaded

    def _state(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._copy or self.path)
        except OSError:
            return None
        return status.st_size, status.st_mtime_ns


def _forget_changed() -> None:
    """Forget all of the user's modules if one of them has changed since it was imported.

    A module keeps what it imported from others, so one alone is not enough.
    """
    kinds = {entry.reference.partition(":")[0] for entry in known_kinds()}  # which a registration keeps
    names = [name for name in sys.modules if name not in kinds]
    loaders = {name: getattr(_spec_of(name), "loader", None) for name in names}
    own = {name: loader for name, loader in loaders.items() if isinstance(loader, _IsolatedLoader)}
    if any(loader.has_changed for loader in own.values()):
        for name in own:
            del sys.modules[name]


def _spec_of(name: str) -> ModuleSpec | None:
    return getattr(sys.modules.get(name), "__spec__", None)


def is_reserved(name: str, folders: Sequence[str] = ()) -> bool:
    """Return whether a top-level module name belongs to Python, to tune-jobs or to a package that it is built on.

    Args:
        name: Name of a module without a dot.
        folders: Folders of the job's own modules, which cannot make a name reserved.
    """
    if name in sys.stdlib_module_names or name == __name__.partition(".")[0]:
        return True
    installed = PathFinder.find_spec(name, [path for path in sys.path if path not in folders])
    return installed is not None and name in _needed_modules()


@cache
def _needed_modules() -> frozenset[str]:
    """Return the top-level modules of tune-jobs and of all packages that it requires, directly or not."""
    needed = {
        "tune-jobs",
        "ray",
        "torch",
        "optuna",
    }  # the last three also if tune-jobs runs without being installed
    waiting = list(needed)
    while waiting:
        for name in _requirements(waiting.pop()) - needed:
            needed.add(name)
            waiting.append(name)
    modules = {
        module
        for module, packages in packages_distributions().items()
        if any(_normal(package) in needed for package in packages)
    }
    return frozenset(modules)


def _requirements(package: str) -> set[str]:
    """Return the packages that an installed package may require, including those of its extras."""
    try:
        found: Distribution = distribution(package)
    except PackageNotFoundError:  # of another platform, or of an extra that is not installed
        return set()
    matches = (_REQUIREMENT.match(text) for text in found.requires or ())
    return {_normal(match[0]) for match in matches if match is not None}


def _normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def module_path(folder: Path, loaded: str | None = None) -> tuple[str, ...]:
    """Return the folders in which a job's own modules are looked for.

    Args:
        folder: The folder of the job. The current folder comes after it.
        loaded: Name of a module of the user that this process has imported, maybe from a third folder.
    """
    folders = [str(folder), str(Path.cwd())]
    if loaded is not None and not is_reserved(loaded.partition(".")[0], folders):
        folders += _folder_of(loaded)
    return tuple(dict.fromkeys(folders))


def _folder_of(name: str) -> list[str]:
    """Return the folder from which a module was imported; none if it is installed, or the program itself."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if name == "__main__" or file is None:
        return []
    path = Path(file).resolve()
    folder = path.parents[name.count(".") + (path.name == "__init__.py")]
    return [] if {"site-packages", "dist-packages"} & set(folder.parts) else [str(folder)]


@contextmanager
def importable_from(folder: Path) -> Iterator[None]:
    """Let Python find modules in `folder`, and in the current folder, inside the block.

    Modules that were imported from there before are imported again if one of them has changed.
    """
    _forget_changed()
    finder = UserModuleFinder(module_path(folder))
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:  # the user's modules may have changed the list
        sys.meta_path[:] = [other for other in sys.meta_path if other is not finder]


@contextmanager
def process_kept() -> Iterator[None]:
    """Undo what the user's code inside the block does to the process that the rest of this program would trip over.

    These are the current folder, the handlers of signals, the filters of warnings, the arguments of the command, and
    removed places of imports.
    """
    folder, arguments = Path.cwd(), list(sys.argv)
    with warnings.catch_warnings(), restore_handlers(), paths_kept():
        try:
            yield
        finally:
            os.chdir(folder)
            sys.argv[:] = arguments


class _ProcessFinder(UserModuleFinder):
    """The finder of `import_from`; a process has one at most."""


def import_from(folders: Sequence[str], copies: Path | None = None) -> None:
    """Let Python find modules in `folders`, and no longer in those of an earlier call, in this whole process.

    The folders of an `importable_from` whose block has not ended stay.

    Args:
        folders: The folders, in the order of the search.
        copies: See `UserModuleFinder`.
    """
    sys.meta_path[:] = [
        _ProcessFinder(folders, copies),
        *(finder for finder in sys.meta_path if not isinstance(finder, _ProcessFinder)),
    ]


def file_with_reserved_name(name: str) -> str | None:
    """Return the file of a job that cannot be imported because its name is reserved; None if there is none.

    It looks in the folders that `importable_from` has added.
    """
    for finder in sys.meta_path:
        if isinstance(finder, UserModuleFinder) and is_reserved(name, finder.folders):
            spec = PathFinder.find_spec(name, finder.folders)
            if spec is not None and spec.origin is not None:
                return spec.origin
    return None
