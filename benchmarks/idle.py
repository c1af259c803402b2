"""Measure how long workers have nothing to train, with a model-based search (gp) and without (random).

A worker is idle if it neither trains nor validates: while Ray Tune hands it the next trial, while a trial is set up,
saved or reported, and while there is no configuration to train. Only the last part can be the cost of a model. The
rest is the same for both methods. So the measure is

    idle seconds a segment = (workers · window - seconds of epochs within the window) / segments begun in it

where a segment is one stretch of a trial on a worker (`TrialStarted` in the journal): a trial that waits at a rung
and continues later has two, and each costs as much as a new trial. The reasons for each part:

- The window opens when the last of the workers begins its first training: until then they start up, and their
  order is chance. It closes when the last new trial begins: until then a free worker could always have a new trial,
  so it waits for the search alone. After that only promotions are left, and at the end one worker has to wait for
  the other with any search.
- Per segment, not as a share of the time: a method that finds better configurations trains others, and a share
  falls when they have smaller batches and longer epochs, although no worker waits less. The share from
  the first training to the last report and idle seconds a trial are shown, too.
- The worker measures the seconds of an epoch by the wall clock: if the model takes processor time from the workers,
  their epochs get longer and idle time does not show it. So the table also shows the time of a training step, which
  depends little on the configuration.
- If the model is not ready, the worker takes a random configuration and does not wait: the search loses quality, and
  idle time does not show it. So the table also shows the share of trials that were filled in at random.

Both methods run in alternating order with the same seeds, and ratios are taken within a round.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import NamedTuple

from benchmarks.runs import FinishedRun, run_tune_jobs
from benchmarks.timing import ratio_table, side_by_side
from tune_jobs.record.events import EpochsReported, Event, RunStarted, TrialCreated, TrialStarted

JOB = Path(__file__).resolve().parents[1] / "examples" / "digits.yaml"
WORKERS = 2
MODEL, BASELINE = "gp", "random"
TARGET = 1.05
"""Target: the highest ratio of idle seconds a segment, model over baseline."""


class Stretch(NamedTuple):
    """An interval in which one worker trained and validated, in seconds since the epoch."""

    worker: str
    begin: float
    end: float

    def within(self, begin: float, end: float) -> float:
        """Return its seconds between `begin` and `end`."""
        return max(0.0, min(self.end, end) - max(self.begin, begin))


@dataclass(frozen=True, kw_only=True)
class Idle:
    """The work of all workers in a window of time."""

    window: float
    """Seconds of the window."""
    workers: int
    training: float
    """Seconds of training and validation, summed over the workers."""
    segments: int
    """Stretches of trials on a worker that began in the window."""
    trials: int
    """Trials that began for the first time in the window."""

    @property
    def seconds(self) -> float:
        """Idle seconds, summed over the workers."""
        return self.workers * self.window - self.training

    @property
    def share(self) -> float:
        return self.seconds / (self.workers * self.window)

    @property
    def per_segment(self) -> float:
        return self.seconds / self.segments

    @property
    def per_trial(self) -> float:
        return self.seconds / self.trials


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The measures of one run."""

    searching: Idle
    """The idle time until the last new trial begins."""
    whole: Idle
    """The idle time until the last report."""
    seconds_per_step: float
    """Seconds of training and validation, divided by the number of trained batches."""
    filled_in: float
    """Share of all trials with a random configuration because the model had none ready."""


def measure(events: Sequence[Event], workers: int) -> Measured:
    """Return the measures of a run from its journal.

    Raises:
        ValueError: Fewer than `workers` workers have reported epochs, or no trial began later.
    """
    stretches = training_stretches(events)
    first_begins = {stretch.worker: stretch.begin for stretch in reversed(stretches)}
    if len(first_begins) < workers:
        raise ValueError(f"{len(first_begins)} of {workers} workers have reported epochs: no time to divide.")
    begin = sorted(first_begins.values())[workers - 1]
    last_new = max(_first_starts(events).values(), default=-math.inf)
    if last_new <= begin:
        raise ValueError("All trials had begun before all workers trained: no time to divide.")
    last_report = max(stretch.end for stretch in stretches)
    return Measured(
        searching=idle_between(events, begin, last_new, workers),
        whole=idle_between(events, begin, last_report, workers),
        seconds_per_step=sum(s.end - s.begin for s in stretches) / training_steps(events),
        filled_in=statistics.fmean(event.filled_in for event in events if isinstance(event, TrialCreated)),
    )


def training_stretches(events: Iterable[Event]) -> list[Stretch]:
    """Return when workers trained, in the order of reports. Each report ends a stretch as long as its epochs."""
    return [
        Stretch(event.worker, event.time - sum(float(row["seconds"]) for row in event.results), event.time)
        for event in events
        if isinstance(event, EpochsReported) and event.results
    ]


def idle_between(events: Sequence[Event], begin: float, end: float, workers: int) -> Idle:
    """Return the idle time from `begin` to `end`. Starts of trials count after `begin` and up to `end`."""
    starts = [event.time for event in events if isinstance(event, TrialStarted)]
    return Idle(
        window=end - begin,
        workers=workers,
        training=sum(stretch.within(begin, end) for stretch in training_stretches(events)),
        segments=sum(begin < time <= end for time in starts),
        trials=sum(begin < time <= end for time in _first_starts(events).values()),
    )


