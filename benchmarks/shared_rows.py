"""Measure the memory of eight trials at once on a large data set and on a tiny one.

Both jobs train a linear model of 1,000 features, eight trials at a time on two CPUs. The additional
memory of the large one, over all processes of the run and with shared pages counted once, is divided by the additional
bytes of its training and validation rows: this is the number of copies of the rows. Shared memory is shown separately.
Besides it, a worker holds its batches and the freed memory that the allocator of the C library keeps.

A batch is 1 MB with the large data set, and a single row with the tiny one: its epochs then take a similar time, and
the journals of the two runs have a similar length. Each run is interrupted after its measurement.
"""

import json
import signal
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.memory import private_set_size, process_tree, proportional_set_size, shared_memory
from benchmarks.runs import journal_so_far, private_folder, started, tune_jobs_command
from tune_jobs.record.events import EpochsReported, Event, RunStarted, TrialEnded

TRIALS = 8
FEATURES = 1_000
LARGE_ROWS = 100_000
"""Rows of the large data set: 400 MB as float32."""
TINY_ROWS = 1_000
LARGE_BATCH = 250
TARGET_COPIES = 1.3

_SAMPLES = 10
_SECONDS_BETWEEN_SAMPLES = 0.5
_SECONDS_UNTIL_ALL_TRAIN = 300.0
_MB = 1e6


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Memory in bytes while all trials train; medians over the samples."""

    rows: int
    """Bytes of the training and validation rows, features and target."""
    proportional: int
    """Bytes of all processes of the run, shared pages counted once."""
    shared: int
    """Bytes of these in Ray's object store."""
    driver: int
    """Private bytes of the process that reads the data."""
    workers: int
    """Private bytes of the processes of the trials, together."""
    highest: int
    """The highest `proportional` since the start of the process, which includes reading and dividing the data."""


@dataclass(frozen=True, kw_only=True)
class Copies:
    """The additional memory of a large run over a tiny one, in multiples of the additional bytes of its rows."""

    total: float
    """Copies in all memory of all processes."""
    shared: float
    """Copies in Ray's object store."""
    workers: float
    """Copies in the private memory of the processes of the trials, together."""


def count_copies(large: Usage, tiny: Usage) -> Copies:
    """Return the number of copies of its rows that the large run holds. The tiny run shows the rest of its memory."""
    rows = large.rows - tiny.rows
    return Copies(
        total=(large.proportional - tiny.proportional) / rows,
        shared=(large.shared - tiny.shared) / rows,
        workers=(large.workers - tiny.workers) / rows,
    )


def training_workers(events: Sequence[Event]) -> dict[str, int]:
    """Return the process ids of trials that have reported epochs and have not ended, by trial."""
    workers: dict[str, int] = {}
    for event in events:
        if isinstance(event, EpochsReported):
            workers[event.trial_id] = int(event.worker.rpartition(":")[2])
        elif isinstance(event, TrialEnded):
            workers.pop(event.trial_id, None)
    return workers


