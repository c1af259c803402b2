"""Measurements of candidates side by side, and tables of them with a description of the machine."""

import importlib.metadata
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

Value = TypeVar("Value")

_PACKAGES = ("torch", "ray", "optuna")


def side_by_side(candidates: Mapping[str, Callable[[], Value]], repeats: int) -> dict[str, list[Value]]:
    """Measure each candidate once a round: a slow phase of the machine then affects all of them.

    Every second round runs in reverse order, so no candidate always follows the same one.

    Args:
        candidates: Functions by name. Each makes one measurement and returns its value.
        repeats: The number of rounds, at least 1.

    Returns:
        Values by name, one per round, in the order of the rounds.

    Raises:
        ValueError: There is no candidate, or no round.
    """
    if not candidates or repeats < 1:
        raise ValueError(
            f"Nothing to measure: {len(candidates)} candidates and {repeats} repeats were given. "
            "Give at least one of each."
        )
    values: dict[str, list[Value]] = {name: [] for name in candidates}
    for number in range(repeats):
        for name in list(candidates)[:: 1 if number % 2 == 0 else -1]:
            values[name].append(candidates[name]())
    return values


def ratio_table(values: Mapping[str, Sequence[float]], *, baseline: str, unit: str) -> str:
    """Return a Markdown table of values measured side by side, one row per candidate.

    Ratios are taken within a round, so a slow round cancels out.

    Args:
        values: The values that `side_by_side` returned.
        baseline: The candidate whose values divide all others.
        unit: The unit of the values, for the heading.

    Returns:
        The table: the median value and the median ratio, each with its lowest and highest.

    Raises:
        ValueError: The baseline was not measured, or the candidates differ in their number of rounds.
    """
    if baseline not in values:
        raise ValueError(f"The baseline {baseline!r} was not measured. Measured: {', '.join(values)}.")
    if len({len(measured) for measured in values.values()}) > 1:
        rounds = ", ".join(f"{name}: {len(measured)}" for name, measured in values.items())
        raise ValueError(f"Ratios need the same rounds of every candidate, but there are {rounds}.")
    rows = [
        f"| Candidate | {unit}, median | lowest to highest | times {baseline}, median | lowest to highest |",
        "|---|---|---|---|---|",
    ]
    for name, measured in values.items():
        ratios = [value / base for value, base in zip(measured, values[baseline], strict=True)]
        rows.append(
            f"| {name} | {statistics.median(measured):.4g} | {min(measured):.4g} to {max(measured):.4g} "
            f"| {statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} |"
        )
    return "\n".join(rows)


def machine_shape() -> dict[str, str]:
    """Return the facts that a reader needs to compare numbers: cores, memory, processor, versions. Linux only."""
    memory_kib = int(_first_field(Path("/proc/meminfo"), "MemTotal").split()[0])
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory_kib / 2**20:.1f} GiB",
        "processor": _first_field(Path("/proc/cpuinfo"), "model name") or platform.machine(),
        "python": platform.python_version(),
        **{name: _installed_version(name) for name in _PACKAGES},
    }


def machine_line(shape: Mapping[str, str]) -> str:
    """Return `machine_shape` as one line of text."""
    return ", ".join(f"{name} {value}" for name, value in shape.items())


def _first_field(file: Path, name: str) -> str:
    """Return the value of the first line `name : value`, or "" if there is none, as for the processor on ARM."""
    for line in file.read_text().splitlines():
        field, _, value = line.partition(":")
        if field.strip() == name:
            return value.strip()
    return ""


def _installed_version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
