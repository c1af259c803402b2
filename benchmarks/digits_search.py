"""Compare the defaults on real training: examples/digits.yaml with tune-jobs and with Ray Tune as shipped.

    python benchmarks/digits_search.py [--seeds 10] [--trials 48] [--equal] [--out results.json] [--key value ...]

Both sides draw from the same space and train on the same rows with the same model, epoch loop and initial weights.
They compare trials at the same rungs and have the same number of workers. Only search and scheduling differ.
tune-jobs runs the job as it is. The other side is a plain function trainable that reports every epoch, with Ray
Tune's ASHAScheduler and OptunaSearch (see digits_ray.py). A run's seed is that of its search and of its weights.
Further arguments change keys of the job, for both sides if they apply: `--search.method tpe`.

The table shows the lowest validation loss so far over the epochs that all trials together have spent, in the order
of their reports. Trials of tune-jobs wait at their rungs, so the same number of trials takes fewer epochs. The table
says "ended" if its runs are over, and `--equal` adds a side with more trials for the remaining epochs.
"""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

if not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.command_line import positive
from benchmarks.runs import private_folder
from benchmarks.staircases import Staircase, falls, lowest_finite_so_far, reached, value_at
from benchmarks.timing import machine_line, machine_shape
from tune_jobs.driver.lifecycle import run
from tune_jobs.errors import JobError
from tune_jobs.job.file import parse_overrides
from tune_jobs.job.job import Job
from tune_jobs.record.events import EpochsReported, Event, TrialCreated
from tune_jobs.tuning.ray_session import environment, ray_connection

JOB = Path(__file__).resolve().parents[1] / "examples" / "digits.yaml"
SEEDS = 10
WORKERS = 2
FIRST_MARK = 50
"""Epochs of all trials at the first column of the table. Each further column doubles them."""

OURS, EQUAL, RAY = "ours", "equal", "ray"
TITLES = {
    OURS: "tune-jobs, its defaults",
    EQUAL: "the same with more trials",
    RAY: "Ray Tune as shipped: ASHA, OptunaSearch",
}


@dataclass(frozen=True, kw_only=True)
class SearchRun:
    """The losses that one run of a side found, and its cost."""

    seed: int
    trials: int
    """Trials that were started."""
    epochs: int
    """Epochs of all trials together."""
    improvements: Staircase
    """Epochs after which the lowest validation loss so far fell, each with the new loss."""
    seconds: float
    """Seconds between the first and the last report."""
    filled_in: int = 0
    """Trials with a random configuration because the model had none ready."""

    def loss(self, epochs: int) -> float:
        """Return the lowest validation loss after `epochs` epochs, or infinity if none was finite."""
        return value_at(self.improvements, epochs)

    @property
    def final_loss(self) -> float:
        return self.loss(self.epochs)


Overrides = Sequence[tuple[str, Any]]
"""Keys of the job and their new values."""

Results = Mapping[str, Sequence[SearchRun]]
"""Runs by side, in the order of their seeds."""


def search_run(
    seed: int, trials: int, losses: Sequence[float], times: Sequence[float], *, filled_in: int = 0
) -> SearchRun:
    """Return a run from its validation losses in the order of reports, and from the times of the reports."""
    improvements = [(at, loss) for at, loss in falls(lowest_finite_so_far(losses)) if math.isfinite(loss)]
    return SearchRun(
        seed=seed,
        trials=trials,
        epochs=len(losses),
        improvements=improvements,
        seconds=times[-1] - times[0] if times else 0.0,
        filled_in=filled_in,
    )


def run_of_journal(seed: int, events: Sequence[Event]) -> SearchRun:
    """Return a run of tune-jobs from its journal. An epoch that was repeated counts twice."""
    reports = [event for event in events if isinstance(event, EpochsReported) and event.results]
    trials = [event for event in events if isinstance(event, TrialCreated)]
    return search_run(
        seed,
        len(trials),
        [float(row["val_loss"]) for report in reports for row in report.results],
        [report.time for report in reports],
        filled_in=sum(trial.filled_in for trial in trials),
    )


