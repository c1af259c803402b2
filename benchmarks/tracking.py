"""Measure the cost of W&B: our run with and without it, and Ray Tune's with and without its own callback.

All write offline, so no network is measured. The job and the script are those of `whole_run`. Ray Tune re-uses its
workers here: otherwise the start of a process per trial would hide the cost of its callback.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from benchmarks.runs import DIGITS_JOB, run_tune_jobs
from benchmarks.timing import side_by_side
from benchmarks.whole_run import run_documented

MOST_TIMES = 1.25
"""Target: the highest ratio of our wall clock with W&B to that without."""
FEWEST_TIMES = 5.0
"""Target: the lowest ratio of Ray's overhead to ours, both in seconds."""

OURS = "tune-jobs"
RAYS = "Ray Tune"
WITH = {OURS: "tune-jobs with `tracking.wandb`", RAYS: "Ray Tune with `WandbLoggerCallback`"}


def overhead(seconds: Mapping[str, Sequence[float]], side: str) -> list[float]:
    """Return the wall-clock seconds that W&B added in each round."""
    return [more - less for more, less in zip(seconds[WITH[side]], seconds[side], strict=True)]


def cost_table(seconds: Mapping[str, Sequence[float]]) -> str:
    """Return a Markdown table of medians over the rounds."""
    rows = [
        "| | without W&B, s | with W&B, s | times | added, s | lowest to highest |",
        "|---|---|---|---|---|---|",
    ]
    for side in (OURS, RAYS):
        without, with_ = seconds[side], seconds[WITH[side]]
        added = overhead(seconds, side)
        times = statistics.median(more / less for more, less in zip(with_, without, strict=True))
        rows.append(
            f"| {side} | {statistics.median(without):.1f} | {statistics.median(with_):.1f} | {times:.2f} "
            f"| {statistics.median(added):.1f} | {min(added):.1f} to {max(added):.1f} |"
        )
    return "\n".join(rows)


def report(repeats: int) -> str:
    """Measure and return a Markdown section. A round takes about six minutes."""
    ways: dict[str, Callable[[], float]] = {
        OURS: _ours,
        WITH[OURS]: partial(_ours, "--tracking.wandb.project", "digits"),
        RAYS: partial(_rays, "--reuse-actors"),
        WITH[RAYS]: partial(_rays, "--reuse-actors", "--wandb"),
    }
    seconds = side_by_side(ways, repeats)
    ours, rays = (statistics.median(overhead(seconds, side)) for side in (OURS, RAYS))
    ratio = f"{rays / ours:.1f}" if ours > 0 else "no ratio, since ours is not above 0"
    return "\n\n".join(
        [
            "## W&B",
            "64 trials on digits, two at a time, from the start of the process to its exit; W&B offline.",
            cost_table(seconds),
            f"Wanted: ours at most {MOST_TIMES:g} times; Ray's overhead at least {FEWEST_TIMES:g} times ours, which "
            f"is here: {ratio}.",
        ]
    )


def _ours(*overrides: str) -> float:
    return run_tune_jobs(DIGITS_JOB, overrides).wall_seconds


def _rays(*flags: str) -> float:
    return run_documented(flags).wall_seconds
