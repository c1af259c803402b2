"""Which trials go on, by hand-computed tables, and what holds in any order of events."""

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
from tune_jobs.record.events import (
    Cause,
    EpochsReported,
    Event,
    RunResumed,
    Status,
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
    RungTables,
    best_to_promote,
    make_tables,
)
from tune_jobs.trainers.settings import ScoreSettings

NAN, INF = math.nan, math.inf
RUNGS = (1, 3, 9)
LOSS = ScoreSettings()


# The rule, on plain tables


def promoted_next(
    scores: Iterable[float], advanced: Iterable[str] = (), without: str = "", **how: int
) -> Any:
    """Trials `a`, `b`, … with these scores, created in this order; all are candidates but those in `without`."""
    entries = {chr(97 + number): Entry(score, number) for number, score in enumerate(scores)}
    return best_to_promote(entries, set(advanced), entries.keys() - set(without), how.get("factor", 3))


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
        # Of equals the one created first.
        ([0.2, 0.1, 0.1], "", "", "b"),
        ([0.1, 0.1, 0.1, 0.1, 0.1, 0.1], "a", "", "b"),
        # One that has ended keeps its rank: its place goes to nobody.
        ([0.1, 0.2, 0.3], "", "a", None),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], "", "a", "b"),
        # Infinities count as compared, and never go on.
        ([0.1, INF, INF], "", "", "a"),
        ([INF, INF, INF], "", "", None),
        ([INF, INF, INF, INF, INF, 0.5], "f", "", None),
    ],
)
def test_one_in_three_goes_on(scores: list[float], advanced: str, without: str, expected: str | None) -> None:
    assert promoted_next(scores, advanced, without) == expected


def test_one_in_two_goes_on() -> None:
    assert promoted_next([0.2, 0.1], factor=2) == "b"
    assert promoted_next([0.2, 0.1, 0.3], "b", factor=2) is None
    assert promoted_next([0.2, 0.1, 0.3, 0.4], "b", factor=2) == "a"


# A run in small


class Play:
    """Trials that report, and a scheduler that does what the tables say; its events are the journal."""

    def __init__(
        self, rungs: Sequence[int] = RUNGS, factor: int = 3, score: ScoreSettings = LOSS, workers: int = 4
    ) -> None:
        self.how: tuple[Sequence[int], int, ScoreSettings] = (rungs, factor, score)
        self.rungs = rungs
        self.workers = workers
        self.tables = RungTables(*self.how)
        self.events: list[Event] = []
        self.epochs: dict[str, int] = {}

    def happen(self, event: Event) -> None:
        self.events.append(event)
        self.tables.apply(event)

    def create(self) -> str:
        number = len(self.epochs)
        trial_id = f"{number:04d}"
        self.epochs[trial_id] = 0
        self.happen(TrialCreated(trial_id=trial_id, number=number, configuration={}))
        self.happen(TrialStarted(trial_id=trial_id))
        return trial_id

    def report(self, trial_id: str, *values: float, since: int | None = None) -> Decision:
        """Epochs after the last one (or after `since`), with these values; then what the tables decide is done."""
        first = 1 + (self.epochs[trial_id] if since is None else since)
        results = [
            with_divergence({"epoch": epoch, "train_loss": 1.0, "val_loss": value})
            for epoch, value in enumerate(values, start=first)
        ]
        self.happen(EpochsReported(trial_id=trial_id, results=results, worker="node:1"))
        epoch = first + len(values) - 1
        self.epochs[trial_id] = max(epoch, self.epochs[trial_id])
        decision = self.tables.decide(trial_id, epoch)
        if decision is Decision.PAUSE:
            self.happen(TrialPaused(trial_id=trial_id, epoch=epoch))
        elif decision is Decision.PROMOTE:
            self.happen(TrialPromoted(trial_id=trial_id, epoch=epoch))
        elif decision is Decision.STOP:
            self.end(trial_id)
        return decision

    def arrive(self, *values: float) -> list[str]:
        """New trials that report the first rung, one after the other, with these values."""
        trials = []
        for value in values:
            trials.append(self.create())
            self.report(trials[-1], value)
        return trials

    def promote(self) -> Promotion | None:
        promotion = self.tables.choose_promotion(self.workers)
        if promotion is not None:
            self.happen(TrialPromoted(trial_id=promotion.trial_id, epoch=promotion.epoch))
            self.happen(TrialStarted(trial_id=promotion.trial_id))
        return promotion

    def end(self, trial_id: str, status: Status = Status.FAILED) -> None:
        self.happen(TrialEnded(trial_id=trial_id, status=status, cause=CAUSE_OF[status], reason="it ended"))

    def summary(self) -> list[tuple[int, int, int, int]]:
        return [(rung.epoch, rung.entries, rung.waiting, rung.promoted) for rung in self.tables.summary()]

    def again(self, events: int | None = None) -> RungTables:
        """The tables that the first so many events lead to."""
        return RungTables.replay(self.events[:events], *self.how)


