"""Rules for all tests: none may depend on the machine's speed, on other tests, or on the user who starts it."""

import ast
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
HELPERS = {ROOT / "processes.py"}
OWN_ENDS = {
    "cluster/hosts.py", "declared_nodes.py", "head_node.py", "benchmarks/test_memory.py",
    "tune_jobs/remote/test_remote_run.py", "tune_jobs/tuning/test_ray_cleanup.py",
}  # fmt: skip
"""Files that end their processes themselves: these outlive a test, or are ended in a certain way."""


@functools.cache
def trees() -> dict[Path, ast.Module]:
    """Return the syntax trees of all tests. Parsing takes a second, which collecting the tests does not pay."""
    return {path: ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}


def calls() -> Iterator[tuple[Path, ast.Call]]:
    for path, tree in trees().items():
        yield from ((path, node) for node in ast.walk(tree) if isinstance(node, ast.Call))


def places(is_bad: Callable[[ast.Call], bool]) -> set[str]:
    return {
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path, call in calls()
        if path not in HELPERS and is_bad(call)
    }


def is_limit(value: ast.expr) -> bool:
    """Return whether the node is a number of seconds that a busy machine may need. Less is a step of a loop."""
    return isinstance(value, ast.Constant) and isinstance(value.value, int | float) and value.value >= 10


def test_processes_are_started_through_the_helper_that_ends_them() -> None:
    """A process that still runs, or that was not waited for, is a warning in a later test."""

    def starts(call: ast.Call) -> bool:
        return ast.unparse(call.func) == "subprocess.Popen"

    found = {place.rpartition(":")[0] for place in places(starts)}
    assert found == OWN_ENDS, "use tests.processes.start or running"


def test_all_waiting_has_the_same_limit() -> None:
    def waits(call: ast.Call) -> bool:
        named = [keyword.value for keyword in call.keywords if keyword.arg == "timeout"]
        name = ast.unparse(call.func)
        positional = call.args[:1] if name.endswith(("process.wait", ".join")) else []
        return any(map(is_limit, [*named, *positional]))

    assert places(waits) == set(), "use tests.processes.PATIENCE"


def test_deadlines_have_the_same_limit() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp)
        and ast.unparse(node.left) == "time.monotonic()"
        and isinstance(node.right, ast.Constant)
    }
    assert found == set(), "use tests.processes.wait_until, or PATIENCE"


@pytest.mark.parametrize("name", ["os.chdir", "sys.path.insert", "warnings.simplefilter", "signal.signal"])
def test_state_of_the_process_is_changed_through_monkeypatch(name: str) -> None:
    allowed = {
        "faults/command_line.py",
        "cluster/first_process.py",
        "conftest.py",
        "tune_jobs/test_signals.py",
    }
    found = {place.rpartition(":")[0] for place in places(lambda call: ast.unparse(call.func) == name)}
    assert found <= allowed, "the next test would see it"
