"""The promotion rule, by hand-computed tables and by properties that hold in any order of events."""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tune_jobs.causes import CAUSE_OF
from tests.tune_jobs.rows import with_divergence
from tune_jobs.job.settings import SchedulerSettings
from tune_jobs.record.codes import Cause, Status
from tune_jobs.record.events import (
    EpochsReported,
    Event,
    RunResumed,
    TrialCreated,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
    TrialStarted,
    WorkerLost,
    in_force,
)
from tune_jobs.scheduling.rungs import (
    Decision,
    Entry,
    Promotion,
    Rung,
    RungTables,
    make_tables,
)
from tune_jobs.trainers.settings import ScoreSettings

NAN, INF = math.nan, math.inf
RUNGS = (1, 3, 9)
LOSS = ScoreSettings(metric="val_loss")


# The rule, on plain tables


def promoted_next(
    scores: Iterable[float], advanced: Iterable[str] = (), without: str = "", **how: int
) -> Any:
    """Trials `a`, `b`, … with these scores, created in this order; all are candidates but those in `without`."""
    rung = Rung(1)
    for number, score in enumerate(scores):
        rung.compare(chr(97 + number), Entry(score, number))
        rung.arrive(chr(97 + number))
    rung.at_rung -= set(without)
    rung.advanced |= set(advanced)
    return rung.next_promoted(how.get("factor", 3))


@pytest.mark.parametrize(
    ("scores", "advanced", "without", "expected"),
    [
        ([], "", "", None),
        ([0.1], "", "", None),
        ([0.1, 0.2], "", "", None),
        ([0.3, 0.1, 0.2], "", "", "b"),
        ([0.3, 0.1, 0.2], "b", "", None),
        ([0.3, 0.1, 0.2, 0.4, 0.5], "b", "", None),
        ([0.3, 0.1, 0.2, 0.4, 0.5, 0.6], "b", "", "c"),
        # a was promoted as the best of three. It keeps its place, although it is not among the best two of six.
        ([0.3, 0.4, 0.5, 0.1, 0.2, 0.6], "a", "", "d"),
        ([0.3, 0.4, 0.5, 0.1, 0.2, 0.6], "ad", "", None),
        # The first one created of equal ones.
        ([0.2, 0.1, 0.1], "", "", "b"),
        ([0.1, 0.1, 0.1, 0.1, 0.1, 0.1], "a", "", "b"),
        # One that has ended keeps its rank: no other trial takes its place.
        ([0.1, 0.2, 0.3], "", "a", None),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], "", "a", "b"),
        # Infinities count as compared, and are never promoted.
        ([0.1, INF, INF], "", "", "a"),
        ([INF, INF, INF], "", "", None),
        ([INF, INF, INF, INF, INF, 0.5], "f", "", None),
    ],
)
def test_one_in_three_is_promoted(
    scores: list[float], advanced: str, without: str, expected: str | None
) -> None:
    assert promoted_next(scores, advanced, without) == expected


def test_one_in_two_is_promoted() -> None:
    assert promoted_next([0.2, 0.1], factor=2) == "b"
    assert promoted_next([0.2, 0.1, 0.3], "b", factor=2) is None
    assert promoted_next([0.2, 0.1, 0.3, 0.4], "b", factor=2) == "a"


# A small run


