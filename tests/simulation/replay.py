"""Replay a table of learning curves through a scheduler and a searcher of Ray Tune, on a simulated clock.

Workers train one trial each, without waiting for one another; a step of a curve takes about one unit of time. The
controller here stands in for Ray Tune's `TuneController` (Ray 2.60) and calls scheduler, searcher and callbacks in
the same order and with real `Trial` objects. Nothing else of Ray runs.
"""

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.search_generator import SearchGenerator

from tests.simulation.curve_tables import Table, UnusedConfigurations

Curve = Iterable[tuple[float, float]]
"""Training and validation loss after each step."""
Results = Iterator[dict[str, Any]]
"""What a trainable reports to Ray Tune: one result a step of its curve."""


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """What is measured: the objects that `tune.run` would be given."""

    scheduler: TrialScheduler
    searcher: Searcher
    """With a `ConcurrencyLimiter` around it where `max_concurrent_trials` would put one."""
    most_pending: int
    """Ray Tune asks the searcher while fewer trials are pending: `max_concurrent_trials`, else 1, unless the
    variable `TUNE_MAX_PENDING_TRIALS_PG` says otherwise."""
    train: Callable[[Mapping[str, Any], Curve], Results]
    """The trainable: of a trial's config and the curve that it goes along."""
    configuration: Callable[[Mapping[str, Any]], Mapping[str, float]] = lambda config: config
    """The point of the space in a trial's config."""
    callback: Callback
    """Told of starts, results and ends, like any callback of Ray Tune."""


@dataclass(frozen=True, kw_only=True)
class Clock:
    """How long things take, in units of time, and how many of them go on at once."""

    workers: int = 4
    start: float = 1.0
    """A worker is up at some moment before this, drawn uniformly."""
    jitter: float = 0.1
    """A step takes 1, give or take up to half of this, drawn uniformly: no order of trials is an artefact."""


class Step(NamedTuple):
    """One step of one trial."""

    configuration: int
    """In the table."""
    number: int
    """Of the trial's steps, from 1."""
    loss: float
    """On validation rows."""


class Stuck(Exception):
    """No trial runs, and neither scheduler nor searcher gives one to run: a real run would never end."""


def replay(
    contestant: Contestant, table: Table, *, steps: int, seed: int, clock: Clock = Clock()
) -> list[Step]:
    """The first `steps` steps of all trials together, in the order in which they end.

    They are fewer where the run ends before: the searcher has no more, or no configuration is left.

    Args:
        contestant: fresh objects; they are used up.
        table: what the trials learn.
        steps: the budget.
        seed: of the clock; the searcher has its own.
        clock: how long things take.

    Raises:
        Stuck: the run would never end.
    """
    return list(itertools.islice(_Controller(contestant, table, seed, clock).steps(), steps))