def job_of(seed: int, trials: int, storage: Path, overrides: Overrides = ()) -> Job:
    """Return the example job with a seed, a number of trials and workers, and a folder for its runs.

    Raises:
        JobError: The overrides are not valid.
    """
    fixed = {
        "seed": seed,
        "search.trials": trials,
        "resources.max_concurrent": WORKERS,
        "storage": str(storage),
    }
    return Job.from_file(JOB, [*overrides, *fixed.items()])


def run_ours(job: Job) -> SearchRun:
    """Run the job on the Ray of this process."""
    events: list[Event] = []
    run(job, listeners=[events.append])
    return run_of_journal(job.seed, events)


def run_ray(job: Job) -> SearchRun:
    """Run the side of Ray Tune on the Ray of this process."""
    from benchmarks.digits_ray import tune_as_shipped  # noqa: PLC0415 (imports Ray, which must be set up before)

    reports = tune_as_shipped(job, WORKERS)
    losses = [report.val_loss for report in reports]
    return search_run(job.seed, job.trials, losses, [report.time for report in reports])


def run_sides(
    seeds: int, trials: int, overrides: Overrides, *, equal: bool, tell: Callable[[str], None]
) -> dict[str, list[SearchRun]]:
    """Run both sides with each seed, in turn, on one Ray. `tell` receives one line per run."""
    results: dict[str, list[SearchRun]] = {side: [] for side in TITLES if equal or side != EQUAL}
    with _own_ray() as storage:
        for seed in range(seeds):
            for side in (OURS, RAY) if seed % 2 == 0 else (RAY, OURS):
                job = job_of(seed, trials, storage, overrides)
                results[side].append(run_ours(job) if side == OURS else run_ray(job))
                tell(_in_a_line(side, results[side][-1]))
            if equal:
                more = equal_trials(results[OURS][-1], results[RAY][-1])
                job = job_of(seed, more, storage, overrides)
                results[EQUAL].append(run_ours(job))
                tell(_in_a_line(EQUAL, results[EQUAL][-1]))
    return results


def equal_trials(ours: SearchRun, other: SearchRun) -> int:
    """Return the number of our trials that spend about the epochs of the other run, but never fewer than ours had."""
    return max(ours.trials, round(ours.trials * other.epochs / ours.epochs))


@contextmanager
def _own_ray() -> Iterator[Path]:
    """Start a Ray for all runs of this process, yield a folder for them, and remove both afterwards."""
    root = str(Path(__file__).resolve().parents[1])  # Ray's workers import the trainable from here
    with (
        private_folder() as folder,
        environment({"RAY_TMPDIR": str(folder), "PYTHONPATH": root}),
        ray_connection(),
    ):
        yield folder / "runs"


def marks(results: Results) -> list[int]:
    """Return the epochs of the table's columns: 50, 100, 200, … up to the longest run."""
    longest = max(run.epochs for runs in results.values() for run in runs)
    return [FIRST_MARK * 2**power for power in range(32) if FIRST_MARK * 2**power < longest]


