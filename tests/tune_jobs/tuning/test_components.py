"""Scheduler and searcher together, on a simulated clock: their state can be rebuilt from the journal."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.storages import InMemoryStorage
from ray.tune.search import Searcher

from tests.simulation import made_up_tables as curves
from tests.simulation.curve_tables import Table
from tests.simulation.made_up_tables import MakeTable
from tests.simulation.replay import Contestant, replay
from tests.simulation.reporting import as_a_run
from tests.tune_jobs.search import conftest as search
from tune_jobs.job.rung_epochs import rung_epochs
from tune_jobs.job.settings import LimitSettings, SchedulerSettings, SearchSettings
from tune_jobs.record.codes import Status
from tune_jobs.record.events import (
    EpochsReported,
    Event,
    TrialCreated,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
    TrialStarted,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal, read_journal
from tune_jobs.record.live import LiveRun
from tune_jobs.scheduling.rungs import Promotion, RungTables, make_tables
from tune_jobs.search.history import SearchHistory
from tune_jobs.search.methods import make_method
from tune_jobs.search.proposals import Ahead, Immediate, OneAhead
from tune_jobs.tracking.optuna_study import STUDY_NAME, StudyMirror
from tune_jobs.trainers.settings import ScoreSettings
from tune_jobs.tuning.callback import JournalCallback
from tune_jobs.tuning.components import TuningPlan, make_proposals, open_components
from tune_jobs.tuning.control import RunControl
from tune_jobs.tuning.promotion_scheduler import PromotionScheduler
from tune_jobs.tuning.ray_schedulers import JournaledScheduler

METHODS = ("gp", "tpe", "random")
make_table, one_thread = curves.make_table, search.one_thread  # fixtures


def plan_of(table: Table, method: str = "random", scheduler: str = "asha", **changes: Any) -> TuningPlan:
    scheduling = SchedulerSettings(method=scheduler, grace_epochs=1, reduction_factor=3)  # type: ignore[arg-type]
    plan = TuningPlan(
        search=SearchSettings(space=table.space, trials=table.configurations, method=method),  # type: ignore[arg-type]
        scheduler=scheduling,
        score=ScoreSettings(metric="val_loss"),
        rungs=rung_epochs(scheduling, table.steps),
        max_epochs=table.steps,
        trials=table.configurations,
        seed=5,
        max_running=4,
        proposals="immediate",
    )
    return replace(plan, **changes)


@contextmanager
def contestant(
    plan: TuningPlan, folder: RunFolder, storage: InMemoryStorage | None = None
) -> Iterator[Contestant]:
    study = StudyMirror(
        storage or InMemoryStorage(), plan.search.space, plan.score, (*plan.rungs, plan.max_epochs)
    )
    with (
        Journal(folder.journal, study) as journal,
        open_components(plan, run := LiveRun.on(folder, journal, plan.score)) as components,
    ):
        yield Contestant(
            scheduler=components.scheduler,
            searcher=components.searcher,
            most_pending=plan.max_running,
            train=partial(as_a_run, max_epochs=plan.max_epochs, rungs=plan.rungs),
            configuration=lambda config: config["configuration"],
            callback=JournalCallback(run, components, LimitSettings()),
        )


def run(plan: TuningPlan, table: Table, folder: RunFolder, steps: int = 10_000) -> tuple[list[Event], Any]:
    """Run on the table, and return the events of the journal and the study."""
    storage = InMemoryStorage()
    with contestant(plan, folder, storage) as objects:
        replay(objects, table, steps=steps, seed=7)
    return read_journal(folder.journal), optuna.load_study(study_name=STUDY_NAME, storage=storage)


class Rebuilt:
    """The deciding parts of searcher and scheduler, rebuilt from a part of a journal."""

    def __init__(self, plan: TuningPlan, events: list[Event]) -> None:
        self.tables = make_tables(plan.scheduler, plan.rungs, plan.score)
        for event in events:
            self.tables.apply(event)
        self._plan = plan
        self._events = events

    def proposal(self, number: int) -> Any:
        plan = self._plan
        history = SearchHistory.replay(
            self._events, plan.search.space, plan.rungs, plan.max_epochs, plan.score
        )
        method = make_method(plan.search, plan.scheduler.reduction_factor, plan.seed)
        return method.propose(history.snapshot(), number)


# From the journal


@pytest.mark.parametrize("method", METHODS)
def test_components_rebuilt_after_any_event_make_the_next_decision_of_the_run(
    method: str, make_table: MakeTable, folder: RunFolder
) -> None:
    table = make_table(configurations=45, diverging=6)
    plan = plan_of(table, method)
    events, _ = run(plan, table, folder, steps=110)
    seen = {TrialCreated: 0, TrialPromoted: 0, TrialPaused: 0}
    for place, event in enumerate(events):
        before = Rebuilt(plan, events[:place])
        match event:
            case TrialCreated():
                assert before.tables.may_start(plan.max_running)
                assert before.proposal(event.number) == event.configuration
            case TrialPromoted():
                assert before.tables.next_promotion() == Promotion(event.trial_id, event.epoch)
            case TrialPaused():
                assert before.tables.decide(event.trial_id, event.epoch) == "pause"
        if type(event) in seen:
            seen[type(event)] += 1
    assert min(seen.values()) >= 8
    assert seen[TrialCreated] > 30, "the model was asked"
    drawn = make_method(plan.search.model_copy(update={"method": "random"}), 3, plan.seed)
    history = SearchHistory(table.space, plan.rungs, plan.max_epochs, plan.score)
    by_chance = [
        drawn.propose(history.snapshot(), event.number) == event.configuration
        for event in events
        if isinstance(event, TrialCreated)
    ]
    assert all(by_chance) is (method == "random")


def test_the_next_proposal_is_the_same_after_every_event(make_table: MakeTable, folder: RunFolder) -> None:
    """The objects of the run and rebuilt ones agree after every event, not only when the run asked for a proposal."""
    table = make_table(configurations=30)
    plan = plan_of(table, "gp")
    events, _ = run(plan, table, folder, steps=60)
    live = SearchHistory(table.space, plan.rungs, plan.max_epochs, plan.score)
    method = make_method(plan.search, plan.scheduler.reduction_factor, plan.seed)
    number = 0
    for place, event in enumerate(events, start=1):
        live.apply(event)
        number += isinstance(event, TrialCreated)
        if place % 3 == 0:
            assert Rebuilt(plan, events[:place]).proposal(number) == method.propose(live.snapshot(), number)
    assert number > 20


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("proposals", ["immediate", "one_ahead"])
def test_a_run_rebuilt_from_its_journal_creates_the_same_trial_next(
    proposals: str, method: str, make_table: MakeTable, folder: RunFolder, tmp_path: Any
) -> None:
    """This uses the objects of a run, rebuilt from the events before each trial."""
    table = make_table(configurations=40)
    plan = plan_of(table, method, proposals=proposals)
    events, _ = run(plan, table, folder, steps=60)
    taken_up = 0
    for place, event in enumerate(events):
        if not isinstance(event, TrialCreated) or event.number % 4:
            continue
        again = RunFolder.create(tmp_path / f"{place}", "r")
        with (
            Journal(again.journal) as journal,
            open_components(plan, LiveRun.on(again, journal, plan.score, events[:place])) as components,
        ):
            unfinished = set(components.tables.open)
            first = [components.searcher.suggest("")["trial_id"] for _ in unfinished]  # type: ignore[index, call-overload]
            given: Any = components.searcher.suggest("")
        assert set(first) == unfinished, "what was in progress comes first"
        assert (given["trial_id"], given["configuration"]) == (event.trial_id, event.configuration)
        taken_up += 1
    assert taken_up > 6


@pytest.mark.parametrize("method", METHODS)
def test_the_seed_makes_a_run_repeatable(method: str, make_table: MakeTable, tmp_path: Any) -> None:
    table = make_table(configurations=40)

    def configurations(seed: int, folder: str) -> list[Any]:
        events, _ = run(
            plan_of(table, method, seed=seed), table, RunFolder.create(tmp_path / folder, "r"), steps=60
        )
        return [event.configuration for event in events if isinstance(event, TrialCreated)]

    first = configurations(1, "a")
    assert configurations(1, "b") == first
    assert configurations(2, "c")[:5] != first[:5]


# Whole runs


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scheduler", ["asha", "none"])
def test_a_run_ends_with_every_trial_and_its_study_says_how(
    method: str, scheduler: str, make_table: MakeTable, folder: RunFolder
) -> None:
    table = make_table(configurations=30, diverging=4)
    events, study = run(plan_of(table, method, scheduler), table, folder)
    created = [event.trial_id for event in events if isinstance(event, TrialCreated)]
    endings = {event.trial_id: event.status for event in events if isinstance(event, TrialEnded)}
    assert sorted(endings) == created == [f"{number:04d}" for number in range(30)]
    states = {Status.COMPLETED: "COMPLETE", Status.STOPPED_EARLY: "PRUNED", Status.FAILED: "FAIL"}
    assert {t.user_attrs["trial_id"]: t.state.name for t in study.trials} == {
        trial: states[status] for trial, status in endings.items()
    }
    assert Status.FAILED in endings.values()
    assert (Status.STOPPED_EARLY in endings.values()) is (scheduler == "asha")


def test_the_steps_of_the_study_are_scores_at_rungs(make_table: MakeTable, folder: RunFolder) -> None:
    table = make_table(configurations=30, diverging=4)
    events, study = run(plan_of(table), table, folder)
    losses: dict[str, list[float]] = {}
    for event in events:
        if isinstance(event, EpochsReported):
            losses.setdefault(event.trial_id, []).extend(result["val_loss"] for result in event.results)
    assert any(len(trial.intermediate_values) == 3 for trial in study.trials)
    for trial in study.trials:
        of_trial = losses[trial.user_attrs["trial_id"]]
        finite = next((n for n, loss in enumerate(of_trial) if not math.isfinite(loss)), len(of_trial))
        expected = {epoch: min(of_trial[:epoch]) for epoch in (1, 3, 9) if epoch <= finite}
        assert trial.intermediate_values == expected


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_trials_are_open_than_there_are_workers(
    workers: int, make_table: MakeTable, folder: RunFolder
) -> None:
    table = make_table(configurations=30)
    events, _ = run(plan_of(table, max_running=workers), table, folder)
    tables = RungTables((1, 3), 3, ScoreSettings(metric="val_loss"))
    most = 0
    for event in events:
        tables.apply(event)
        most = max(most, len(tables.open))
    assert most == workers
    assert not tables.open
    assert not tables.waiting


@pytest.mark.slow
def test_a_model_finds_better_configurations_than_random_search_in_the_same_number_of_steps(
    make_table: MakeTable, tmp_path: Any
) -> None:
    table = make_table(configurations=400, diverging=20)

    def mean_distance(method: str) -> float:
        """Return the distances of the last twenty configurations, over three seeds, to the best point of the table."""
        distances = []
        for seed in range(3):
            folder = RunFolder.create(tmp_path / f"{method}-{seed}", "r")
            events, _ = run(plan_of(table, method, seed=seed), table, folder, steps=110)
            created = [event.configuration for event in events if isinstance(event, TrialCreated)][-20:]
            distances += [abs(math.log(c["lr"]) + 4) / 5 + abs(c["momentum"] - 0.3) for c in created]
        return float(np.mean(distances))

    assert mean_distance("gp") < 0.6 * mean_distance("random")


# The choice of a run's objects


@pytest.mark.parametrize(
    ("scheduler", "kind"),
    [("asha", PromotionScheduler), ("asha_stopping", JournaledScheduler), ("none", JournaledScheduler)],
)
def test_the_scheduler_is_the_one_that_was_asked_for(
    scheduler: str, kind: type, make_table: MakeTable, folder: RunFolder
) -> None:
    plan = plan_of(make_table(), scheduler=scheduler)
    with contestant(plan, folder) as objects:
        assert type(objects.scheduler) is kind


@pytest.mark.parametrize(
    ("method", "changes", "kind"),
    [
        ("gp", {"proposals": "immediate"}, Immediate),
        ("gp", {"proposals": "one_ahead"}, OneAhead),
        ("gp", {"proposals": "beside", "max_running": 1}, OneAhead),
        ("gp", {"proposals": "beside", "max_running": 2}, Ahead),
        ("random", {"proposals": "beside", "max_running": 2}, Immediate),
        ("grid", {"proposals": "beside", "max_running": 2}, Immediate),
    ],
)
def test_proposals_are_made_ahead_in_real_runs(
    method: str, changes: dict[str, Any], kind: type, make_table: MakeTable
) -> None:
    with make_proposals(plan_of(make_table(), method, **changes)) as proposals:
        assert type(proposals) is kind


def test_rungs_are_those_of_the_scheduler(make_table: MakeTable) -> None:
    table = make_table()
    assert plan_of(table).rungs == (1, 3)
    assert plan_of(table, scheduler="none").rungs == ()


def test_a_run_whose_time_is_out_creates_and_promotes_no_more(
    make_table: MakeTable, folder: RunFolder
) -> None:
    table = make_table(configurations=30, diverging=0)
    plan = plan_of(table)
    out = False
    control = RunControl(max_running=lambda: 4, out_of_time=lambda: out)
    with (
        Journal(folder.journal) as journal,
        open_components(plan, LiveRun.on(folder, journal, plan.score), control) as components,
    ):
        for number in range(3):
            given: Any = components.searcher.suggest("")
            journal.append(TrialStarted(trial_id=given["trial_id"]))
            result = {"epoch": 1, "train_loss": 1.0, "val_loss": 1.0 + number, "seconds": 0.5}
            journal.append(EpochsReported(trial_id=given["trial_id"], results=[result], worker="node:1"))
            journal.append(TrialPaused(trial_id=given["trial_id"], epoch=1))
        assert components.tables.choose_promotion(4) == Promotion("0000", 1)
        out = True
        assert components.searcher.suggest("") == Searcher.FINISHED
    assert not any(isinstance(event, TrialPromoted) for event in read_journal(folder.journal))
