"""Measure a whole run of 64 trials, from the start of the process to its exit, and Ray Tune as documented.

The rows (by number and scaling), model, space, epochs and ASHA's settings are those of documented_ray_tune.py.
Each side trains two trials at a time. The sides differ in the rows of each part and in the search behind the same
name of an Optuna sampler.
"""

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.runs import DIGITS_JOB, FinishedRun, private_folder, run_tune_jobs, started
from benchmarks.timing import ratio_table, side_by_side
from tune_jobs.record.events import EpochsReported

TARGET = 10.0
OURS = "tune-jobs"
DOCUMENTED = "Ray Tune as documented"
REUSING = "the same with reuse_actors=True"

_DOCUMENTED_SCRIPT = Path(__file__).with_name("documented_ray_tune.py")


@dataclass(frozen=True, kw_only=True)
class Totals:
    """The cost and the result of a run of 64 trials."""

    wall_seconds: float
    """Seconds from the start of its process to the exit."""
    epochs: int
    training_seconds: float
    """Seconds of all epochs, each with its validation."""
    best_val_loss: float
    """The lowest validation loss of any epoch of any trial."""


def totals_of(run: FinishedRun) -> Totals:
    """Return the totals of a run of tune-jobs from its journal."""
    epochs = [row for event in run.events if isinstance(event, EpochsReported) for row in event.results]
    losses = [row["val_loss"] for row in epochs if not math.isnan(row["val_loss"])]
    return Totals(
        wall_seconds=run.wall_seconds,
        epochs=len(epochs),
        training_seconds=sum(row["seconds"] for row in epochs),
        best_val_loss=min(losses),
    )


def totals_table(totals: Mapping[str, Sequence[Totals]]) -> str:
    """Return a Markdown table of the totals, as medians over the rounds."""
    rows = [
        "| | wall clock, s | epochs | of these training and validation, s, all trials | lowest validation loss |",
        "|---|---|---|---|---|",
    ]
    for name, rounds in totals.items():
        wall, epochs, training, loss = (
            statistics.median(getattr(one, field) for one in rounds) for field in Totals.__dataclass_fields__
        )
        rows.append(f"| {name} | {wall:.1f} | {epochs:g} | {training:.1f} | {loss:.4f} |")
    return "\n".join(rows)


def report(repeats: int) -> str:
    """Measure and return a Markdown section. A round takes about seven minutes."""
    ways: dict[str, Callable[[], Totals]] = {
        OURS: _run_ours,
        DOCUMENTED: partial(run_documented, ()),
        REUSING: partial(run_documented, ("--reuse-actors",)),
    }
    totals = side_by_side(ways, repeats)
    seconds = {name: [one.wall_seconds for one in rounds] for name, rounds in totals.items()}
    ratio = statistics.median(a / b for a, b in zip(seconds[DOCUMENTED], seconds[OURS], strict=True))
    return "\n\n".join(
        [
            "## Whole run",
            "64 trials on digits, two at a time, from the start of the process to its exit.",
            totals_table(totals),
            ratio_table(seconds, baseline=OURS, unit="wall clock, s"),
            f"Documented over ours: {ratio:.1f} (wanted: {TARGET:g} or more).",
        ]
    )


def _run_ours() -> Totals:
    return totals_of(run_tune_jobs(DIGITS_JOB))


def run_documented(flags: Sequence[str]) -> Totals:
    """Run documented_ray_tune.py with `flags`."""
    with private_folder() as folder:
        result = folder / "result.json"
        start = time.time()
        with started([str(_DOCUMENTED_SCRIPT), "--json", str(result), *flags], folder) as process:
            process.wait()
            wall_seconds = time.time() - start
        values = json.loads(result.read_text())
    return Totals(
        wall_seconds=wall_seconds,
        epochs=values["epochs"],
        training_seconds=values["training_seconds"],
        best_val_loss=values["best_val_loss"],
    )