class _Controller:
    """Ray Tune's `TuneController`, as far as schedulers and searchers can tell."""

    def __init__(self, contestant: Contestant, table: Table, seed: int, clock: Clock) -> None:
        self._scheduler: Any = contestant.scheduler  # its methods want a `TuneController`
        self._callback = contestant.callback
        self._contestant = contestant
        self._table = table
        self._clock = clock
        self._random = Random(seed)
        self._unused = UnusedConfigurations(table)
        self._proposals = _Proposals(contestant.searcher, table.configurations)
        self._trials: list[Trial] = []
        self._pending: dict[Trial, None] = {}  # in the order in which they became pending
        self._learning: dict[Trial, _Learning] = {}
        self._workers = [self._random.uniform(0, clock.start) for _ in range(clock.workers)]
        """When each idle worker is up; the order of those that are up already does not matter."""
        self._now = 0.0
        self._events: list[tuple[float, int, Trial]] = []
        self._order = itertools.count()

    def steps(self) -> Iterator[Step]:
        """Runs, and yields each step of a trial once scheduler and searcher know of it."""
        while not self._finished:
            while self._ask_searcher() or self._start_trials():
                pass
            if not self._events:
                if self._finished:
                    return
                raise Stuck(self._state())
            self._now, _, trial = heapq.heappop(self._events)
            step = self._hear(trial)
            if step is not None:
                yield step

    # What schedulers call: the names are Ray Tune's.

    @property
    def search_alg(self) -> SearchGenerator:
        return self._proposals

    def get_trials(self) -> list[Trial]:
        return self._trials

    def get_live_trials(self) -> set[Trial]:
        return {trial for trial in self._trials if not _ended(trial)}

    def pause_trial(self, trial: Trial, should_checkpoint: bool = True) -> None:
        self._release(trial)
        self._set_trial_status(trial, Trial.PAUSED)

    def stop_trial(self, trial: Trial) -> None:
        if _ended(trial):
            return
        if trial.status == Trial.RUNNING:
            self._scheduler.on_trial_complete(self, trial, trial.last_result)
            self._proposals.on_trial_complete(trial.trial_id, result=trial.last_result)
        else:
            self._scheduler.on_trial_remove(self, trial)
            self._proposals.on_trial_complete(trial.trial_id)
        self._callback.on_trial_complete(iteration=0, trials=self._trials, trial=trial)
        self._release(trial)
        self._set_trial_status(trial, Trial.TERMINATED)

    def _set_trial_status(self, trial: Trial, status: str) -> None:
        self._pending.pop(trial, None)
        if status == Trial.PENDING:
            self._pending[trial] = None
        trial.set_status(status)  # type: ignore[no-untyped-call]  # Ray is typed in parts

    # The parts of `TuneController.step`.

    @property
    def _finished(self) -> bool:
        return self._proposals.is_finished() and all(_ended(trial) for trial in self._trials)

    def _ask_searcher(self) -> bool:
        """Asks for trials while fewer are pending than Ray Tune allows; whether there was one."""
        before = len(self._trials)
        while not self._proposals.is_finished() and len(self._pending) < self._contestant.most_pending:
            trial = self._proposals.next_trial()
            if trial is None:
                break
            index = self._unused.take(self._contestant.configuration(trial.config))
            results = self._contestant.train(trial.config, self._table.curve(index))
            self._learning[trial] = _Learning(index, results)
            self._trials.append(trial)
            self._pending[trial] = None
            self._scheduler.on_trial_add(self, trial)
        return len(self._trials) > before

    def _start_trials(self) -> bool:
        """Starts what the scheduler chooses, then the others in the order of their waiting; whether any was."""
        before = len(self._workers)
        chosen = self._scheduler.choose_trial_to_run(self)
        if chosen is not None and chosen.status == Trial.PAUSED:
            self._set_trial_status(chosen, Trial.PENDING)
        others = (trial for trial in list(self._pending) if trial is not chosen)
        for trial in itertools.chain([] if chosen is None else [chosen], others):
            if not self._workers:
                break
            self._start(trial)
        return len(self._workers) < before

    def _start(self, trial: Trial) -> None:
        up = self._workers.pop(0)
        self._callback.on_trial_start(iteration=0, trials=self._trials, trial=trial)
        self._set_trial_status(trial, Trial.RUNNING)
        self._train(trial, delay=max(0.0, up - self._now))

    def _train(self, trial: Trial, delay: float = 0.0) -> None:
        """Has the trial do its next step; where there is none, the news of that takes no time."""
        learning = self._learning[trial]
        learning.result = next(learning.results, None)
        if learning.result is not None:
            delay += 1 + self._clock.jitter * self._random.uniform(-0.5, 0.5)
        heapq.heappush(self._events, (self._now + delay, next(self._order), trial))

    def _hear(self, trial: Trial) -> Step | None:
        """Handles one result; None where the trainable has returned after its last one."""
        learning = self._learning[trial]
        result = learning.result
        if result is None:  # Ray Tune takes the last result once more, as done
            trial.last_result["done"] = True
            self.stop_trial(trial)
            return None
        learning.steps += 1
        loss = float(self._table.valid[learning.configuration, learning.steps - 1])
        result |= {
            "trial_id": trial.trial_id,
            "training_iteration": learning.steps,
            "hostname": "replay",
            "pid": 0,
        }
        self._decide(trial, result)
        return Step(learning.configuration, learning.steps, loss)

    def _decide(self, trial: Trial, result: dict[str, Any]) -> None:
        decision = TrialScheduler.STOP
        if not result["done"]:
            decision = self._scheduler.on_trial_result(self, trial, result)
        if decision == TrialScheduler.STOP:
            result["done"] = True
        else:
            self._proposals.on_trial_result(trial.trial_id, result)
        self._callback.on_trial_result(iteration=0, trials=self._trials, trial=trial, result=result)
        trial.update_last_result(result)  # type: ignore[no-untyped-call]
        match decision:
            case TrialScheduler.STOP:
                self.stop_trial(trial)
            case TrialScheduler.PAUSE:
                self.pause_trial(trial)
            case TrialScheduler.CONTINUE if trial.status == Trial.RUNNING:
                self._train(trial)

    def _release(self, trial: Trial) -> None:
        """The trial's worker, if it has one, is free for another."""
        if trial.status == Trial.RUNNING:
            self._events = [event for event in self._events if event[2] is not trial]
            heapq.heapify(self._events)
            self._workers.append(self._now)

    def _state(self) -> str:
        """What keeps the run from ending, for `Stuck`."""
        paused = sum(trial.status == Trial.PAUSED for trial in self._trials)
        searcher = "has finished" if self._proposals.is_finished() else "proposes nothing"
        return f"no trial runs at {self._now:g}: {paused} are paused, and the searcher {searcher}"


@dataclass
class _Learning:
    """How far a trial is along its curve."""

    configuration: int
    results: Results
    result: dict[str, Any] | None = None
    """Of the step that is being done."""
    steps: int = 0
    """That were done."""


class _Proposals(SearchGenerator):
    """Ray Tune's wrapper of a searcher, with trials that need no trainable, and ids that are the same each time."""

    def __init__(self, searcher: Searcher, trials: int) -> None:
        super().__init__(searcher)
        self._total_samples = trials

    def next_trial(self) -> Trial | None:
        """A new trial; None where the searcher has none for now."""
        trial_id = f"{self._counter:05d}"
        config: Any = self.searcher.suggest(trial_id)
        if config == Searcher.FINISHED:
            self._finished = True
        if config is None or self._finished:
            return None
        self._counter += 1
        return Trial("replay", config=config, trial_id=trial_id, stub=True)


def _ended(trial: Trial) -> bool:
    return bool(trial.status == Trial.TERMINATED)
