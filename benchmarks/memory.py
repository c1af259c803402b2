"""Memory of a tree of processes, with shared pages counted once. Linux only: it reads /proc."""

from collections.abc import Iterable
from pathlib import Path

_PROC = Path("/proc")
_ENDED = (FileNotFoundError, ProcessLookupError)  # a process may end between being listed and being read


def process_tree(root: int) -> list[int]:
    """Return a process and all its descendants, the root first.

    A process whose parent has ended belongs to init or a subreaper and is not found.

    Args:
        root: The process id to start from.

    Returns:
        Process ids; empty if the root has ended.
    """
    children: dict[int, list[int]] = {}
    alive = set()
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            try:
                children.setdefault(_parent(folder), []).append(int(folder.name))
            except _ENDED:
                continue
            alive.add(int(folder.name))
    tree = [root] if root in alive else []
    for pid in tree:  # grows while it is walked
        tree.extend(children.get(pid, []))
    return tree


def proportional_set_size(pids: Iterable[int]) -> int:
    """Return the resident memory of processes in bytes: a page that N processes map counts 1/N for each of them.

    So shared memory counts once over all processes that map it.

    Args:
        pids: Process ids; those that have ended count as nothing.

    Raises:
        PermissionError: A process belongs to another user.
    """
    return sum(_rollup(pid).get("Pss", 0) for pid in pids)


def shared_memory(pids: Iterable[int]) -> int:
    """Return the memory that processes share without a file on disk, such as Ray's object store, in bytes.

    It is a part of `proportional_set_size`: a page that N processes map counts 1/N for each.

    Args:
        pids: Process ids; those that have ended count as nothing.

    Raises:
        PermissionError: A process belongs to another user.
    """
    return sum(_rollup(pid).get("Pss_Shmem", 0) for pid in pids)


def private_set_size(pids: Iterable[int]) -> dict[int, int]:
    """Return the resident memory that belongs to each process alone, in bytes, by process id.

    A copy of data made by a trial shows here; data read from shared memory does not.

    Args:
        pids: Process ids; those that have ended are left out.

    Raises:
        PermissionError: A process belongs to another user.
    """
    sizes = {pid: _rollup(pid) for pid in pids}
    return {
        pid: sum(fields.get(name, 0) for name in ("Private_Clean", "Private_Dirty", "Private_Hugetlb"))
        for pid, fields in sizes.items()
        if fields
    }


def _parent(folder: Path) -> int:
    # The command, in parentheses, may hold spaces and parentheses itself: count from the last one.
    return int((folder / "stat").read_text().rpartition(")")[2].split()[1])


def _rollup(pid: int) -> dict[str, int]:
    """Return the fields of /proc/PID/smaps_rollup in bytes, or none if the process has ended."""
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except _ENDED:
        return {}
    fields = (line.split() for line in lines[1:])  # the first line is the range of addresses
    return {name.rstrip(":"): int(kib) * 1024 for name, kib, _unit in fields}