def test_trials_wait_until_they_are_among_the_best_third() -> None:
    play = Play()
    a, b = play.arrive(0.5, 0.4)
    assert play.promote() is None
    assert play.tables.waiting == {a: 1, b: 1}
    assert play.tables.open == set()
    (c,) = play.arrive(0.6)
    assert play.promote() == Promotion(b, 1)
    assert play.tables.open == {b}
    assert play.tables.waiting == {a: 1, c: 1}
    assert play.promote() is None
    assert play.summary() == [(1, 3, 2, 1), (3, 0, 0, 0), (9, 0, 0, 0)]


def test_a_trial_that_arrives_among_the_best_goes_on_at_once() -> None:
    play = Play()
    play.arrive(0.5, 0.4)
    trial = play.create()
    assert play.report(trial, 0.3) is Decision.PROMOTE
    assert trial in play.tables.open
    assert play.report(trial, 0.2) is Decision.CONTINUE, "it is at no rung"
    assert play.report(trial, 0.1) is Decision.PAUSE, "it is the first at its rung"


def test_a_better_one_that_waits_goes_first() -> None:
    play = Play(workers=1)
    a, *_ = play.arrive(0.1, 0.5, 0.6)
    trial = play.create()  # before the scheduler promoted `a`
    assert play.report(trial, 0.2) is Decision.PAUSE
    assert play.promote() == Promotion(a, 1)


def test_the_highest_rung_comes_first() -> None:
    play = Play(workers=99)
    play.arrive(*[1.0 - number / 100 for number in range(9)])  # each third one is promoted on arrival
    first = sorted(play.tables.open)
    assert len(first) == 3
    for trial, value in zip(first[:2], (0.3, 0.2), strict=True):
        assert play.report(trial, 0.9, value) is Decision.PAUSE
    play.arrive(0.001, 0.002)
    waiting = play.create()
    play.happen(
        EpochsReported(
            trial_id=waiting,
            results=[{"epoch": 1, "train_loss": 1.0, "val_loss": 0.003}],
            worker="",
        )
    )
    assert play.tables.next_promotion().epoch == 1  # type: ignore[union-attr]
    play.happen(
        EpochsReported(
            trial_id=first[2],
            results=[{"epoch": epoch, "train_loss": 1.0, "val_loss": 0.25} for epoch in (2, 3)],
            worker="",
        )
    )
    assert play.tables.next_promotion() == Promotion(first[1], 3)


def test_no_more_than_a_third_goes_on_however_much_the_search_improves() -> None:
    play = Play(workers=99)
    play.arrive(*[1 / (number + 1) for number in range(30)])
    assert play.summary()[0] == (1, 30, 20, 10)


def test_promotions_and_new_trials_need_a_free_worker_and_promotions_come_first() -> None:
    play = Play(workers=2)
    assert play.tables.may_start(2)
    a, b = play.create(), play.create()
    assert not play.tables.may_start(2)
    play.report(a, 0.1)
    assert play.tables.may_start(2)
    play.report(b, 0.2)
    c = play.create()
    play.report(c, 0.3)
    assert not play.tables.may_start(2), "`a` goes first"
    assert play.tables.choose_promotion(0) is None
    play.promote()
    assert play.tables.may_start(2)


def test_no_trial_is_promoted_once_the_run_is_out_of_time() -> None:
    play = Play()
    a, b, c = play.create(), play.create(), play.create()
    play.report(a, 0.1)
    play.report(b, 0.2)
    play.happen(
        EpochsReported(
            trial_id=c, results=[{"epoch": 1, "train_loss": 1.0, "val_loss": 0.05}], worker="node:1"
        )
    )
    assert play.tables.decide(c, 1) is Decision.PROMOTE
    assert play.tables.decide(c, 1, out_of_time=True) is Decision.PAUSE
    assert play.tables.choose_promotion(4) == Promotion(c, 1)
    assert play.tables.choose_promotion(4, out_of_time=True) is None


