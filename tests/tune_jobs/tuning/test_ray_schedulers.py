"""Ray's own schedulers, rebuilt from any part of a journal: their state and decisions are those of the live one."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from tests.simulation import made_up_tables as curves
from tests.simulation.curve_tables import Table
from tests.simulation.made_up_tables import MakeTable
from tests.simulation.replay import Contestant, replay
from tests.simulation.reporting import as_a_run
from tests.tune_jobs.search import conftest as search
from tests.tune_jobs.search.conftest import created, ended, reported
from tests.tune_jobs.tuning.test_components import plan_of
from tune_jobs.job.settings import LimitSettings, SchedulerSettings
from tune_jobs.record.codes import Cause, Ending, Status
from tune_jobs.record.events import (
    EpochsReported,
    Event,
    RunEnded,
    TrialEnded,
    TrialStarted,
    WorkerLost,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal, read_journal
from tune_jobs.record.live import LiveRun
from tune_jobs.trainers.settings import ScoreSettings
from tune_jobs.tuning.callback import JournalCallback
from tune_jobs.tuning.components import TuningPlan, open_components
from tune_jobs.tuning.ray_schedulers import JournaledRule, ray_scheduler
from tune_jobs.worker.reporting import Report

METHODS = ("asha_stopping", "median")
RUNGS, MAX_EPOCHS = (1, 3), 9
make_table, one_thread = curves.make_table, search.one_thread  # fixtures


def inner(method: str) -> TrialScheduler:
    settings = SchedulerSettings(method=method, grace_epochs=1, reduction_factor=3)  # type: ignore[arg-type]
    return ray_scheduler(settings, MAX_EPOCHS)


def rule_of(
    method: str, events: Sequence[Event], mode: str = "min", metric: str = "val_loss"
) -> JournaledRule:
    score = ScoreSettings(metric=metric, mode=mode)  # type: ignore[arg-type]
    return JournaledRule.replay(inner(method), RUNGS, score, events)


def state(rule: JournaledRule) -> str:
    """Return the state of Ray Tune's scheduler, to the last bit."""
    known: dict[str, Any] = dict(vars(rule._scheduler))
    for bracket in known.pop("_brackets", ()):
        known |= {"rungs": bracket._rungs, "_trial_info": sorted(known["_trial_info"])}
    if "_results" in known:
        known |= {name: dict(known[name]) for name in ("_results", "_last_pause")}
        known["_stopped_trials"] = sorted(trial.trial_id for trial in known["_stopped_trials"])
    return repr((sorted(rule.stopped), sorted((k, v) for k, v in known.items() if not callable(v))))


def compared_at(rule: JournaledRule, epoch: int) -> set[str]:
    """Return the trials that Ray Tune's scheduler has seen at a rung."""
    known = vars(rule._scheduler)
    if "_brackets" in known:
        return set(dict(known["_brackets"][0]._rungs)[epoch])
    return {
        trial.trial_id
        for trial, results in known["_results"].items()
        if any(result["rung_epoch"] == epoch for result in results)
    }


@pytest.mark.parametrize("method", METHODS)
def test_scores_that_are_finite_and_huge_are_compared_without_a_warning(method: str) -> None:
    events: list[Event] = [event for n in range(4) for event in (created(n, {}), reported(n, *[1.7e308] * 3))]
    assert compared_at(rule_of(method, events), 3)


# On the simulated clock


def simulated(
    plan: TuningPlan, table: Table, folder: RunFolder, scheduler: TrialScheduler | None = None
) -> tuple[list[Event], list[str]]:
    """Return the journal of a run and the scheduler's state after each event, with our scheduler or with Ray's own."""
    states: list[str] = []
    with (
        Journal(folder.journal) as journal,
        open_components(plan, run := LiveRun.on(folder, journal, plan.score)) as components,
    ):
        rule: JournaledRule = components.scheduler._rule  # type: ignore[attr-defined]
        journal.follow(lambda event: states.append(state(rule)))
        contestant = Contestant(
            scheduler=scheduler or components.scheduler,
            searcher=components.searcher,
            most_pending=plan.max_running,
            train=partial(as_a_run, max_epochs=plan.max_epochs, rungs=plan.rungs),
            configuration=lambda config: config["configuration"],
            callback=JournalCallback(run, components, LimitSettings()),
        )
        replay(contestant, table, steps=10_000, seed=7)
    return read_journal(folder.journal), states


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_rebuilt_from_any_part_of_the_journal_it_is_the_same(
    method: str, make_table: MakeTable, folder: RunFolder
) -> None:
    table = make_table(configurations=40, diverging=6)
    plan = plan_of(table, scheduler=method)
    events, states = simulated(plan, table, folder)
    stopped = {
        event.trial_id
        for event in events
        if isinstance(event, TrialEnded) and event.cause is Cause.STOPPED_BY_SCHEDULER
    }
    assert len(stopped) > 8
    assert any(isinstance(event, TrialEnded) and event.status is Status.FAILED for event in events)
    for place, live in enumerate(states, start=1):
        assert state(rule_of(method, events[:place])) == live
    assert rule_of(method, events).stopped == stopped


@pytest.mark.parametrize("method", METHODS)
def test_a_rebuilt_rule_continues_as_the_live_one(
    method: str, make_table: MakeTable, folder: RunFolder
) -> None:
    table = make_table(configurations=30, diverging=3)
    events, states = simulated(plan_of(table, scheduler=method), table, folder)
    for place in range(0, len(events), 25):
        rule = rule_of(method, events[:place])
        for event, live in zip(events[place : place + 50], states[place:], strict=False):
            rule.apply(event)
            assert state(rule) == live