class SimulatedRun:
    """Trials that report, and a scheduler that follows the tables. `events` is the journal."""

    def __init__(
        self, rungs: Sequence[int] = RUNGS, factor: int = 3, score: ScoreSettings = LOSS, workers: int = 4
    ) -> None:
        self.rule: tuple[Sequence[int], int, ScoreSettings] = (rungs, factor, score)
        self.rungs = rungs
        self.workers = workers
        self.tables = RungTables(*self.rule)
        self.events: list[Event] = []
        self.epochs: dict[str, int] = {}

    def append(self, event: Event) -> None:
        self.events.append(event)
        self.tables.apply(event)

    def start(self) -> str:
        number = len(self.epochs)
        trial_id = f"{number:04d}"
        self.epochs[trial_id] = 0
        self.append(TrialCreated(trial_id=trial_id, number=number, configuration={}))
        self.append(TrialStarted(trial_id=trial_id))
        return trial_id

    def report(self, trial_id: str, *values: float, since: int | None = None) -> Decision:
        """Report values for the epochs after the last one (or after `since`), then carry out the decision."""
        first = 1 + (self.epochs[trial_id] if since is None else since)
        results = [
            with_divergence({"epoch": epoch, "train_loss": 1.0, "val_loss": value})
            for epoch, value in enumerate(values, start=first)
        ]
        self.append(EpochsReported(trial_id=trial_id, results=results, worker="node:1"))
        epoch = first + len(values) - 1
        self.epochs[trial_id] = max(epoch, self.epochs[trial_id])
        decision = self.tables.decide(trial_id, epoch)
        if decision is Decision.PAUSE:
            self.append(TrialPaused(trial_id=trial_id, epoch=epoch))
        elif decision is Decision.PROMOTE:
            self.append(TrialPromoted(trial_id=trial_id, epoch=epoch))
        elif decision is Decision.STOP:
            self.end(trial_id)
        return decision

    def report_first_rung(self, *values: float) -> list[str]:
        """Start one trial per value. Each reports its value at the first rung before the next one starts."""
        trials = []
        for value in values:
            trials.append(self.start())
            self.report(trials[-1], value)
        return trials

    def promote(self) -> Promotion | None:
        promotion = self.tables.choose_promotion(self.workers)
        if promotion is not None:
            self.append(TrialPromoted(trial_id=promotion.trial_id, epoch=promotion.epoch))
            self.append(TrialStarted(trial_id=promotion.trial_id))
        return promotion

    def end(self, trial_id: str, status: Status = Status.FAILED) -> None:
        self.append(TrialEnded(trial_id=trial_id, status=status, cause=CAUSE_OF[status], reason="it ended"))

    def summary(self) -> list[tuple[int, int, int, int]]:
        return [(rung.epoch, rung.entries, rung.waiting, rung.promoted) for rung in self.tables.summary()]

    def replay(self, events: int | None = None) -> RungTables:
        """Return the tables after the first `events` events."""
        return RungTables.replay(self.events[:events], *self.rule)


def test_trials_wait_until_they_are_among_the_best_third() -> None:
    run = SimulatedRun()
    a, b = run.report_first_rung(0.5, 0.4)
    assert run.promote() is None
    assert run.tables.waiting == {a: 1, b: 1}
    assert run.tables.open == set()
    (c,) = run.report_first_rung(0.6)
    assert run.promote() == Promotion(b, 1)
    assert run.tables.open == {b}
    assert run.tables.waiting == {a: 1, c: 1}
    assert run.promote() is None
    assert run.summary() == [(1, 3, 2, 1), (3, 0, 0, 0), (9, 0, 0, 0)]


def test_a_trial_that_arrives_among_the_best_is_promoted_at_once() -> None:
    run = SimulatedRun()
    run.report_first_rung(0.5, 0.4)
    trial = run.start()
    assert run.report(trial, 0.3) is Decision.PROMOTE
    assert trial in run.tables.open
    assert run.report(trial, 0.2) is Decision.CONTINUE, "it is at no rung"
    assert run.report(trial, 0.1) is Decision.PAUSE, "it is the first at its rung"


def test_a_better_one_that_waits_goes_first() -> None:
    run = SimulatedRun(workers=1)
    a, *_ = run.report_first_rung(0.1, 0.5, 0.6)
    trial = run.start()  # before the scheduler promoted `a`
    assert run.report(trial, 0.2) is Decision.PAUSE
    assert run.promote() == Promotion(a, 1)