def test_paused_trials_wait_while_a_trial_is_in_progress_or_may_be_created() -> None:
    play = Play()
    play.arrive(0.1, 0.2)
    assert not play.tables.promotions_are_over(exhausted=False), "a third trial may promote one of them"
    assert play.tables.promotions_are_over(exhausted=True)
    third = play.create()
    assert not play.tables.promotions_are_over(exhausted=True)
    play.end(third)
    assert play.tables.promotions_are_over(exhausted=True)


def test_the_score_is_the_best_so_far_and_low_is_better_whatever_the_metric() -> None:
    accuracy = ScoreSettings(metric="val_loss", mode="max")
    play = Play(rungs=(2,), factor=2, score=accuracy)
    a, b = play.create(), play.create()
    play.report(a, 0.9, 0.1)
    assert play.report(b, 0.5, 0.8) is Decision.PAUSE
    assert play.promote() == Promotion(a, 2)


# NaN, infinities and failures


@pytest.mark.parametrize("loss", [NAN, INF, -INF])
def test_a_trial_that_diverges_counts_at_the_next_rung_and_has_lost_there(loss: float) -> None:
    play = Play()
    a, b = play.arrive(0.5, 0.4)
    bad = play.create()
    play.report(bad, loss)
    play.end(bad)
    assert play.summary()[0] == (1, 3, 2, 0)
    assert play.promote() == Promotion(b, 1)
    assert a in play.tables.waiting


def test_a_trial_that_diverges_between_rungs_is_entered_at_the_one_ahead_alone() -> None:
    play = Play()
    *_, best = play.arrive(0.5, 0.4, 0.3)
    play.report(best, NAN)  # epoch 2
    play.end(best)
    assert play.summary() == [(1, 3, 2, 1), (3, 1, 0, 0), (9, 0, 0, 0)]


def test_a_trial_that_diverges_at_the_very_rung_has_lost_though_it_was_good_before() -> None:
    play = Play(rungs=(3,), factor=1)
    trial = play.create()
    play.report(trial, 0.5, 0.4, NAN)
    assert play.promote() is None
    assert play.summary() == [(3, 1, 0, 0)]


def test_a_trial_that_diverges_beyond_the_last_rung_is_entered_nowhere() -> None:
    play = Play(rungs=(1,), factor=1)
    trial = play.create()
    assert play.report(trial, 0.5) is Decision.PROMOTE
    play.report(trial, NAN)
    assert play.summary() == [(1, 1, 0, 1)]


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_trial_without_a_finite_score_is_stopped_at_once(value: float) -> None:
    """Its losses are finite; the metric that judges it is not."""
    play = Play(score=ScoreSettings(metric="r2", mode="max"))
    trial = play.create()
    result = {"epoch": 1, "train_loss": 1.0, "val_loss": 1.0, "r2": value}
    play.happen(EpochsReported(trial_id=trial, results=[result], worker="node:1"))
    assert play.tables.decide(trial, 1) is Decision.STOP
    assert play.tables.decide(trial, 1, out_of_time=True) is Decision.STOP
    assert play.summary()[0] == (1, 1, 0, 0)


def test_a_trial_that_fails_in_another_way_does_not_count() -> None:
    play = Play()
    play.arrive(0.5, 0.4)
    play.end(play.create())
    assert play.summary()[0] == (1, 2, 2, 0)
    assert play.promote() is None


def test_a_trial_that_has_ended_is_not_promoted_and_nobody_takes_its_rank() -> None:
    play = Play(workers=0)
    a, b, _ = play.arrive(0.1, 0.2, 0.3)
    play.end(a, Status.STOPPED_EARLY)
    play.workers = 4
    assert play.promote() is None
    play.arrive(0.6, 0.7, 0.8)
    assert play.promote() == Promotion(b, 1)
    assert play.promote() is None


def test_the_tables_of_an_interrupted_run_are_those_that_it_goes_on_with() -> None:
    play = Play()
    a, b = play.arrive(0.5, 0.4)
    c = play.create()
    for trial in (a, b, c):
        play.happen(
            TrialEnded(
                trial_id=trial,
                status=Status.INTERRUPTED,
                cause=Cause.RUN_ENDED,
                reason="it ended",
                resumable=True,
            )
        )
    resumed = RungTables.replay(in_force([*play.events, RunResumed(trials=9, versions={})]), *play.how)
    assert resumed.waiting == {a: 1, b: 1}
    assert resumed.open == {c}


# Late and repeated reports