@pytest.mark.parametrize("method", METHODS)
def test_it_decides_like_the_scheduler_of_ray_in_ray_tune_itself(
    method: str, make_table: MakeTable, folder: RunFolder, tmp_path: Any
) -> None:
    table = make_table(configurations=40, diverging=0 if method == "median" else 6)  # Ray's fails on failures
    plan = plan_of(table, scheduler=method)
    ours, _ = simulated(plan, table, folder)
    ray_s, _ = simulated(plan, table, RunFolder.create(tmp_path / "ray", "r"), inner(method))
    assert [replace(event, time=0) for event in ours] == [replace(event, time=0) for event in ray_s]


# Made-up events


def asha_of_three(*later: Event) -> list[Event]:
    """Return events of two good trials at the first rung, of a third that is stopped there, and `later`."""
    return [
        *[created(number, {"x": number / 10}) for number in range(4)],
        reported(0, 0.1),
        reported(1, 0.2),
        reported(2, 0.9),
        *later,
    ]


def test_a_trial_that_is_not_good_enough_at_its_rung_is_stopped() -> None:
    assert rule_of("asha_stopping", asha_of_three()).stopped == {"0001", "0002"}
    assert rule_of("asha_stopping", asha_of_three()[:5]).stopped == set()


@pytest.mark.parametrize(
    "again",
    [
        [WorkerLost(trial_id="0000", reason="killed"), TrialStarted(trial_id="0000"), reported(0, 0.1)],
        [reported(0, 0.95)],
        [reported(2, 0.0)],
        [
            TrialEnded(
                trial_id="0002", status=Status.INTERRUPTED, cause=Cause.RUN_ENDED, reason="", resumable=True
            )
        ],
        [RunEnded(ending=Ending.INTERRUPTED)],
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_what_is_reported_again_and_interruptions_change_nothing(method: str, again: list[Event]) -> None:
    before = state(rule_of(method, asha_of_three()))
    assert state(rule_of(method, asha_of_three(*again))) == before


def test_a_repeated_rung_does_not_bring_a_stopped_trial_back() -> None:
    assert "0002" in rule_of("asha_stopping", asha_of_three(reported(2, 0.0))).stopped


@pytest.mark.parametrize("method", METHODS)
def test_trials_that_diverge_or_fail_are_not_compared(method: str) -> None:
    events = [
        *[created(number, {"x": number / 10}) for number in range(6)],
        reported(0, math.nan),
        ended(0, Status.FAILED),
        reported(1, 0.5, 0.4, math.inf),
        ended(1, Status.FAILED),
        ended(2, Status.FAILED),
        reported(3, 0.3, 0.3, 0.3),
        reported(4, 0.4, 0.3, 0.2),
        reported(5, 0.5, 0.3, 0.25),
    ]
    rule = rule_of(method, events)
    assert compared_at(rule, 1) == {"0001", "0003", "0004", "0005"}
    assert compared_at(rule, 3) <= {"0003", "0004", "0005"}
    assert "0003" in compared_at(rule, 3)


@pytest.mark.parametrize("method", METHODS)
def test_high_may_be_better(method: str) -> None:
    def told(mode: str, sign: float) -> set[str]:
        events: list[Event] = []
        for number in range(8):
            results = [
                {
                    "epoch": epoch,
                    "train_loss": 1.0,
                    "val_loss": 1.0,
                    "seconds": 0.5,
                    "accuracy": sign * (number * 5 % 8),
                }
                for epoch in (1, 2, 3)
            ]
            events += [created(number, {"x": 0.1}), replace(reported(number), results=results)]
        return rule_of(method, events, mode=mode, metric="accuracy").stopped

    assert told("max", 1.0) == told("min", -1.0) != set()
    assert told("max", -1.0) == told("min", 1.0) != told("max", 1.0)


def test_a_trial_that_was_to_be_stopped_when_the_driver_died_is_stopped_when_it_reports_again(
    make_table: MakeTable, folder: RunFolder
) -> None:
    plan, past = plan_of(make_table(), scheduler="asha_stopping"), asha_of_three()

    def decision(number: int, epoch: int, loss: float) -> str:
        results = [result for event in past if isinstance(event, EpochsReported) for result in event.results]
        report = Report(epoch=epoch, results=results[number : number + 1], score=loss, rung=True)
        trial = Trial("made up", config={"trial_id": f"{number:04d}"}, stub=True)
        result = {**report.to_result(), "hostname": "node", "pid": 1}
        return components.scheduler.on_trial_result(None, trial, result)  # type: ignore[arg-type]

    with (
        Journal(folder.journal) as journal,
        open_components(plan, LiveRun.on(folder, journal, plan.score, past)) as components,
    ):
        assert [decision(number, 1, loss) for number, loss in enumerate((0.1, 0.2, 0.9))] == [
            TrialScheduler.CONTINUE, TrialScheduler.STOP, TrialScheduler.STOP,
        ]  # fmt: skip
    assert read_journal(folder.journal) == [], "all of it was known"


# The choice of a job's scheduler


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("asha_stopping", "AsyncHyperBandScheduler"),
        ("median", "MedianStoppingRule"),
        ("none", "FIFOScheduler"),
    ],
)
def test_the_others_are_ray_tune_s_own(method: str, name: str) -> None:
    made = ray_scheduler(SchedulerSettings.model_validate({"method": method}), 9)
    assert type(made).__name__ == name
