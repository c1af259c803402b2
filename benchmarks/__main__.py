"""Measure on this machine and print the results as Markdown: `python -m benchmarks [MEASUREMENT …]`."""

import argparse
import os
from collections.abc import Callable
from importlib import import_module

from benchmarks.timing import machine_line, machine_shape

MEASUREMENTS = {
    "whole_run": "benchmarks.whole_run",
    "loop": "benchmarks.textbook_loop",
    "overhead": "benchmarks.overhead",
    "memory": "benchmarks.shared_rows",
    "idle": "benchmarks.idle",
    "reliability": "benchmarks.reliability",
    "tracking": "benchmarks.tracking",
    "scaling": "benchmarks.scaling",
    "many_trials": "benchmarks.many_trials",
}
REPEATS = {
    "whole_run": 1,
    "loop": 5,
    "overhead": 1,
    "memory": 1,
    "idle": 5,
    "reliability": 3,
    "tracking": 2,
    "scaling": 1,
    "many_trials": 1,
}


def main() -> None:
    """Print one section per measurement, each as soon as it is ready."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures, side by side.")
    parser.add_argument(
        "measurements", nargs="*", metavar="MEASUREMENT", help=f"{', '.join(MEASUREMENTS)} (default: all)"
    )
    parser.add_argument(
        "--repeats",
        type=int,
        metavar="N",
        help="rounds of each (default: " + ", ".join(f"{n} of {name}" for name, n in REPEATS.items()) + ")",
    )
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.measurements if name not in MEASUREMENTS]:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(MEASUREMENTS)}")
    print(f"# Measurements\n\n{machine_line(machine_shape())}", flush=True)
    for name in arguments.measurements or MEASUREMENTS:
        report: Callable[[int], str] = import_module(MEASUREMENTS[name]).report
        load_before = os.getloadavg()[0]
        section = report(REPEATS[name] if arguments.repeats is None else arguments.repeats)
        loads = f"{load_before:.1f} before and {os.getloadavg()[0]:.1f} after"
        print(f"\n{section}\n\nLoad of the machine (mean of a minute): {loads}.", flush=True)


if __name__ == "__main__":
    main()
