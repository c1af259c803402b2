"""Measure how many trials at a time the driver keeps busy: trials that only sleep, on declared nodes of one machine.

A sleeping trial always takes the same time, so a machine with two cores can act as 32 nodes. The benchmark measures
the driver, Ray Tune and Ray's own servers, not training.

    utilisation = seconds slept within the window / (slots x window)

- A slot is room for one trial. The first trial of each worker waits until all slots have a worker, then all begin
  at once: 64 workers on two cores need minutes, mostly for imports, which real nodes do at the same time. This wait
  is shown separately, as start-up.
- The window opens when all slots have begun to sleep, and closes when the last trial is handed to a worker: until
  then there is a trial for every slot, and afterwards there are not enough for all.
- Driver time is the processor time of the driver's process, all threads, within the window. Trials of the same length
  with one report and with several give two equations, for the time of a trial and that of a report.
- Raw Ray Tune runs the same sleep on the same nodes, in turn, with `reuse_actors=True`, random search, FIFO, and its
  own result loggers, which are its defaults.
"""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from benchmarks.runs import private_folder, started

SLOTS_A_NODE = 2
NODES = (1, 2, 4, 8, 16, 32)
TARGET_PERCENT = 95.0
"""Target: the lowest utilisation in percent, up to 64 trials at a time."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """A number of sleeping trials and the nodes for them."""

    contestant: str
    """The side that runs the trials: `tune-jobs` or `ray tune`."""
    nodes: int
    slots_a_node: int = SLOTS_A_NODE
    trials: int
    seconds: float
    """Seconds that a trial sleeps."""
    reports: int
    """Reports of a trial, evenly spread."""

    @property
    def slots(self) -> int:
        return self.nodes * self.slots_a_node


class Sleep(NamedTuple):
    """A report of a worker about the seconds that it has just slept."""

    time: float
    driver_seconds: float
    """Processor time of the driver up to this report, in seconds."""
    worker: str
    seconds: float


@dataclass(frozen=True)
class Diary:
    """The events of a load in the order in which the driver saw them."""

    begun: float
    """When the run was started, in seconds of the same clock as all other times."""
    sleeps: list[Sleep] = field(default_factory=list)
    handed: list[float] = field(default_factory=list)
    """When each trial was handed to a worker."""
    ended: list[float] = field(default_factory=list)
    """When each trial had ended."""

    @classmethod
    def from_mapping(cls, row: Mapping[str, Any]) -> Self:
        """Return the diary from the result of `asdict`, even after a round trip through JSON."""
        return cls(**{**row, "sleeps": [Sleep(*sleep) for sleep in row["sleeps"]]})


@dataclass(frozen=True, kw_only=True)
class Steady:
    """The measures of a load while all slots had a worker and there were trials for all."""

    load: Load
    start_up: float
    """Seconds until the window opened."""
    window: float
    slept: float
    """Seconds slept within the window, summed over the slots."""
    trials: int
    """Trials that ended within the window."""
    reports: int
    driver_seconds: float

    @property
    def utilisation(self) -> float:
        return self.slept / (self.load.slots * self.window)

    @property
    def trials_a_second(self) -> float:
        return self.trials / self.window

    @property
    def driver_share(self) -> float:
        """Processors that the driver occupies: 1 is one processor all the time."""
        return self.driver_seconds / self.window


def steady(load: Load, diary: Diary) -> Steady:
    """Return the measures within the window of a diary.

    Raises:
        ValueError: A slot never had a worker, or no trial was handed out once all had one.
    """
    begins: dict[str, float] = {}
    for sleep in diary.sleeps:
        begins.setdefault(sleep.worker, sleep.time - sleep.seconds)
    if len(begins) < load.slots:
        raise ValueError(f"{len(begins)} of {load.slots} slots have had a worker: no time to divide.")
    opens, closes = sorted(begins.values())[load.slots - 1], max(diary.handed, default=0.0)
    inside = [sleep for sleep in diary.sleeps if opens < sleep.time <= closes]
    if not inside:
        raise ValueError("No trial was handed out once all slots had a worker: give more trials.")
    slept = (
        min(sleep.time, closes) - max(sleep.time - sleep.seconds, opens)
        for sleep in diary.sleeps
        if sleep.time > opens and sleep.time - sleep.seconds < closes
    )
    before = [sleep.driver_seconds for sleep in diary.sleeps if sleep.time <= opens]
    return Steady(
        load=load,
        start_up=opens - diary.begun,
        window=closes - opens,
        slept=sum(slept),
        trials=sum(opens < time <= closes for time in diary.ended),
        reports=len(inside),
        driver_seconds=inside[-1].driver_seconds - (before[-1] if before else inside[0].driver_seconds),
    )


class DriverTime(NamedTuple):
    """Processor milliseconds of the driver."""

    a_trial: float
    """Milliseconds of a trial, without its reports."""
    a_report: float


def driver_time(few: Steady, many: Steady) -> DriverTime:
    """Separate the cost of trials and of reports, from the same load with few and with many reports a trial.

    Raises:
        ValueError: The number of reports is the same, or no trial ended in one of the two.
    """
    if few.load.reports == many.load.reports or not few.trials or not many.trials:
        raise ValueError("Two numbers of reports are needed, and trials that end under both.")
    cost = {one.load.reports: 1000 * one.driver_seconds / one.trials for one in (few, many)}
    a_report = (cost[many.load.reports] - cost[few.load.reports]) / (many.load.reports - few.load.reports)
    return DriverTime(a_trial=cost[few.load.reports] - few.load.reports * a_report, a_report=a_report)


def loads(*, nodes: Sequence[int] = NODES, trials: int = 1000) -> dict[str, list[Load]]:
    """Return the loads to run, by the table that they are for."""
    most = max(nodes)
    slots = most * SLOTS_A_NODE
    ours = [
        Load(contestant="tune-jobs", nodes=count, trials=8 * count * SLOTS_A_NODE, seconds=5.0, reports=5)
        for count in nodes
    ]
    shorter = [
        Load(contestant="tune-jobs", nodes=most, trials=max(trials, 4 * slots), seconds=seconds, reports=1)
        for seconds in (4.0, 2.0, 1.0)
    ]
    both = [
        Load(contestant=contestant, nodes=most, trials=trials, seconds=1.0, reports=reports)
        for reports in (1, 5)
        for contestant in ("tune-jobs", "ray tune")
    ]
    return {"nodes": ours, "length": shorter, "cost": both}


def load_table(measured: Iterable[Steady]) -> str:
    """Return a Markdown table with one row per load."""
    rows = [
        "| | nodes | slots | trials | a trial, s | reports | start-up, s | utilisation, % | trials a second "
        "| driver, share of a core |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in measured:
        load = one.load
        rows.append(
            f"| {load.contestant} | {load.nodes} | {load.slots} | {load.trials} | {load.seconds:g} | {load.reports} "
            f"| {one.start_up:.0f} | {100 * one.utilisation:.1f} | {one.trials_a_second:.1f} "
            f"| {one.driver_share:.2f} |"
        )
    return "\n".join(rows)


def cost_table(measured: Iterable[Steady]) -> str:
    """Return a Markdown table of the driver time of a trial and of a report, by contestant; medians over the rounds."""
    by_contestant: dict[str, dict[int, list[Steady]]] = {}
    for one in measured:
        by_contestant.setdefault(one.load.contestant, {}).setdefault(one.load.reports, []).append(one)
    rows = ["| | driver time a trial, ms | a report, ms |", "|---|---|---|"]
    for contestant, by_reports in by_contestant.items():
        few, many = by_reports[min(by_reports)], by_reports[max(by_reports)]
        times = [driver_time(one, other) for one, other in zip(few, many, strict=True)]
        rows.append(
            f"| {contestant} | {statistics.median(time.a_trial for time in times):.1f} "
            f"| {statistics.median(time.a_report for time in times):.1f} |"
        )
    return "\n".join(rows)


def report(repeats: int) -> str:
    """Measure and return a Markdown section. A round takes about half an hour, mostly to start workers."""
    measured: dict[str, list[Steady]] = {}
    for _ in range(repeats):
        for table, asked in loads().items():
            measured.setdefault(table, []).extend(run_loads(asked))
    return "\n\n".join(
        [
            "## Scaling",
            "Trials that sleep, on declared nodes of one machine; the head runs none. Utilisation is that of the slots "
            "while all have a worker and there are trials for all.",
            load_table(measured["nodes"]),
            f"Wanted: at least {TARGET_PERCENT:g} %. Shorter trials on all nodes, to see where it bends:",
            load_table(measured["length"]),
            "The same beside Ray Tune with `reuse_actors=True`, in turn on the same nodes:",
            load_table(measured["cost"]),
            cost_table(measured["cost"]),
        ]
    )


def run_loads(asked: Sequence[Load]) -> list[Steady]:
    """Run loads one after the other in one new process, and add nodes as they need them.

    Raises:
        SystemExit: The process failed.
    """
    with private_folder() as folder:
        question, answer = folder / "loads.json", folder / "diaries.json"
        question.write_text(json.dumps([asdict(load) for load in asked]))
        with started(["-m", "benchmarks.sleeping", str(question), str(answer)], folder) as process:
            process.wait()
        return [steady(load, diary) for load, diary in zip(asked, read_diaries(answer), strict=True)]


def read_diaries(path: Path) -> list[Diary]:
    """Read the diaries that `benchmarks.sleeping` has written."""
    return [Diary.from_mapping(row) for row in json.loads(path.read_text())]
