"""The directions of imports: which packages a package may import, and which may import torch and ray.

Every import counts: at the top of a module, in a function, or for types alone.
"""

import ast
import functools
import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tune_jobs"

LAYERS: tuple[frozenset[str], ...] = tuple(
    frozenset(line.split())
    for line in """
    __main__
    cli
    driver
    submission report
    results
    tuning holdout
    worker tracking
    search cluster checkpoints
    scheduling selection remote
    record
    job
    trainers search_spaces
    errors problem text files location versions signals trial
    """.strip().splitlines()
)
"""The packages of `tune_jobs`, from top to bottom. A package imports from the lines below its own."""

HEIGHTS: Mapping[str, int] = {room: height for height, line in enumerate(reversed(LAYERS)) for room in line}
LEAVES = LAYERS[-1]

MAY_IMPORT_RAY = ("tune_jobs.tuning", "tune_jobs.worker", "tune_jobs.cluster", "tune_jobs.submission.client")
MAY_IMPORT_TORCH = ("tune_jobs.trainers.pytorch", "tune_jobs.worker.group", "tune_jobs.worker.train_group")


def modules_below(package: Path) -> dict[str, ast.Module]:
    """Return the dotted names and syntax trees of all modules of a package, linked packages included."""
    found = {}
    for folder in (package, *(child for child in package.iterdir() if child.is_symlink())):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(package.parent).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = ast.parse(path.read_bytes(), str(path))
    return found


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Return the modules of `tune_jobs`. Parsing takes a second, which collecting the tests does not pay."""
    return modules_below(PACKAGE)


def imported(name: str, tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Return every module that a module imports, with the line. `from package import module` names the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}:{node.lineno} imports by a relative name"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield (whole if whole in modules() else node.module), node.lineno


def room_of(module: str) -> str | None:
    """Return the package of a module of `tune_jobs`, or None for `tune_jobs` itself and for other packages."""
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] or None if package == "tune_jobs" else None


@functools.cache
def arrows() -> list[tuple[str, str, int]]:
    """Return every import as the module that imports, what it imports, and the line."""
    return [
        (name, target, line)
        for name, tree in modules().items()
        if name != "tune_jobs"  # `tune_jobs/__init__.py` imports public names when they are first used
        for target, line in imported(name, tree)
    ]


def may_import(room: str, other: str) -> bool:
    """Return whether a module of `room` may import one of `other`."""
    return room == other or HEIGHTS[other] < HEIGHTS[room] or {room, other} <= LEAVES


def within(module: str, places: tuple[str, ...]) -> bool:
    """Return whether `module` is one of `places` or below one."""
    return any(module == place or module.startswith(f"{place}.") for place in places)


def test_every_package_has_a_place_in_the_directions() -> None:
    rooms = {room for name in modules() if (room := room_of(name)) is not None}
    assert rooms == HEIGHTS.keys()


def test_imports_run_down() -> None:
    against = [
        f"{name}:{line} imports {target}"
        for name, target, line in arrows()
        if (room := room_of(name)) and (other := room_of(target)) and not may_import(room, other)
    ]
    assert against == []


def test_no_module_imports_the_public_names_from_within() -> None:
    assert [f"{name}:{line}" for name, target, line in arrows() if target == "tune_jobs"] == []


def test_imports_make_no_circle() -> None:
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for name, target, _ in arrows():
        if target in modules() and target != name and not name.startswith(f"{target}."):
            graph[name].add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other in a circle: {' -> '.join(reversed(error.args[1]))}")


@pytest.mark.parametrize(
    ("library", "places"), [("ray", MAY_IMPORT_RAY), ("torch", MAY_IMPORT_TORCH)], ids=["ray", "torch"]
)
def test_heavy_libraries_are_imported_in_their_packages_alone(library: str, places: tuple[str, ...]) -> None:
    elsewhere = [
        f"{name}:{line} imports {target}"
        for name, target, line in arrows()
        if target.partition(".")[0] == library and not within(name, places)
    ]
    assert elsewhere == []


def test_every_import_in_a_function_has_its_reason() -> None:
    """Ruff finds such imports (PLC0415). The comment that allows one also says why it is not at the top."""
    without = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in (PACKAGE, *(child for child in PACKAGE.iterdir() if child.is_symlink()))
        for path in sorted(folder.rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if "PLC0415" in line and not re.search(r"PLC0415(  #| \() *\w", line)
    ]
    assert without == [], "say why: `# noqa: PLC0415 (imports torch)`"


def test_no_module_is_known_by_the_name_of_its_folder_at_the_top() -> None:
    top = {"trainers", "search_spaces"}
    assert [f"{name}:{line}" for name, target, line in arrows() if target.partition(".")[0] in top] == []


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("from tune_jobs.driver.lifecycle import run", True),
        ("def late():\n    from tune_jobs.cli import main", True),
        ("from tune_jobs.record.events import Event", False),
        ("from tune_jobs.files import replacing", False),
    ],
)
def test_an_import_of_a_higher_layer_is_found_anywhere_in_a_module(source: str, problem: bool) -> None:
    targets = [target for target, _ in imported("tune_jobs.record.tables", ast.parse(source))]
    assert [not may_import("record", room) for target in targets if (room := room_of(target))] == [problem]
