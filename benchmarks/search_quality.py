"""Compare pairs of scheduler and searcher on tables of real learning curves.

    python benchmarks/search_quality.py --curves DIR [--quick] [--out results.json]

The tables show normalised regret by the steps of all trials together, and the test loss of the configuration that is
then selected by validation: means over tasks and seeds, with standard errors. Replays are repeatable: the seed of each
comes from the task's name and the seed's number, and is the same for every row.
"""

import argparse
import json
import logging
import math
import os
import statistics
import sys
import time
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path

if not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.command_line import positive
from benchmarks.contestants import ROWS
from benchmarks.regret import Estimate, Scale, difference, estimate, lowest_so_far, selected
from benchmarks.runs import ONE_THREAD
from benchmarks.staircases import Staircase, falls, value_at
from benchmarks.timing import machine_line, machine_shape
from tests.simulation.curve_tables import BadCurves, Table, load_table, load_tables
from tests.simulation.replay import Clock, replay

MARKS = (100, 200, 400, 700, 1_000)
"""Steps after which regret is shown."""
STEPS = MARKS[-1]
SEEDS = 10
WORKERS = 4
"""The number of workers on the simulated clock."""
PROCESSES = 2
QUICK_STEPS, QUICK_SEEDS, QUICK_TASKS = 200, 1, 2


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """One replay to make."""

    row: str
    table: Path
    seed: int
    steps: int
    workers: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of one replay."""

    row: str
    task: str
    seed: int
    steps: int
    """Steps of all trials. They are fewer than the budget if the run ended early."""
    trials: int
    improvements: Staircase
    """Steps at which normalised regret fell, each with the new regret. The first entry is at step 1."""
    test_loss: float
    """Test loss of the selected configuration after the step for which it was selected."""
    test_regret: float
    seconds: float
    """Seconds of real time."""

    def regret(self, step: int) -> float:
        """Return the normalised regret after `step` steps of all trials."""
        return value_at(self.improvements, step)


def run_replay(assignment: Assignment) -> Outcome:
    """Make one replay and return its result."""
    begun = time.perf_counter()
    table = load_table(assignment.table)
    scale = Scale.of(table)
    seed = seed_of(table.name, assignment.seed)
    with ROWS[assignment.row].build(table, assignment.workers, seed) as contestant:
        clock = Clock(workers=assignment.workers)
        steps = replay(contestant, table, steps=assignment.steps, seed=seed, clock=clock)
    best = selected(steps)
    test_loss = math.nan if best is None else float(table.test[best.configuration, best.number - 1])
    regret = scale.regret(lowest_so_far(steps, assignment.steps))
    return Outcome(
        row=assignment.row,
        task=table.name,
        seed=assignment.seed,
        steps=len(steps),
        trials=len({step.configuration for step in steps}),
        improvements=falls(regret.tolist()),
        test_loss=test_loss,
        test_regret=scale.test_regret(test_loss),
        seconds=time.perf_counter() - begun,
    )


def seed_of(task: str, number: int) -> int:
    """Return the seed of replay `number` of a task: tasks share no random numbers, so their errors are independent."""
    return zlib.crc32(f"{task} {number}".encode()) & 0x7FFF_FFFF


def run_all(assignments: Sequence[Assignment], processes: int) -> Iterator[Outcome]:
    """Yield outcomes as soon as they are ready, from processes that compute with one thread each."""
    os.environ.update(ONE_THREAD)
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=_hush) as pool:
        futures = [pool.submit(run_replay, assignment) for assignment in assignments]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _hush() -> None:
    """Silence the warnings of Ray Tune and Optuna about NaN, which the rows of Ray Tune report and compare."""
    for name in ("ray.tune", "optuna"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", "All-NaN slice encountered", RuntimeWarning)


Grouped = Mapping[str, Mapping[str, Sequence[Outcome]]]
"""Outcomes by row and by task, in the order of their seeds."""


def group(outcomes: Sequence[Outcome], rows: Sequence[str], tasks: Sequence[str]) -> Grouped:
    """Return `outcomes` by row and task, in the order of `rows` and `tasks`."""
    in_order = sorted(outcomes, key=lambda one: one.seed)
    return {
        row: {task: [one for one in in_order if (one.row, one.task) == (row, task)] for task in tasks}
        for row in rows
    }


def regrets(of_row: Mapping[str, Sequence[Outcome]], step: int) -> dict[str, list[float]]:
    """Return the normalised regret after `step` steps, by task."""
    return {task: [one.regret(step) for one in outcomes] for task, outcomes in of_row.items()}


def selected_regrets(of_row: Mapping[str, Sequence[Outcome]]) -> dict[str, list[float]]:
    """Return the normalised test loss of the selected configuration, by task."""
    return {task: [one.test_regret for one in outcomes] for task, outcomes in of_row.items()}


def marks_within(steps: int) -> list[int]:
    """Return the steps at which regret is shown under a budget. The budget itself is always the last."""
    return [*(mark for mark in MARKS if mark < steps), steps]


def mean_table(results: Grouped, steps: int) -> str:
    """Return a Markdown table of the regret and test loss of each row."""
    marks = marks_within(steps)
    lines = [
        f"| Scheduler, search | {' | '.join(f'{mark:,}' for mark in marks)} | test | trials | s a replay |",
        f"|---|{'---|' * (len(marks) + 3)}",
    ]
    for row, of_row in results.items():
        every = [one for outcomes in of_row.values() for one in outcomes]
        cells = [
            *(_text_of(estimate(regrets(of_row, mark))) for mark in marks),
            _text_of(estimate(selected_regrets(of_row))),
            f"{statistics.fmean(one.trials for one in every):.0f}",
            f"{statistics.fmean(one.seconds for one in every):.1f}",
        ]
        lines.append(f"| {ROWS[row].title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def difference_table(results: Grouped, steps: int) -> str:
    """Return a Markdown table of the regret and test loss of each row less those of the first."""
    marks = marks_within(steps)
    baseline, *others = results
    lines = [
        f"| Less {ROWS[baseline].title} | {' | '.join(f'{mark:,}' for mark in marks)} | test |",
        f"|---|{'---|' * (len(marks) + 1)}",
    ]
    for row in others:
        cells = [
            *(
                _text_of(difference(regrets(results[row], mark), regrets(results[baseline], mark)), sign="+")
                for mark in marks
            ),
            _text_of(
                difference(selected_regrets(results[row]), selected_regrets(results[baseline])), sign="+"
            ),
        ]
        lines.append(f"| {ROWS[row].title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def task_table(results: Grouped, steps: int) -> str:
    """Return a Markdown table of final regret and test loss (in the unit of the task) by task; means over seeds."""
    tasks = list(next(iter(results.values())))
    lines = [f"| Task | {' | '.join(results)} |", f"|---|{'---|' * len(results)}"]
    for task in tasks:
        cells = [
            f"{statistics.fmean(one.regret(steps) for one in results[row][task]):.3f}"
            f" / {statistics.fmean(one.test_loss for one in results[row][task]):.4f}"
            for row in results
        ]
        lines.append(f"| {task} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _text_of(value: Estimate, sign: str = "") -> str:
    mean = f"{value.mean:{sign}.3f}"
    return mean if math.isnan(value.error) else f"{mean} ± {value.error:.3f}"


def report(results: Grouped, *, steps: int, seeds: int, workers: int, seconds: float) -> str:
    """Return the whole report as Markdown."""
    tasks = list(next(iter(results.values())))
    parts = [
        "# Search and scheduling on real learning curves",
        machine_line(machine_shape()),
        f"Tasks: {len(tasks)}, seeds of each: {seeds}; {steps:,} steps of all trials together, {workers} workers on a "
        f"simulated clock; {seconds / 60:.1f} minutes.",
        "## Means over tasks and seeds",
        "Regret after so many steps: 0 is the best configuration of a table, 1 the median one. Test: the test loss "
        "of what validation then selects, where 0 is that of the best configuration by validation and 1 that of "
        "the median. ± is the standard error from the seeds; the tasks are fixed.",
        mean_table(results, steps),
    ]
    if len(results) > 1:
        parts += ["Differences are taken seed by seed.", difference_table(results, steps)]
    parts += [
        "## By task",
        f"Regret after {steps:,} steps / test loss of the selected configuration; means over seeds.",
        task_table(results, steps),
    ]
    return "\n\n".join(parts)


def to_json(results: Grouped, **settings: object) -> str:
    """Return all measurements as JSON: enough to draw regret over steps, seed by seed."""
    rows = {
        row: {
            "title": ROWS[row].title,
            "tasks": {task: [asdict(one) for one in outcomes] for task, outcomes in of_row.items()},
        }
        for row, of_row in results.items()
    }
    return json.dumps({"machine": machine_shape(), **settings, "rows": rows}) + "\n"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line. Defaults depend on `--quick`."""
    parser = argparse.ArgumentParser(prog="search_quality.py", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--curves", type=Path, required=True, metavar="DIR", help="tables of learning curves (*.npz)"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"{QUICK_TASKS} tasks, {QUICK_SEEDS} seed, {QUICK_STEPS} steps, unless given otherwise",
    )
    parser.add_argument(
        "--seeds", type=positive, metavar="N", help=f"replays of each task (default: {SEEDS})"
    )
    parser.add_argument(
        "--tasks", nargs="+", default=[], metavar="TASK", help="names of tables (default: all)"
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        choices=ROWS,
        default=list(ROWS),
        metavar="ROW",
        help=f"{', '.join(ROWS)} (default: all)",
    )
    parser.add_argument(
        "--steps", type=positive, metavar="N", help=f"of all trials together (default: {STEPS})"
    )
    parser.add_argument(
        "--workers", type=positive, default=WORKERS, metavar="N", help=f"simulated (default: {WORKERS})"
    )
    parser.add_argument(
        "--processes", type=positive, default=PROCESSES, metavar="N", help=f"real (default: {PROCESSES})"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write all measurements to this file as JSON"
    )
    given = parser.parse_args(arguments)
    if given.out is not None and not given.out.resolve().parent.is_dir():
        parser.error(f"--out: there is no folder {given.out.resolve().parent}")
    given.seeds = given.seeds or (QUICK_SEEDS if given.quick else SEEDS)
    given.steps = given.steps or (QUICK_STEPS if given.quick else STEPS)
    given.rows = list(dict.fromkeys(given.rows))
    return given