def test_a_rung_that_is_reported_again_changes_nothing() -> None:
    play = Play()
    *_, best = play.arrive(0.5, 0.4, 0.3)
    play.happen(WorkerLost(trial_id=best, reason="killed"))
    before = play.summary()
    assert play.report(best, 0.3, since=0) is Decision.CONTINUE, "it was promoted"
    assert play.summary() == before
    assert best in play.tables.open
    assert play.report(best, 0.3, 0.2) is Decision.PAUSE


def test_a_repeated_epoch_that_came_out_differently_does_not_change_the_table() -> None:
    play = Play()
    *_, best = play.arrive(0.5, 0.4, 0.3)
    play.report(best, 0.2)
    play.report(best, 9.0, 8.0, since=0)
    assert play.report(best, 0.9) is Decision.PAUSE
    play.tables.factor = 1
    assert play.tables.next_promotion() == Promotion(best, 3)


def test_a_trial_that_waits_and_reports_its_rung_again_is_asked_again() -> None:
    """So it is after an interruption: its worker takes it up without knowing that it waits."""
    play = Play()
    a, b = play.arrive(0.5, 0.4)
    assert play.report(b, 0.4, since=0) is Decision.PAUSE
    assert play.tables.waiting == {a: 1, b: 1}
    play.happen(TrialCreated(trial_id="c", number=2, configuration={}))
    play.epochs["c"] = 0
    play.report("c", 0.9)
    assert play.report(b, 0.4, since=0) is Decision.PROMOTE


def test_a_late_report_enters_the_rungs_that_it_jumps_over_and_takes_a_place_there() -> None:
    play = Play()
    trial = play.create()
    assert play.report(trial, 0.5, 0.4, 0.3, 0.2) is Decision.CONTINUE  # at epoch 4
    assert play.summary() == [(1, 1, 0, 0), (3, 1, 0, 0), (9, 0, 0, 0)]
    play.arrive(0.6, 0.7)
    assert play.promote() is None, "the place of three is taken"
    play.arrive(0.9, 0.9, 0.9)
    assert play.promote() == Promotion("0001", 1)
    assert play.report(trial, *[0.1] * 5) is Decision.PAUSE  # at epoch 9


def test_a_report_with_a_gap_counts_with_what_was_known_up_to_the_rung() -> None:
    play = Play(rungs=(3,), factor=1)
    trial = play.create()
    play.report(trial, 0.5, 0.4)
    play.report(trial, 0.1, since=4)  # epoch 5
    other = play.create()
    assert play.report(other, 0.9, 0.9, 0.3) is Decision.PROMOTE
    assert play.tables.entries(3) == {trial: Entry(0.4, 0), other: Entry(0.3, 1)}


# Trials that ended by themselves


def test_a_trial_that_ended_is_entered_with_its_score_at_the_rungs_that_it_did_not_come_to() -> None:
    play = Play(factor=1)
    trial = play.create()
    play.report(trial, 0.5)
    play.report(trial, 0.4)  # epoch 2
    play.end(trial, Status.STOPPED_EARLY)
    assert [len(play.tables.entries(epoch)) for epoch in RUNGS] == [1, 0, 0]
    play.tables.enter_beyond(trial)
    assert [play.tables.entries(epoch) for epoch in RUNGS] == [
        {trial: Entry(0.5, 0)},
        {trial: Entry(0.4, 0)},
        {trial: Entry(0.4, 0)},
    ]
    assert play.tables.next_promotion() is None, "it has ended"


def test_a_trial_that_ended_at_a_rung_keeps_its_entry_there() -> None:
    play = Play()
    a, b = play.arrive(0.5, 0.4)
    play.end(b, Status.STOPPED_EARLY)
    play.tables.enter_beyond(b)
    assert play.tables.entries(1) == {a: Entry(0.5, 0), b: Entry(0.4, 1)}
    assert play.tables.entries(3) == play.tables.entries(9) == {b: Entry(0.4, 1)}


@pytest.mark.parametrize("values", [(), (NAN,), (0.5, NAN)])
def test_a_trial_that_is_entered_beyond_without_a_score_has_lost_there(values: tuple[float, ...]) -> None:
    play = Play()
    trial = play.create()
    for value in values:
        play.report(trial, value)
    play.tables.enter_beyond(trial)
    assert play.tables.entries(9) == {trial: Entry(INF, 0)}


def test_a_trial_that_is_entered_beyond_counts_as_compared_and_takes_no_place() -> None:
    play = Play(factor=2, workers=9)
    gone, *_ = play.arrive(0.1, 0.9)
    assert play.promote() == Promotion(gone, 1)
    play.end(gone, Status.STOPPED_EARLY)
    play.tables.enter_beyond(gone)
    play.arrive(0.2, 0.8)
    assert play.promote() == Promotion("0002", 1)
    assert play.report("0002", 0.3, 0.05) is Decision.PROMOTE, "the better half of two at epoch 3"