def training_steps(events: Sequence[Event]) -> int:
    """Return the number of batches that were trained on in all epochs."""
    (started,) = (event for event in events if isinstance(event, RunStarted))
    rows = started.rows["train"]
    sizes = {
        event.trial_id: int(event.configuration["batch_size"])
        for event in events
        if isinstance(event, TrialCreated)
    }
    return sum(
        len(event.results) * math.ceil(rows / sizes[event.trial_id])
        for event in events
        if isinstance(event, EpochsReported)
    )


def _first_starts(events: Iterable[Event]) -> dict[str, float]:
    """Return the time of the first start of each trial."""
    starts: dict[str, float] = {}
    for event in events:
        if isinstance(event, TrialStarted):
            starts.setdefault(event.trial_id, event.time)
    return starts


def idle_table(measured: Mapping[str, Sequence[Measured]]) -> str:
    """Return a Markdown table of medians over the rounds."""
    rows = [
        "| | idle a segment, ms | idle a trial, ms | idle share, % | the same to the last report: a segment, ms "
        "| a trial, ms | share, % | window, s | segments | a training step, ms | filled in, % |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, rounds in measured.items():
        medians = [statistics.median(values) for values in zip(*map(_cells, rounds), strict=True)]
        forms = (".1f", ".1f", ".1f", ".1f", ".1f", ".1f", ".2f", "g", ".3f", ".1f")
        cells = (f"{value:{form}}" for value, form in zip(medians, forms, strict=True))
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _cells(one: Measured) -> tuple[float, ...]:
    return (
        *(1000 * one.searching.per_segment, 1000 * one.searching.per_trial, 100 * one.searching.share),
        *(1000 * one.whole.per_segment, 1000 * one.whole.per_trial, 100 * one.whole.share),
        *(one.whole.window, one.whole.segments, 1000 * one.seconds_per_step, 100 * one.filled_in),
    )


class Ratio(NamedTuple):
    """A geometric mean of ratios, and the bounds that are one standard error away (NaN for a single ratio)."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        between = "" if math.isnan(self.low) else f" (one standard error: {self.low:.3f} to {self.high:.3f})"
        return f"{self.mean:.3f}{between}"


def mean_ratio(values: Sequence[float], baseline: Sequence[float]) -> Ratio:
    """Return the mean ratio of `values` to `baseline`, round by round: half as long and twice as long cancel out."""
    logs = [math.log(value / base) for value, base in zip(values, baseline, strict=True)]
    mean = statistics.fmean(logs)
    error = statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else math.nan
    return Ratio(math.exp(mean), math.exp(mean - error), math.exp(mean + error))


QUANTITIES: Mapping[str, Callable[[Measured], float]] = {
    "idle seconds a segment, while trials are proposed": lambda one: one.searching.per_segment,
    "idle seconds a trial, while trials are proposed": lambda one: one.searching.per_trial,
    "idle share, to the last report": lambda one: one.whole.share,
    "idle seconds a segment, to the last report": lambda one: one.whole.per_segment,
    "seconds a training step": lambda one: one.seconds_per_step,
}
"""The quantities whose ratios are shown. The target is for the first."""


def ratio_lines(measured: Mapping[str, Sequence[Measured]]) -> str:
    """Return the ratios of the model to the baseline as a Markdown list."""
    ratios = {
        name: mean_ratio([value(one) for one in measured[MODEL]], [value(one) for one in measured[BASELINE]])
        for name, value in QUANTITIES.items()
    }
    first, *others = ratios.items()
    return "\n".join(
        [
            f"- {first[0]}: {first[1]}; wanted: {TARGET:g} or less",
            *(f"- {name}: {ratio}" for name, ratio in others),
        ]
    )


def report(repeats: int) -> str:
    """Measure and return a Markdown section. A round takes under a minute."""
    measured = side_by_side({name: _runs(name) for name in (MODEL, BASELINE)}, repeats)
    seconds = {
        name: [1000 * one.searching.per_segment for one in rounds] for name, rounds in measured.items()
    }
    return "\n\n".join(
        [
            "## Idle workers",
            f"examples/digits.yaml with {WORKERS} workers, `search.method` {MODEL} and {BASELINE}; rounds: {repeats}.",
            idle_table(measured),
            ratio_table(seconds, baseline=BASELINE, unit="idle a segment while trials are proposed, ms"),
            f"{MODEL} over {BASELINE}, geometric mean over the rounds:",
            ratio_lines(measured),
        ]
    )


def _runs(method: str) -> Callable[[], Measured]:
    """Return a function that measures a run with seed 0, then one with seed 1, and so on."""
    return partial(_next_run, method, count())


def _next_run(method: str, seeds: Iterator[int]) -> Measured:
    settings = {"search.method": method, "seed": next(seeds), "resources.max_concurrent": WORKERS}
    run: FinishedRun = run_tune_jobs(
        JOB, [part for key, value in settings.items() for part in (f"--{key}", str(value))]
    )
    return measure(run.events, WORKERS)
