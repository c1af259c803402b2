"""Measure the cost of a trial besides its training, from the journal of a run."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.runs import DIGITS_JOB, WORKERS, FinishedRun, run_tune_jobs
from tune_jobs.record.events import EpochsReported, Event, TrialEnded

TARGET_MILLISECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Overhead:
    """The parts of a run's wall clock, in seconds."""

    wall: float
    before: float
    """Seconds from the start of the process to the beginning of the first reported training."""
    after: float
    """Seconds from the end of the last trial to the exit of the process."""
    training: float
    """All epochs of all trials, each with its validation."""
    trials: int
    workers: int

    @property
    def per_trial(self) -> float:
        """Wall clock that is neither start-up nor training, divided by the number of trials."""
        return (self.wall - self.before - self.after - self.training / self.workers) / self.trials


def measure_overhead(events: Sequence[Event], *, started: float, ended: float, workers: int) -> Overhead:
    """Divide the wall clock of a run into its parts.

    Start-up is everything until the first report of epochs, less the seconds of that report's own epochs, and
    everything after the end of the last trial. A trial has no fixed share of the wall clock because
    `workers` of them run at a time, so the training of all is divided by `workers`. Time in which a worker has
    nothing to do, as at the end or while the second one is still starting, counts as overhead.

    Args:
        events: The run's journal.
        started: When the process started, in seconds since the epoch.
        ended: When the process had ended, in seconds since the epoch.
        workers: The number of trials at a time.

    Raises:
        ValueError: No epoch was reported, or no trial has ended.
    """
    reports = [event for event in events if isinstance(event, EpochsReported)]
    endings = [event.time for event in events if isinstance(event, TrialEnded)]
    if not reports or not endings:
        raise ValueError(
            f"The journal has {len(reports)} reports and {len(endings)} ended trials: no run to divide."
        )
    first = min(reports, key=lambda report: report.time)
    return Overhead(
        wall=ended - started,
        before=first.time - _seconds(first) - started,
        after=ended - max(endings),
        training=sum(map(_seconds, reports)),
        trials=len(endings),
        workers=workers,
    )


def overhead_table(measured: dict[str, list[Overhead]]) -> str:
    """Return a Markdown table of medians over the rounds, the overhead with its lowest and highest."""
    rows = [
        "| | wall clock, s | start, s | end, s | training ÷ workers, s | overhead a trial, ms | lowest to highest |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, rounds in measured.items():
        wall, before, after, training = (
            statistics.median(values)
            for values in zip(
                *((one.wall, one.before, one.after, one.training / one.workers) for one in rounds),
                strict=True,
            )
        )
        each = [1000 * one.per_trial for one in rounds]
        rows.append(
            f"| {name} | {wall:.1f} | {before:.1f} | {after:.1f} | {training:.1f} "
            f"| {statistics.median(each):.0f} | {min(each):.0f} to {max(each):.0f} |"
        )
    return "\n".join(rows)


def report(repeats: int) -> str:
    """Measure and return a Markdown section. A round takes under a minute."""
    jobs = {
        "64 trials on digits": (),
        "200 very short trials": ("--search.trials", "200", "--training.max_epochs", "3"),
    }
    measured: dict[str, list[Overhead]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, overrides in jobs.items():
            measured[name].append(_overhead(run_tune_jobs(DIGITS_JOB, overrides)))
    return "\n\n".join(
        [
            "## Overhead a trial",
            "(wall clock - start - end - training ÷ 2 workers) ÷ trials. Start: until the first trial trains. "
            "End: from the last trial's end to the exit.",
            overhead_table(measured),
            f"Wanted: below {TARGET_MILLISECONDS:g} ms.",
        ]
    )


def _overhead(run: FinishedRun) -> Overhead:
    return measure_overhead(run.events, started=run.started, ended=run.ended, workers=WORKERS)


def _seconds(report: EpochsReported) -> float:
    return sum(float(row["seconds"]) for row in report.results)
