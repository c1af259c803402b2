import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import ConcurrencyLimiter, Searcher

from tests.simulation.curve_tables import Table
from tests.simulation.replay import Clock, Contestant, Curve, Results, Step, Stuck, replay

EVEN = Clock(workers=2, start=0.0, jitter=0.0)
"""A clock on which each step takes exactly 1. Of simultaneous steps, the one that began first comes first."""
NAN = math.nan
Log = list[tuple[Any, ...]]


def table(losses: list[list[float]]) -> Table:
    """Configuration `k` is the point `x = k`."""
    curves = np.array(losses)
    return Table("toy", ("x",), np.arange(float(len(losses)))[:, None], curves, curves, curves)


LOSSES = [[10.0 * k + step for step in (1.0, 2.0, 3.0)] for k in range(4)]


class InOrder(Searcher):
    """Proposes each configuration in turn, and records the calls that it receives."""

    def __init__(self, log: Log, trials: int) -> None:
        super().__init__(metric="loss", mode="min")
        self.log = log
        self.left = list(range(trials))

    def suggest(self, trial_id: str) -> Any:
        if not self.left:
            return Searcher.FINISHED
        return {"x": float(self.left.pop(0))}

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        self.log.append(("searcher", int(trial_id), result["loss"]))

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        self.log.append(("searcher ends", int(trial_id), result and result["loss"]))

    def save(self, checkpoint_path: str) -> None: ...

    def restore(self, checkpoint_path: str) -> None: ...


class Decides(FIFOScheduler):
    """Decides by a function of trial number and epoch, and records the calls that it receives."""

    def __init__(
        self, log: Log, decide: Callable[[int, int], str] = lambda *_: TrialScheduler.CONTINUE
    ) -> None:
        super().__init__()
        self.log = log
        self.decide = decide

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self.log.append(("added", int(trial.trial_id)))

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        self.log.append(("scheduler", int(trial.trial_id), result["loss"]))
        return self.decide(int(trial.trial_id), result["training_iteration"])

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        self.log.append(("scheduler ends", int(trial.trial_id), result["loss"]))

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        self.log.append(("scheduler removes", int(trial.trial_id)))


class Told(Callback):
    def __init__(self, log: Log) -> None:
        self.log = log

    def on_trial_start(self, *, trial: Trial, **_: Any) -> None:
        self.log.append(("start", int(trial.trial_id)))

    def on_trial_result(self, *, trial: Trial, result: dict[str, Any], **_: Any) -> None:
        self.log.append(("callback", int(trial.trial_id), result["loss"]))

    def on_trial_complete(self, *, trial: Trial, **_: Any) -> None:
        self.log.append(("callback ends", int(trial.trial_id), trial.last_result["loss"]))


def each_loss(config: Mapping[str, Any], curve: Curve) -> Results:
    for _, loss in curve:
        yield {"loss": loss, "done": False}


def contestant(
    log: Log, *, trials: int = 4, scheduler: TrialScheduler | None = None, limit: int = 2
) -> Contestant:
    return Contestant(
        scheduler=scheduler or Decides(log),
        searcher=ConcurrencyLimiter(InOrder(log, trials), limit),
        most_pending=limit,
        train=each_loss,
        callback=Told(log),
    )


def steps_of(steps: list[Step]) -> list[tuple[int, int]]:
    return [(step.configuration, step.number) for step in steps]


def test_two_workers_take_turns_and_a_worker_that_is_free_takes_the_next_trial() -> None:
    losses = [[1.0, 2.0, 3.0], [4.0, NAN, NAN], [5.0, 6.0, 7.0], [8.0, 9.0, 10.0]]

    steps = replay(contestant([]), table(losses), steps=100, seed=0, clock=EVEN)

    # Time:                   1               2               3               4               5          6
    assert steps_of(steps) == [
        *[(0, 1), (1, 1)],
        *[(0, 2), (1, 2)],  # configuration 1 diverges: its worker takes configuration 2
        *[(0, 3), (2, 1)],
        *[(2, 2), (3, 1)],
        *[(2, 3), (3, 2)],
        (3, 3),
    ]
    assert [step.loss for step in steps[:3]] == [1.0, 4.0, 2.0]
    assert math.isnan(steps[3].loss)


def test_scheduler_searcher_and_callbacks_are_called_in_the_order_of_ray_tune() -> None:
    log: Log = []
    stop_at_2 = Decides(log, lambda _, epoch: TrialScheduler.STOP if epoch == 2 else TrialScheduler.CONTINUE)

    replay(
        contestant(log, trials=1, scheduler=stop_at_2),
        table(LOSSES),
        steps=100,
        seed=0,
        clock=EVEN,
    )

    assert log == [
        *[("added", 0), ("start", 0)],
        *[("scheduler", 0, 1.0), ("searcher", 0, 1.0), ("callback", 0, 1.0)],
        *[("scheduler", 0, 2.0), ("callback", 0, 2.0)],  # the searcher receives a stop once
        *[("scheduler ends", 0, 2.0), ("searcher ends", 0, 2.0), ("callback ends", 0, 2.0)],
    ]