def test_the_highest_rung_comes_first() -> None:
    run = SimulatedRun(workers=99)
    run.report_first_rung(
        *[1.0 - number / 100 for number in range(9)]
    )  # each third one is promoted on arrival
    first = sorted(run.tables.open)
    assert len(first) == 3
    for trial, value in zip(first[:2], (0.3, 0.2), strict=True):
        assert run.report(trial, 0.9, value) is Decision.PAUSE
    run.report_first_rung(0.001, 0.002)
    waiting = run.start()
    run.append(
        EpochsReported(
            trial_id=waiting,
            results=[{"epoch": 1, "train_loss": 1.0, "val_loss": 0.003}],
            worker="",
        )
    )
    assert run.tables.next_promotion().epoch == 1  # type: ignore[union-attr]
    run.append(
        EpochsReported(
            trial_id=first[2],
            results=[{"epoch": epoch, "train_loss": 1.0, "val_loss": 0.25} for epoch in (2, 3)],
            worker="",
        )
    )
    assert run.tables.next_promotion() == Promotion(first[1], 3)


def test_no_more_than_a_third_is_promoted_however_much_the_search_improves() -> None:
    run = SimulatedRun(workers=99)
    run.report_first_rung(*[1 / (number + 1) for number in range(30)])
    assert run.summary()[0] == (1, 30, 20, 10)


def test_promotions_and_new_trials_need_a_free_worker_and_promotions_come_first() -> None:
    run = SimulatedRun(workers=2)
    assert run.tables.may_start(2)
    a, b = run.start(), run.start()
    assert not run.tables.may_start(2)
    run.report(a, 0.1)
    assert run.tables.may_start(2)
    run.report(b, 0.2)
    c = run.start()
    run.report(c, 0.3)
    assert not run.tables.may_start(2), "`a` goes first"
    assert run.tables.choose_promotion(0) is None
    run.promote()
    assert run.tables.may_start(2)


def test_no_trial_is_promoted_once_the_run_is_out_of_time() -> None:
    run = SimulatedRun()
    a, b, c = run.start(), run.start(), run.start()
    run.report(a, 0.1)
    run.report(b, 0.2)
    run.append(
        EpochsReported(
            trial_id=c, results=[{"epoch": 1, "train_loss": 1.0, "val_loss": 0.05}], worker="node:1"
        )
    )
    assert run.tables.decide(c, 1) is Decision.PROMOTE
    assert run.tables.decide(c, 1, out_of_time=True) is Decision.PAUSE
    assert run.tables.choose_promotion(4) == Promotion(c, 1)
    assert run.tables.choose_promotion(4, out_of_time=True) is None


def test_paused_trials_wait_while_a_trial_is_in_progress_or_may_be_created() -> None:
    run = SimulatedRun()
    run.report_first_rung(0.1, 0.2)
    assert not run.tables.promotions_are_over(exhausted=False), "a third trial may promote one of them"
    assert run.tables.promotions_are_over(exhausted=True)
    third = run.start()
    assert not run.tables.promotions_are_over(exhausted=True)
    run.end(third)
    assert run.tables.promotions_are_over(exhausted=True)


def test_the_score_is_the_best_so_far_and_low_is_better_whatever_the_metric() -> None:
    accuracy = ScoreSettings(metric="val_loss", mode="max")
    run = SimulatedRun(rungs=(2,), factor=2, score=accuracy)
    a, b = run.start(), run.start()
    run.report(a, 0.9, 0.1)
    assert run.report(b, 0.5, 0.8) is Decision.PAUSE
    assert run.promote() == Promotion(a, 2)


# NaN, infinities and failures


@pytest.mark.parametrize("loss", [NAN, INF, -INF])
def test_a_trial_that_diverges_counts_at_the_next_rung_and_has_lost_there(loss: float) -> None:
    run = SimulatedRun()
    a, b = run.report_first_rung(0.5, 0.4)
    bad = run.start()
    run.report(bad, loss)
    run.end(bad)
    assert run.summary()[0] == (1, 3, 2, 0)
    assert run.promote() == Promotion(b, 1)
    assert a in run.tables.waiting


def test_a_trial_that_diverges_between_rungs_is_entered_at_the_one_ahead_alone() -> None:
    run = SimulatedRun()
    *_, best = run.report_first_rung(0.5, 0.4, 0.3)
    run.report(best, NAN)  # epoch 2
    run.end(best)
    assert run.summary() == [(1, 3, 2, 1), (3, 1, 0, 0), (9, 0, 0, 0)]