# What holds in any order of events

VALUES = st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.8, NAN, INF])
ACTIONS = st.tuples(
    st.sampled_from(["create", "report", "late", "again", "promote", "fail", "finish"]),
    st.integers(0, 30),
    st.lists(VALUES, min_size=10, max_size=10),
)


def play_out(actions: Iterable[tuple[str, int, list[float]]], rungs: Sequence[int], factor: int) -> Play:
    """A run in which what is possible of `actions` happens."""
    play = Play(rungs, factor)
    checked = Checked(play)
    for action, which, values in actions:
        running = sorted(play.tables.open)
        trial = running[which % len(running)] if running else None
        if action == "create" and play.tables.may_start(play.workers):
            play.create()
        elif action == "promote":
            play.promote()
        elif trial is None:
            continue
        elif action == "report":
            epoch = play.epochs[trial]
            following = next((rung for rung in rungs if rung > epoch), epoch + 1)
            done = values[: following - epoch]
            bad = next((n for n, value in enumerate(done) if not math.isfinite(value)), None)
            decision = play.report(trial, *done[: None if bad is None else bad + 1])
            if bad is not None and decision is not Decision.STOP:
                play.end(trial)
        elif action == "late":
            play.report(trial, *[value for value in values if math.isfinite(value)] or [0.4])
        elif action == "again" and play.epochs[trial]:
            play.happen(WorkerLost(trial_id=trial, reason="killed"))
            play.report(trial, *[0.4] * play.epochs[trial], since=0)
        elif action == "fail":
            play.end(trial)
        elif action == "finish":
            play.end(trial, Status.COMPLETED)
        checked.check()
    return play


class Checked:
    """Looks at each new promotion of a play."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.seen = 0

    def check(self) -> None:
        for number in range(self.seen, len(self.play.events)):
            event = self.play.events[number]
            if isinstance(event, TrialPromoted):
                before = self.play.again(number)
                entries = before.entries(event.epoch)
                places = len(entries) // before.factor
                best = sorted(entries, key=lambda trial: entries[trial].order)[:places]
                assert event.trial_id in best, "it was not among the best"
                assert math.isfinite(entries[event.trial_id].score)
        self.seen = len(self.play.events)
        for rung in self.play.tables.summary():
            assert rung.promoted <= rung.entries // self.play.tables.factor


@settings(max_examples=150, deadline=None)
@given(st.lists(ACTIONS, max_size=60), st.sampled_from([(1, 3, 9), (2, 4), (1,), (5,)]), st.integers(2, 4))
def test_never_more_than_the_share_is_promoted_and_only_the_best(
    actions: list[tuple[str, int, list[float]]], rungs: tuple[int, ...], factor: int
) -> None:
    play_out(actions, rungs, factor)


@settings(max_examples=60, deadline=None)
@given(st.lists(ACTIONS, max_size=60), st.sampled_from([(1, 3, 9), (2, 4)]), st.integers(2, 4))
def test_tables_that_are_rebuilt_decide_the_same_after_every_event(
    actions: list[tuple[str, int, list[float]]], rungs: tuple[int, ...], factor: int
) -> None:
    play = play_out(actions, rungs, factor)
    live = RungTables(*play.how)
    created: list[str] = []
    for number, event in enumerate(play.events, start=1):
        live.apply(event)
        again = play.again(number)
        assert again.next_promotion() == live.next_promotion()
        assert again.summary() == live.summary()
        assert (again.open, again.waiting) == (live.open, live.waiting)
        created += [event.trial_id] if isinstance(event, TrialCreated) else []
        for trial_id, epoch in itertools.product(created, rungs):
            assert again.decide(trial_id, epoch) == live.decide(trial_id, epoch)


def test_a_summary_is_empty_without_rungs() -> None:
    play = Play(rungs=())
    assert play.report(play.create(), 0.5) is Decision.CONTINUE
    assert play.tables.summary() == []


def test_trials_wait_with_asha_alone() -> None:
    for method, rungs in {"asha": [2, 6], "asha_stopping": [], "median": [], "none": []}.items():
        settings_ = SchedulerSettings.model_validate({"method": method})
        tables = make_tables(settings_, 9, ScoreSettings())
        assert [rung.epoch for rung in tables.summary()] == rungs
