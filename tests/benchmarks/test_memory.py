import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.memory import private_set_size, process_tree, proportional_set_size, shared_memory

SIZE = 32 * 2**20
# Touches each page of a mapping, its own or of a file, and waits for its input to close.
TOUCH = f"""
import mmap, sys
file = None if sys.argv[1] == "own" else open(sys.argv[1], "r+b")
memory = mmap.mmap(file.fileno() if file else -1, {SIZE})
for start in range(0, {SIZE}, mmap.PAGESIZE):
    memory[start] = 1
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def touching(*sources: str) -> Iterator[list[int]]:
    """Yield processes that each hold SIZE bytes: "own", or those of a shared file."""
    processes = [
        subprocess.Popen([sys.executable, "-c", TOUCH, source], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for source in sources
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            process.communicate()


def shared_file(folder: Path) -> str:
    path = folder / "shared"
    path.write_bytes(bytes(SIZE))
    return str(path)


def test_a_tree_holds_the_root_and_all_that_descends_from_it() -> None:
    with touching("own") as (child,):
        tree = process_tree(os.getpid())
        assert tree[0] == os.getpid()
        assert child in tree
        assert process_tree(child) == [child]
    assert process_tree(child) == []


def test_shared_memory_counts_once_over_all_processes_that_map_it(tmp_path: Path) -> None:
    with touching("own", "own") as pids:
        apart = proportional_set_size(pids)
    source = shared_file(tmp_path)
    with touching(source, source) as pids:
        together = proportional_set_size(pids)

    assert 0.8 * SIZE < apart - together < 1.2 * SIZE


def test_private_memory_leaves_out_what_is_shared(tmp_path: Path) -> None:
    source = shared_file(tmp_path)
    with touching("own", source, source) as (own, *sharing):
        private = private_set_size([own, *sharing])

    for pid in sharing:
        assert 0.8 * SIZE < private[own] - private[pid] < 1.2 * SIZE


def test_processes_that_have_ended_count_as_nothing() -> None:
    with touching("own") as (ended,):
        pass

    assert proportional_set_size([ended]) == 0
    assert shared_memory([ended]) == 0
    assert private_set_size([ended]) == {}