def main(arguments: Sequence[str] | None = None) -> None:
    """Replay, print the tables, and write the results to the file of `--out`.

    Raises:
        SystemExit: The tables cannot be used. The message is one line.
    """
    given = parse_arguments(arguments)
    try:
        tables = load_tables(given.curves, given.tasks)
        if given.quick and not given.tasks:
            tables = tables[:QUICK_TASKS]
        for table in tables:
            Scale.of(table)
    except BadCurves as error:
        raise SystemExit(f"--curves: {error}") from error
    begun = time.monotonic()
    outcomes = _show_progress(_assignments(given, tables), given.processes)
    results = group(outcomes, given.rows, [table.name for table in tables])
    settings = {"steps": given.steps, "seeds": given.seeds, "workers": given.workers}
    if given.out is not None:
        given.out.write_text(to_json(results, **settings))
    print(report(results, **settings, seconds=time.monotonic() - begun))


def _assignments(given: argparse.Namespace, tables: Sequence[Table]) -> list[Assignment]:
    """Return all replays, those of the last and slowest rows first: then no process has a long one at the end."""
    return [
        Assignment(
            row=row,
            table=given.curves / f"{table.name}.npz",
            seed=seed,
            steps=given.steps,
            workers=given.workers,
        )
        for row, table, seed in product(reversed(given.rows), tables, range(given.seeds))
    ]


def _show_progress(assignments: Sequence[Assignment], processes: int) -> list[Outcome]:
    outcomes = []
    for outcome in run_all(assignments, processes):
        outcomes.append(outcome)
        if sys.stderr.isatty():
            print(f"\r{len(outcomes)} of {len(assignments)} replays", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return outcomes


if __name__ == "__main__":
    main()
