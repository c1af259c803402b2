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
"""The results that a trainable reports to Ray Tune, one per step of its curve."""


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """The objects under measurement: those that `tune.run` would receive."""

    scheduler: TrialScheduler
    searcher: Searcher
    """The searcher, in a `ConcurrencyLimiter` if `max_concurrent_trials` would add one."""
    most_pending: int
    """Ray Tune asks the searcher while fewer trials are pending: `max_concurrent_trials`, else 1, unless the
    variable `TUNE_MAX_PENDING_TRIALS_PG` says otherwise."""
    train: Callable[[Mapping[str, Any], Curve], Results]
    """The trainable: a function of a trial's config and of its curve."""
    configuration: Callable[[Mapping[str, Any]], Mapping[str, float]] = lambda config: config
    """Returns the point of the space in a trial's config."""
    callback: Callback
    """The callback of Ray Tune that receives starts, results and ends."""


@dataclass(frozen=True, kw_only=True)
class Clock:
    """The simulated clock: times of starts and steps in units of time, and the number of workers."""

    workers: int = 4
    start: float = 1.0
    """A worker is ready at a random moment before this time, drawn uniformly."""
    jitter: float = 0.1
    """A step takes 1 plus or minus half of this at most, drawn uniformly: no order of trials is an artefact."""


class Step(NamedTuple):
    """One step of one trial."""

    configuration: int
    """The number of the trial's configuration in the table."""
    number: int
    """The number of the trial's step, from 1."""
    loss: float
    """The validation loss."""


class Stuck(Exception):
    """No trial runs, and neither scheduler nor searcher provides one: a real run would never end."""


def replay(
    contestant: Contestant, table: Table, *, steps: int, seed: int, clock: Clock = Clock()
) -> list[Step]:
    """Replay a run and return the first `steps` steps of all trials together, in the order of their ends.

    There are fewer if the run ends earlier: the searcher has no more trials, or no configuration is left.

    Args:
        contestant: New objects, which cannot be used again.
        table: The table of curves that the trials replay.
        steps: The budget.
        seed: The seed of the clock. The searcher has its own.
        clock: The times of starts and steps.

    Raises:
        Stuck: The run would never end.
    """
    return list(itertools.islice(_Controller(contestant, table, seed, clock).steps(), steps))


class _Controller:
    """The part of Ray Tune's `TuneController` that schedulers and searchers use."""

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
        self._begun: dict[str, _Learning] = {}
        self._workers = [self._random.uniform(0, clock.start) for _ in range(clock.workers)]
        """The time at which each idle worker is ready. The order of workers that are ready already does not matter."""
        self._now = 0.0
        self._events: list[tuple[float, int, Trial]] = []
        self._order = itertools.count()

    def steps(self) -> Iterator[Step]:
        """Run, and yield each step of a trial after scheduler and searcher have received it."""
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
        """Ask for trials while fewer are pending than Ray Tune allows, and return whether there was one."""
        before = len(self._trials)
        while not self._proposals.is_finished() and len(self._pending) < self._contestant.most_pending:
            trial = self._proposals.next_trial()
            if trial is None:
                break
            self._learning[trial] = self._take_curve(trial)
            self._trials.append(trial)
            self._pending[trial] = None
            self._scheduler.on_trial_add(self, trial)
        return len(self._trials) > before

    def _take_curve(self, trial: Trial) -> "_Learning":
        """Return the position of a new trial on its curve, or of one that the searcher has given again."""
        name = _name(trial)
        if name not in self._begun:
            index = self._unused.take(self._contestant.configuration(trial.config))
            results = self._contestant.train(trial.config, self._table.curve(index))
            self._begun[name] = _Learning(index, results)
        return self._begun[name]

    def _start_trials(self) -> bool:
        """Start the scheduler's choices, then the other trials in their order, and return whether any was started."""
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
        """Start the trial's next step. If there is none, its end takes no time."""
        learning = self._learning[trial]
        learning.result = next(learning.results, None)
        if learning.result is not None:
            delay += 1 + self._clock.jitter * self._random.uniform(-0.5, 0.5)
        heapq.heappush(self._events, (self._now + delay, next(self._order), trial))

    def _hear(self, trial: Trial) -> Step | None:
        """Handle one result and return its step, or None if the trainable has returned after its last result."""
        learning = self._learning[trial]
        result = learning.result
        if result is None:  # Ray Tune repeats the last result as done
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
        """Free the trial's worker, if it has one."""
        if trial.status == Trial.RUNNING:
            self._events = [event for event in self._events if event[2] is not trial]
            heapq.heapify(self._events)
            self._workers.append(self._now)

    def _state(self) -> str:
        """Return why the run cannot end, for `Stuck`."""
        paused = sum(trial.status == Trial.PAUSED for trial in self._trials)
        searcher = "has finished" if self._proposals.is_finished() else "proposes nothing"
        return f"no trial runs at {self._now:g}: {paused} are paused, and the searcher {searcher}"


@dataclass
class _Learning:
    """The position of a trial on its curve."""

    configuration: int
    results: Results
    result: dict[str, Any] | None = None
    """The result of the step in progress."""
    steps: int = 0
    """The number of finished steps."""


class _Proposals(SearchGenerator):
    """Ray Tune's wrapper of a searcher, with trials that need no trainable and have repeatable ids."""

    def __init__(self, searcher: Searcher, trials: int) -> None:
        super().__init__(searcher)
        self._total_samples = trials
        self._ids = itertools.count()

    def next_trial(self) -> Trial | None:
        """Return a trial that is new or was paused before, or None if the searcher has none now."""
        trial_id = f"{next(self._ids):05d}"
        config: Any = self.searcher.suggest(trial_id)
        if config == Searcher.FINISHED:
            self._finished = True
        if config is None or self._finished:
            return None
        trial = Trial("replay", config=config, trial_id=trial_id, stub=True)
        self._counter += "trial_id" not in config  # a searcher with ids of its own knows its end
        return trial


def _name(trial: Trial) -> str:
    """Return the searcher's own id of a trial, if it has one: such a trial continues if it is given again."""
    return str(trial.config.get("trial_id", trial.trial_id))


def _ended(trial: Trial) -> bool:
    return bool(trial.status == Trial.TERMINATED)