def test_a_trial_that_diverges_at_the_very_rung_has_lost_though_it_was_good_before() -> None:
    run = SimulatedRun(rungs=(3,), factor=1)
    trial = run.start()
    run.report(trial, 0.5, 0.4, NAN)
    assert run.promote() is None
    assert run.summary() == [(3, 1, 0, 0)]


def test_a_trial_that_diverges_beyond_the_last_rung_is_entered_nowhere() -> None:
    run = SimulatedRun(rungs=(1,), factor=1)
    trial = run.start()
    assert run.report(trial, 0.5) is Decision.PROMOTE
    run.report(trial, NAN)
    assert run.summary() == [(1, 1, 0, 1)]


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_trial_without_a_finite_score_is_stopped_at_once(value: float) -> None:
    """Its losses are finite, but the metric of its score is not."""
    run = SimulatedRun(score=ScoreSettings(metric="r2", mode="max"))
    trial = run.start()
    result = {"epoch": 1, "train_loss": 1.0, "val_loss": 1.0, "r2": value}
    run.append(EpochsReported(trial_id=trial, results=[result], worker="node:1"))
    assert run.tables.decide(trial, 1) is Decision.STOP
    assert run.tables.decide(trial, 1, out_of_time=True) is Decision.STOP
    assert run.summary()[0] == (1, 1, 0, 0)


def test_a_trial_that_fails_in_another_way_does_not_count() -> None:
    run = SimulatedRun()
    run.report_first_rung(0.5, 0.4)
    run.end(run.start())
    assert run.summary()[0] == (1, 2, 2, 0)
    assert run.promote() is None


def test_a_trial_that_has_ended_is_not_promoted_and_keeps_its_rank() -> None:
    run = SimulatedRun(workers=0)
    a, b, _ = run.report_first_rung(0.1, 0.2, 0.3)
    run.end(a, Status.STOPPED_EARLY)
    run.workers = 4
    assert run.promote() is None
    run.report_first_rung(0.6, 0.7, 0.8)
    assert run.promote() == Promotion(b, 1)
    assert run.promote() is None


def test_a_resumed_run_starts_with_the_tables_of_the_interrupted_one() -> None:
    run = SimulatedRun()
    a, b = run.report_first_rung(0.5, 0.4)
    c = run.start()
    for trial in (a, b, c):
        run.append(
            TrialEnded(
                trial_id=trial,
                status=Status.INTERRUPTED,
                cause=Cause.RUN_ENDED,
                reason="it ended",
                resumable=True,
            )
        )
    resumed = RungTables.replay(in_force([*run.events, RunResumed(trials=9, versions={})]), *run.rule)
    assert resumed.waiting == {a: 1, b: 1}
    assert resumed.open == {c}


# Late and repeated reports


def test_a_rung_that_is_reported_again_changes_nothing() -> None:
    run = SimulatedRun()
    *_, best = run.report_first_rung(0.5, 0.4, 0.3)
    run.append(WorkerLost(trial_id=best, reason="killed"))
    before = run.summary()
    assert run.report(best, 0.3, since=0) is Decision.CONTINUE, "it was promoted"
    assert run.summary() == before
    assert best in run.tables.open
    assert run.report(best, 0.3, 0.2) is Decision.PAUSE


def test_a_repeated_epoch_that_came_out_differently_does_not_change_the_table() -> None:
    run = SimulatedRun()
    *_, best = run.report_first_rung(0.5, 0.4, 0.3)
    run.report(best, 0.2)
    run.report(best, 9.0, 8.0, since=0)
    assert run.report(best, 0.9) is Decision.PAUSE
    run.tables.factor = 1
    assert run.tables.next_promotion() == Promotion(best, 3)


def test_a_trial_that_waits_and_reports_its_rung_again_is_asked_again() -> None:
    """This happens after an interruption: the worker continues the trial without knowing that it is paused."""
    run = SimulatedRun()
    a, b = run.report_first_rung(0.5, 0.4)
    assert run.report(b, 0.4, since=0) is Decision.PAUSE
    assert run.tables.waiting == {a: 1, b: 1}
    run.append(TrialCreated(trial_id="c", number=2, configuration={}))
    run.epochs["c"] = 0
    run.report("c", 0.9)
    assert run.report(b, 0.4, since=0) is Decision.PROMOTE