def test_a_trainable_that_returns_is_done_without_another_step() -> None:
    log: Log = []

    steps = replay(contestant(log, trials=1), table([[1.0, NAN], [2.0, 2.0]]), steps=100, seed=0, clock=EVEN)

    assert steps_of(steps) == [(0, 1), (0, 2)]
    assert [entry[:2] for entry in log[5:]] == [
        *[("scheduler", 0), ("searcher", 0), ("callback", 0)],
        *[("scheduler ends", 0), ("searcher ends", 0), ("callback ends", 0)],
    ]


class Waits(Decides):
    """Trials pause after their first step. The first continues once three wait, and then the others are stopped."""

    def __init__(self, log: Log) -> None:
        super().__init__(
            log, lambda _, epoch: TrialScheduler.PAUSE if epoch == 1 else TrialScheduler.CONTINUE
        )

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        trials = tune_controller.get_trials()
        waiting = [trial for trial in trials if trial.status == Trial.PAUSED]
        if len(waiting) == 3 and trials[0] in waiting:
            return trials[0]
        if trials[0].status == Trial.TERMINATED:
            for trial in waiting:
                tune_controller.stop_trial(trial)
        return None


def test_a_paused_trial_frees_its_worker_and_continues_before_others_begin() -> None:
    log: Log = []

    steps = replay(
        contestant(log, scheduler=Waits(log), limit=100), table(LOSSES), steps=100, seed=0, clock=EVEN
    )

    assert steps_of(steps) == [
        *[(0, 1), (1, 1)],  # both pause
        *[(2, 1), (3, 1)],  # with 2 three wait: 0 continues in its place, and 3 pauses too
        *[(0, 2), (0, 3)],
    ]
    assert log[-12:] == [
        *[("scheduler ends", 0, 3.0), ("searcher ends", 0, 3.0), ("callback ends", 0, 3.0)],
        *[("scheduler removes", 1), ("searcher ends", 1, None), ("callback ends", 1, 11.0)],
        *[("scheduler removes", 2), ("searcher ends", 2, None), ("callback ends", 2, 21.0)],
        *[("scheduler removes", 3), ("searcher ends", 3, None), ("callback ends", 3, 31.0)],
    ]


def test_a_run_in_which_nothing_can_continue_is_an_error() -> None:
    log: Log = []
    pauses = Decides(log, lambda *_: TrialScheduler.PAUSE)
    pauses.choose_trial_to_run = lambda _: None  # type: ignore[method-assign,assignment]

    with pytest.raises(Stuck, match="no trial runs at 2: 4 are paused, and the searcher has finished"):
        replay(contestant(log, scheduler=pauses, limit=100), table(LOSSES), steps=100, seed=0, clock=EVEN)


@pytest.mark.parametrize("budget", [1, 5, 11, 12, 13])
def test_the_budget_counts_every_step_and_is_kept_to_the_step(budget: int) -> None:
    log: Log = []

    steps = replay(contestant(log), table(LOSSES), steps=budget, seed=0)

    assert len(steps) == min(budget, 12)
    assert sum(entry[0] == "callback" for entry in log) == len(steps)


def test_no_configuration_is_trained_twice() -> None:
    class Same(InOrder):
        def suggest(self, trial_id: str) -> Any:
            return {"x": 1.2}

    log: Log = []
    same = replace(contestant(log), searcher=Same(log, 0))

    steps = steps_of(replay(same, table(LOSSES), steps=100, seed=0, clock=EVEN))

    assert [k for k, step in steps if step == 1] == [1, 2, 0, 3]  # nearest to 1.2 first
    assert sorted(steps) == [(k, step) for k in range(4) for step in (1, 2, 3)]


def test_the_clock_is_repeatable_and_its_seed_decides_the_order() -> None:
    orders = {
        seed: [
            steps_of(replay(contestant([]), table(LOSSES), steps=100, seed=seed, clock=Clock(workers=2)))
            for _ in range(2)
        ]
        for seed in range(8)
    }

    assert all(first == second for first, second in orders.values())
    assert len({tuple(first) for first, _ in orders.values()}) > 1


def test_without_a_limiter_one_trial_is_proposed_ahead_as_in_ray_tune() -> None:
    log: Log = []
    unlimited = replace(contestant(log), searcher=InOrder(log, 4), most_pending=1)

    replay(unlimited, table(LOSSES), steps=1, seed=0, clock=EVEN)

    assert [entry for entry in log if entry[0] in {"added", "start"}] == [
        *[("added", 0), ("start", 0), ("added", 1), ("start", 1)],
        ("added", 2),  # waits for a worker
    ]
