"""Measure the processor time of the driver a trial, from the first trial to the last one of a long run.

The trials take no time, on declared processors of one machine, so the driver is all that is measured: search, Ray Tune,
scheduler, journal and study. ASHA pauses most trials at their first rung, where they wait until the run ends.

    milliseconds a trial = processor time of the driver's process, all threads, within a window / trials created in it
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import ray
from ray import tune

from benchmarks.runs import private_folder, started
from tune_jobs.cluster.capacity import Capacity
from tune_jobs.driver.conclusion import conclude
from tune_jobs.driver.followers import following, pruning
from tune_jobs.driver.preparation import make_folder, prepare, run_started, trial_task
from tune_jobs.job.job import Job
from tune_jobs.record.codes import Cause, Ending
from tune_jobs.record.events import Event, TrialCreated
from tune_jobs.record.journal import Journal
from tune_jobs.record.live import LiveRun
from tune_jobs.record.reading import read_run
from tune_jobs.report.writing import write_report
from tune_jobs.trainers.settings import ScoreSettings
from tune_jobs.tuning.control import RunControl
from tune_jobs.tuning.loop import SharedTask, tune_trials
from tune_jobs.tuning.ray_session import ray_connection
from tune_jobs.worker.reporting import Reporter

TRIALS = 20_000
MARKS = (1_000, 5_000, 10_000, 20_000)
"""Numbers of trials at which the driver's time is shown."""
WINDOW = 500
"""The number of trials before each mark over which the time is a mean."""
WORKERS = 8
EPOCHS, RUNGS = 9, (1, 3)
TARGET_PERCENT, TARGET_MEGABYTES = 20.0, 600.0


class Mark(NamedTuple):
    """The driver when it had created a number of trials."""

    trials: int
    seconds: float
    """Processor time of the driver's process."""
    megabytes: float
    """Resident memory of the driver's process."""


@dataclass(frozen=True, kw_only=True)
class LongRun:
    """What was measured in a run."""

    method: str
    marks: Sequence[Mark]
    seconds: Mapping[str, float]
    """Processor time of what follows, by its name."""
    megabytes: float
    """The most memory of the driver's process."""


def milliseconds_a_trial(marks: Sequence[Mark], trials: int, window: int = WINDOW) -> float:
    """Return the driver's processor time of a trial, as a mean over the `window` before number `trials`.

    Raises:
        ValueError: The run did not create so many.
    """
    by_number = {mark.trials: mark for mark in marks}
    if not {trials, trials - window} <= by_number.keys():
        raise ValueError(f"The run was not measured at {trials - window} and {trials} trials.")
    return 1000 * (by_number[trials].seconds - by_number[trials - window].seconds) / window


def table(run: LongRun) -> str:
    """Return Markdown tables of a run: the time of a trial and the memory at each mark, and the time at the end."""
    at = {mark.trials: mark for mark in run.marks}
    shown = [trials for trials in MARKS if trials in at]
    rows = ["| search | trials | driver's time a trial, ms | memory, MB |", "|---|---|---|---|"]
    rows += [
        f"| {run.method} | {trials} | {milliseconds_a_trial(run.marks, trials):.1f} | {at[trials].megabytes:.0f} |"
        for trials in shown
    ]
    ends = ["| after the last trial | processor time, s |", "|---|---|"]
    ends += [f"| {name} | {seconds:.1f} |" for name, seconds in run.seconds.items()]
    return "\n".join(rows) + "\n\n" + "\n".join(ends)


def report(repeats: int) -> str:
    """Measure and return a Markdown section. A round takes about ten minutes."""
    trials = int(os.environ.get("MANY_TRIALS", TRIALS))
    runs = [run_alone("random", trials) for _ in range(repeats)]
    return "\n\n".join(
        [
            "## Many trials in a run",
            f"Trials that take no time, {WORKERS} at a time, ASHA with rungs {RUNGS}. Processor time of the driver.",
            *map(table, runs),
            f"Wanted: times that differ by at most {TARGET_PERCENT:g} %, and less than {TARGET_MEGABYTES:g} MB.",
        ]
    )


def run_alone(method: str, trials: int) -> LongRun:
    """Return what is measured in a new process, with a Ray of its own.

    Raises:
        FileNotFoundError: The process failed.
    """
    with private_folder() as folder:
        answer = folder / "run.json"
        with started(["-m", "benchmarks.many_trials", method, str(trials), str(answer)], folder) as process:
            process.wait()
        row = json.loads(answer.read_text())
        return LongRun(**{**row, "marks": [Mark(*mark) for mark in row["marks"]]})


def train_in_no_time(config: Mapping[str, Any], *, score: ScoreSettings) -> None:
    """Report epochs at once, as `train_trial` does after a checkpoint at each rung: a trainable of tune-jobs."""
    reporter, chance = Reporter(score, tune.report), Random(config["trial_id"])
    for epoch in range(1, EPOCHS + 1):
        row = {"epoch": epoch, "train_loss": 1.0, "val_loss": chance.random(), "lr": 0.1, "seconds": 0.001}
        reporter.add([row])
        if epoch in RUNGS:
            reporter.send(rung=True)
    reporter.end(Cause.MAX_EPOCHS)


def measure(method: str, trials: int, folder: Path) -> LongRun:
    """Run the trials in this process, and measure it."""
    job = Job.from_mapping(
        {
            "name": "many",
            "data": {"source": "digits"},
            "model": {"name": "linear"},
            "training": {"max_epochs": EPOCHS, "loss": "cross_entropy"},
            "search": {
                "space": {"lr": {"low": 1e-4, "high": 1.0, "log": True}},
                "method": method,
                "trials": trials,
            },
            "storage": str(folder / "runs"),
        }
    )
    prepared = prepare(job)
    marks: list[Mark] = []
    seconds: dict[str, float] = {}

    def note(event: Event) -> None:
        if isinstance(event, TrialCreated) and (event.number + 1) % WINDOW == 0:
            marks.append(Mark(event.number + 1, time.process_time(), megabytes()))
            print(marks[-1], file=sys.stderr, flush=True)

    def timed(name: str, call: Callable[[], Any]) -> Any:
        before = time.process_time()
        result = call()
        seconds[name] = time.process_time() - before
        print(name, seconds[name], file=sys.stderr, flush=True)
        return result

    place = make_folder(job, prepared)
    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    with ray_connection() as view, Journal(place.journal) as journal:
        begins = run_started(job, prepared, place)
        run = LiveRun.begin(place, journal, begins, job.selection)
        trainable = tune.with_parameters(train_in_no_time, score=job.selection)
        with following(job, run, [note, pruning(run, lambda call: call())]):
            journal.append(begins)
            control = RunControl(max_running=Capacity(job.resources, view))
            task = SharedTask(trial_task(job, run.folder), trainable)
            tune_trials(job, run, task, control, view)
            timed("select the winner, write the tables", lambda: conclude(run, Ending.ALL_TRIALS))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    timed("read the run (`show`, `list`, `resume`)", lambda: read_run(place))
    timed("write the report", lambda: write_report(place.path))
    ray.shutdown()
    return LongRun(method=method, marks=marks, seconds=seconds, megabytes=most)


def megabytes() -> float:
    """Return the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    measured = measure(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]).parent)
    Path(sys.argv[3]).write_text(json.dumps(asdict(measured)))