def test_a_late_report_enters_the_rungs_that_it_jumps_over_and_takes_a_place_there() -> None:
    run = SimulatedRun()
    trial = run.start()
    assert run.report(trial, 0.5, 0.4, 0.3, 0.2) is Decision.CONTINUE  # at epoch 4
    assert run.summary() == [(1, 1, 0, 0), (3, 1, 0, 0), (9, 0, 0, 0)]
    run.report_first_rung(0.6, 0.7)
    assert run.promote() is None, "the place of three is taken"
    run.report_first_rung(0.9, 0.9, 0.9)
    assert run.promote() == Promotion("0001", 1)
    assert run.report(trial, *[0.1] * 5) is Decision.PAUSE  # at epoch 9


def test_a_report_with_a_gap_counts_with_what_was_known_up_to_the_rung() -> None:
    run = SimulatedRun(rungs=(3,), factor=1)
    trial = run.start()
    run.report(trial, 0.5, 0.4)
    run.report(trial, 0.1, since=4)  # epoch 5
    other = run.start()
    assert run.report(other, 0.9, 0.9, 0.3) is Decision.PROMOTE
    assert run.tables.entries(3) == {trial: Entry(0.4, 0), other: Entry(0.3, 1)}


# Trials that ended by themselves


def test_a_trial_that_ended_is_entered_with_its_score_at_the_rungs_that_it_did_not_reach() -> None:
    run = SimulatedRun(factor=1)
    trial = run.start()
    run.report(trial, 0.5)
    run.report(trial, 0.4)  # epoch 2
    run.end(trial, Status.STOPPED_EARLY)
    assert [len(run.tables.entries(epoch)) for epoch in RUNGS] == [1, 0, 0]
    run.tables.enter_beyond(trial)
    assert [run.tables.entries(epoch) for epoch in RUNGS] == [
        {trial: Entry(0.5, 0)},
        {trial: Entry(0.4, 0)},
        {trial: Entry(0.4, 0)},
    ]
    assert run.tables.next_promotion() is None, "it has ended"


def test_a_trial_that_ended_at_a_rung_keeps_its_entry_there() -> None:
    run = SimulatedRun()
    a, b = run.report_first_rung(0.5, 0.4)
    run.end(b, Status.STOPPED_EARLY)
    run.tables.enter_beyond(b)
    assert run.tables.entries(1) == {a: Entry(0.5, 0), b: Entry(0.4, 1)}
    assert run.tables.entries(3) == run.tables.entries(9) == {b: Entry(0.4, 1)}


@pytest.mark.parametrize("values", [(), (NAN,), (0.5, NAN)])
def test_a_trial_that_is_entered_beyond_without_a_score_has_lost_there(values: tuple[float, ...]) -> None:
    run = SimulatedRun()
    trial = run.start()
    for value in values:
        run.report(trial, value)
    run.tables.enter_beyond(trial)
    assert run.tables.entries(9) == {trial: Entry(INF, 0)}


def test_a_trial_that_is_entered_beyond_counts_as_compared_and_takes_no_place() -> None:
    run = SimulatedRun(factor=2, workers=9)
    gone, *_ = run.report_first_rung(0.1, 0.9)
    assert run.promote() == Promotion(gone, 1)
    run.end(gone, Status.STOPPED_EARLY)
    run.tables.enter_beyond(gone)
    run.report_first_rung(0.2, 0.8)
    assert run.promote() == Promotion("0002", 1)
    assert run.report("0002", 0.3, 0.05) is Decision.PROMOTE, "the better half of two at epoch 3"


# What holds in any order of events

VALUES = st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.8, NAN, INF])
ACTIONS = st.tuples(
    st.sampled_from(["create", "report", "late", "again", "promote", "fail", "finish"]),
    st.integers(0, 30),
    st.lists(VALUES, min_size=10, max_size=10),
)