def usage_table(measured: dict[str, Usage]) -> str:
    """Return a Markdown table in MB (1,000,000 bytes)."""
    rows = [
        "| MB | rows of training and validation | all processes | shared memory of these | driver's own "
        "| own of the 8 workers | all processes, highest |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in measured.items():
        sizes = (one.rows, one.proportional, one.shared, one.driver, one.workers, one.highest)
        rows.append(f"| {name} | {' | '.join(f'{size / _MB:.0f}' for size in sizes)} |")
    return "\n".join(rows)


def report(repeats: int) -> str:
    """Measure and return a Markdown section. A round takes about two minutes."""
    parts = [
        "## Memory",
        "Eight trials at a time, while all train; private memory is what no other process maps.",
    ]
    found = []
    for _ in range(repeats):
        large, tiny = measure(LARGE_ROWS, LARGE_BATCH), measure(TINY_ROWS, 1)
        found.append(count_copies(large, tiny))
        parts += [
            usage_table({"large": large, "tiny": tiny}),
        ]
    total, shared, workers = (
        statistics.median(values)
        for values in zip(*((c.total, c.shared, c.workers) for c in found), strict=True)
    )
    parts.append(
        f"Large less tiny, in copies of the rows: {total:.2f} in all (wanted: {TARGET_COPIES:g} or fewer; "
        f"{TRIALS} and more if each trial had its own), of which {shared:.2f} in shared memory and {workers:.2f} "
        "in the private memory of the workers."
    )
    return "\n\n".join(parts)


def measure(rows: int, batch_size: int) -> Usage:
    """Run a job on `rows` generated rows until all its trials train, and measure its memory.

    Args:
        rows: The rows of the whole data set. 60 % of them train, 20 % validate.
        batch_size: The rows of a training step.

    Raises:
        SystemExit: The run failed, or its trials did not overlap.
    """
    with private_folder() as folder:
        write_rows(folder / "rows.npz", rows)
        job = folder / "job.yaml"
        job.write_text(json.dumps(_job(batch_size)))  # JSON is YAML
        storage = folder / "runs"
        with started(tune_jobs_command(job, storage), folder) as process:
            usage = _measure(process, storage)
            process.send_signal(signal.SIGINT)
    return usage


def write_rows(path: Path, rows: int) -> None:
    """Write normally distributed x [rows, FEATURES] and y [rows], both float32."""
    random = np.random.default_rng(0)
    x = random.standard_normal((rows, FEATURES), dtype=np.float32)
    np.savez(path, x=x, y=x[:, 0] + random.standard_normal(rows, dtype=np.float32))


def _job(batch_size: int) -> dict[str, object]:
    return {
        "name": "shared-rows",
        "data": {"source": "rows.npz", "split": {"train": 0.6, "validation": 0.2, "test": 0.2}},
        "model": {"name": "linear"},
        "training": {"max_epochs": 10_000, "loss": "mse"},
        "search": {
            "space": {"lr": {"low": 1e-5, "high": 1e-4, "log": True}, "batch_size": batch_size},
            "method": "random",
            "trials": TRIALS,
        },
        "scheduler": {"method": "none"},
        "resources": {"cpus_per_trial": 0.25, "max_concurrent": TRIALS},
    }


def _measure(process: subprocess.Popen[bytes], storage: Path) -> Usage:
    proportional: list[int] = []
    shared: list[int] = []
    drivers: list[int] = []
    workers: list[int] = []
    highest, events = 0, list[Event]()
    deadline = time.monotonic() + _SECONDS_UNTIL_ALL_TRAIN
    while len(proportional) < _SAMPLES:
        if process.poll() is not None or time.monotonic() > deadline:
            most = len(training_workers(events))
            raise SystemExit(
                f"No result: only {most} of {TRIALS} trials trained when the run ended or "
                f"{_SECONDS_UNTIL_ALL_TRAIN:g} s were over (exit code {process.poll()})."
            )
        time.sleep(_SECONDS_BETWEEN_SAMPLES)
        events = journal_so_far(storage)
        pids = training_workers(events).values()
        family = process_tree(process.pid)
        everything = proportional_set_size(family)
        highest = max(highest, everything)
        if len(pids) == TRIALS:
            private = private_set_size([process.pid, *pids])
            proportional.append(everything)
            shared.append(shared_memory(family))
            drivers.append(private.pop(process.pid, 0))
            workers.append(sum(private.values()))
    return Usage(
        rows=_row_bytes(events),
        proportional=int(statistics.median(proportional)),
        shared=int(statistics.median(shared)),
        driver=int(statistics.median(drivers)),
        workers=int(statistics.median(workers)),
        highest=highest,
    )


def _row_bytes(events: Sequence[Event]) -> int:
    begun = next(event for event in events if isinstance(event, RunStarted))
    return (begun.rows["train"] + begun.rows["validation"]) * (FEATURES + 1) * 4