def loss_table(results: Results) -> str:
    """Return a Markdown table of losses by epochs (medians and quartiles) and of the cost."""
    shown = marks(results)
    lines = [
        f"| Lowest validation loss after … epochs | {''.join(f'{mark:,} | ' for mark in shown)}all | trials | epochs "
        "| s from first to last report |",
        f"|---|{'---|' * (len(shown) + 4)}",
    ]
    for side, runs in results.items():
        cells = [
            *(
                _quartiles([run.loss(mark) for run in runs]) if _is_running(runs, mark) else "ended"
                for mark in shown
            ),
            _quartiles([run.final_loss for run in runs]),
            f"{statistics.median(run.trials for run in runs):g}",
            _range([run.epochs for run in runs], "g"),
            _range([run.seconds for run in runs], ".1f"),
        ]
        lines.append(f"| {TITLES[side]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def comparison(results: Results) -> str:
    """Return sentences that compare seed by seed: Ray's loss when tune-jobs has ended, and when Ray is as good."""
    pairs = list(zip(results[OURS], results[RAY], strict=True))
    differences = [other.loss(ours.epochs) - ours.final_loss for ours, other in pairs]
    caught_up = [reached(other.improvements, ours.final_loss) for ours, other in pairs]
    later = [epochs for epochs in caught_up if epochs is not None]
    lines = [
        f"After the epochs that a run of tune-jobs took, the loss of Ray Tune with the same seed is higher by "
        f"{_mean(differences)}, and higher in {sum(d > 0 for d in differences)} of {len(pairs)}.",
        f"Ray Tune reaches the loss at which tune-jobs ended in {len(later)} of {len(pairs)} runs"
        + (f", after {_range(later, 'g')} epochs." if later else "."),
    ]
    if EQUAL in results:
        lines.append(
            "At the end of all epochs of both, with more trials for tune-jobs, the loss of Ray Tune is higher by "
            + _mean([b.final_loss - a.final_loss for a, b in zip(results[EQUAL], results[RAY], strict=True)])
            + "."
        )
    return "\n".join(lines)


def filled_in_line(results: Results) -> str:
    """Return a sentence with the share of tune-jobs' trials for which the model had no proposal ready."""
    shares = {
        side: [100 * run.filled_in / run.trials for run in runs]
        for side, runs in results.items()
        if side != RAY
    }
    return (
        "Filled in, % of the trials (drawn at random, since the model had none ready): "
        + "; ".join(f"{TITLES[side]}: {_range(of_runs, '.1f')}" for side, of_runs in shares.items())
        + "."
    )


def _is_running(runs: Sequence[SearchRun], mark: int) -> bool:
    return any(run.epochs >= mark for run in runs)


def _quartiles(losses: Sequence[float]) -> str:
    low, median, high = np.quantile(losses, (0.25, 0.5, 0.75))
    return f"{median:.4f} ({low:.4f} to {high:.4f})"


def _range(values: Sequence[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def _mean(values: Sequence[float]) -> str:
    mean = f"{statistics.fmean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values) / math.sqrt(len(values)):.4f}"


def report(results: Results) -> str:
    """Return the whole report as Markdown."""
    seeds = len(results[OURS])
    return "\n\n".join(
        [
            "# The defaults on real training",
            machine_line(machine_shape()),
            f"examples/digits.yaml, {WORKERS} workers, {seeds} seeds.",
            loss_table(results),
            "Losses: the median of the runs and their quartiles; a run that has ended keeps its last. Epochs and "
            "seconds: the median, the least and the most.",
            filled_in_line(results),
            comparison(results),
        ]
    )


def to_json(results: Results) -> str:
    """Return every run with its curve as JSON, for search_plots.py."""
    sides = {
        side: {"title": TITLES[side], "runs": [asdict(run) for run in runs]} for side, runs in results.items()
    }
    return json.dumps({"machine": machine_shape(), "workers": WORKERS, "sides": sides}) + "\n"


def _in_a_line(side: str, run: SearchRun) -> str:
    return (
        f"{side}, seed {run.seed}: {run.final_loss:.4f} after {run.epochs} epochs of {run.trials} trials, "
        f"{run.seconds:.1f} s"
    )


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line. `overrides` holds all further arguments, which are keys of the job."""
    parser = argparse.ArgumentParser(
        prog="digits_search.py", description=__doc__.split("\n")[0], allow_abbrev=False
    )
    parser.add_argument(
        "--seeds", type=positive, default=SEEDS, metavar="N", help=f"runs of each side ({SEEDS})"
    )
    parser.add_argument(
        "--trials",
        type=positive,
        default=Job.from_file(JOB).trials,
        metavar="N",
        help="of a run (the job's)",
    )
    parser.add_argument(
        "--equal", action="store_true", help="also tune-jobs with trials for as many epochs as Ray Tune spent"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the curves to this file as JSON")
    given, others = parser.parse_known_args(arguments)
    try:
        given.overrides = parse_overrides(others)
        job_of(0, given.trials, Path("runs"), given.overrides)
    except JobError as error:
        parser.error(str(error))
    if given.out is not None and not given.out.resolve().parent.is_dir():
        parser.error(f"--out: there is no folder {given.out.resolve().parent}")
    return given


def main(arguments: Sequence[str] | None = None) -> None:
    """Run both sides, print the table, and write the curves to the file of `--out`."""
    given = parse_arguments(arguments)
    results = run_sides(
        given.seeds,
        given.trials,
        given.overrides,
        equal=given.equal,
        tell=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if given.out is not None:
        given.out.write_text(to_json(results))
    print(report(results))


if __name__ == "__main__":
    main()