def simulate(
    actions: Iterable[tuple[str, int, list[float]]], rungs: Sequence[int], factor: int
) -> SimulatedRun:
    """Return a run after those of the actions that were possible."""
    run = SimulatedRun(rungs, factor)
    promotions = PromotionCheck(run)
    for action, which, values in actions:
        running = sorted(run.tables.open)
        trial = running[which % len(running)] if running else None
        if action == "create" and run.tables.may_start(run.workers):
            run.start()
        elif action == "promote":
            run.promote()
        elif trial is None:
            continue
        elif action == "report":
            epoch = run.epochs[trial]
            following = next((rung for rung in rungs if rung > epoch), epoch + 1)
            done = values[: following - epoch]
            bad = next((n for n, value in enumerate(done) if not math.isfinite(value)), None)
            decision = run.report(trial, *done[: None if bad is None else bad + 1])
            if bad is not None and decision is not Decision.STOP:
                run.end(trial)
        elif action == "late":
            run.report(trial, *[value for value in values if math.isfinite(value)] or [0.4])
        elif action == "again" and run.epochs[trial]:
            run.append(WorkerLost(trial_id=trial, reason="killed"))
            run.report(trial, *[0.4] * run.epochs[trial], since=0)
        elif action == "fail":
            run.end(trial)
        elif action == "finish":
            run.end(trial, Status.COMPLETED)
        promotions.check()
    return run


class PromotionCheck:
    """Checks each new promotion of a run."""

    def __init__(self, run: SimulatedRun) -> None:
        self.run = run
        self.seen = 0

    def check(self) -> None:
        for number in range(self.seen, len(self.run.events)):
            event = self.run.events[number]
            if isinstance(event, TrialPromoted):
                before = self.run.replay(number)
                entries = before.entries(event.epoch)
                places = len(entries) // before.factor
                best = sorted(entries, key=lambda trial: entries[trial].order)[:places]
                assert event.trial_id in best, "it was not among the best"
                assert math.isfinite(entries[event.trial_id].score)
        self.seen = len(self.run.events)
        for rung in self.run.tables.summary():
            assert rung.promoted <= rung.entries // self.run.tables.factor


@settings(max_examples=150, deadline=None)
@given(st.lists(ACTIONS, max_size=60), st.sampled_from([(1, 3, 9), (2, 4), (1,), (5,)]), st.integers(2, 4))
def test_never_more_than_the_share_is_promoted_and_only_the_best(
    actions: list[tuple[str, int, list[float]]], rungs: tuple[int, ...], factor: int
) -> None:
    simulate(actions, rungs, factor)


@settings(max_examples=60, deadline=None)
@given(st.lists(ACTIONS, max_size=60), st.sampled_from([(1, 3, 9), (2, 4)]), st.integers(2, 4))
def test_tables_that_are_rebuilt_decide_the_same_after_every_event(
    actions: list[tuple[str, int, list[float]]], rungs: tuple[int, ...], factor: int
) -> None:
    run = simulate(actions, rungs, factor)
    live = RungTables(*run.rule)
    created: list[str] = []
    for number, event in enumerate(run.events, start=1):
        live.apply(event)
        again = run.replay(number)
        assert again.next_promotion() == live.next_promotion()
        assert again.summary() == live.summary()
        assert (again.open, again.waiting) == (live.open, live.waiting)
        created += [event.trial_id] if isinstance(event, TrialCreated) else []
        for trial_id, epoch in itertools.product(created, rungs):
            assert again.decide(trial_id, epoch) == live.decide(trial_id, epoch)


def test_a_summary_is_empty_without_rungs() -> None:
    run = SimulatedRun(rungs=())
    assert run.report(run.start(), 0.5) is Decision.CONTINUE
    assert run.tables.summary() == []


def test_trials_wait_with_asha_alone() -> None:
    for method, rungs in {"asha": [2, 6], "asha_stopping": [], "median": [], "none": []}.items():
        settings_ = SchedulerSettings.model_validate({"method": method})
        tables = make_tables(settings_, [2, 6], ScoreSettings(metric="val_loss"))
        assert [rung.epoch for rung in tables.summary()] == rungs
