"""The progress of a run, from events and a clock alone."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.tune_jobs.sample_events import (
    ALL_STATES,
    RUN_STARTED,
    START_TIME,
    Clock,
    created,
    ended,
    progress_after,
    reported,
    started,
)
from tune_jobs.cli.progress import Best, Failure, RungProgress, RunProgress
from tune_jobs.job.job import Job
from tune_jobs.record.codes import Cause, Ending, Status
from tune_jobs.record.events import (
    EpochsReported,
    Event,
    HoldoutUnsealed,
    RunEnded,
    RunResumed,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
    WorkerLost,
)
from tune_jobs.record.run_record import failures


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def job(make_sections: Callable[..., dict[str, Any]]) -> Job:
    return Job.from_mapping(make_sections({"scheduler": {"grace_epochs": 1}}))


def test_before_the_first_trial_the_run_is_starting(clock: Clock, job: Job) -> None:
    progress = progress_after(job, [], clock)
    clock.now += 3
    assert progress.line() == "3 s: 0 of 6 trials ended (starting); 0 epochs/s"
    assert (progress.seconds, progress.seconds_left, progress.best_text()) == (3.0, None, None)
    progress.apply(RUN_STARTED)
    progress.apply(created(0))
    assert progress.seconds_of_training is None
    assert progress.epochs_per_second == 0.0


def test_a_run_in_progress_is_described_in_one_line(clock: Clock, job: Job) -> None:
    progress = progress_after(job, ALL_STATES, clock)
    clock.now = START_TIME + 64
    assert progress.line() == (
        "1 min 4 s: 3 of 6 trials ended (1 running, 1 completed, 1 stopped early, 1 failed); "
        "best val_loss 0.1235 (trial 0000, epoch 2): lr=0.1; 0.1 epochs/s; about 1 min 0 s left"
    )
    assert [progress.count(status) for status in Status] == [1, 1, 0, 1, 1, 1, 0]


def test_time_left_is_estimated_from_the_ended_trials(clock: Clock, job: Job) -> None:
    progress = progress_after(
        job,
        [RUN_STARTED, created(0), started(0, second=1), created(1), reported(0, 0.5), started(1, second=20)],
        clock,
    )
    clock.now = START_TIME + 24
    assert progress.seconds_of_training == pytest.approx(20), (
        "the start of Ray and its workers is no training"
    )
    assert progress.seconds_left is None
    progress.apply(ended(0, Status.COMPLETED))
    assert progress.seconds_left == pytest.approx(20 / 1 * 5)
    progress.apply(ended(1, Status.FAILED))
    assert progress.seconds_left == pytest.approx(20 / 2 * 4)


def test_trials_that_wait_are_counted_as_such_and_most_of_their_work_as_done(clock: Clock, job: Job) -> None:
    progress = progress_after(
        job,
        [RUN_STARTED, created(0), created(1), started(0), started(1), reported(0, 0.5), reported(1, 0.4)],
        clock,
    )
    clock.now = START_TIME + 24
    progress.apply(TrialPaused(time=START_TIME + 6, trial_id="0000", epoch=1))
    progress.apply(TrialPaused(time=START_TIME + 6, trial_id="0001", epoch=1))
    assert "0 of 6 trials ended (2 waiting)" in progress.line()
    assert progress.seconds_left == pytest.approx(20 / 2 * 4)
    progress.apply(TrialPromoted(time=START_TIME + 6, trial_id="0001", epoch=1))
    assert "0 of 6 trials ended (1 waiting)" in progress.line()
    assert progress.seconds_left == pytest.approx(20 / 1 * 5)


@pytest.mark.parametrize(
    ("number", "seconds", "text"),
    [(1000, 4, "250 epochs/s"), (50, 4, "12 epochs/s"), (10, 4, "2.5 epochs/s"), (1, 96, "0.01 epochs/s")],
)
def test_a_low_speed_has_more_digits(clock: Clock, job: Job, number: int, seconds: float, text: str) -> None:
    progress = progress_after(
        job, [RUN_STARTED, created(0), started(0), reported(0, *([0.5] * number))], clock
    )
    clock.now = START_TIME + 4 + seconds
    assert progress.speed_text() == text


def test_after_the_end_the_clock_stops_and_no_time_is_left(clock: Clock, job: Job) -> None:
    progress = progress_after(
        job, [*ALL_STATES, RunEnded(time=START_TIME + 64, ending=Ending.INTERRUPTED)], clock
    )
    clock.now = START_TIME + 10_000
    assert progress.seconds == 64
    assert progress.seconds_left is None
    assert progress.line().startswith("1 min 4 s: 3 of 6 trials ended")
    assert "left" not in progress.line()


def test_the_best_is_the_highest_if_high_is_good(
    clock: Clock, make_sections: Callable[..., dict[str, Any]]
) -> None:
    job = Job.from_mapping(
        make_sections({"training/metrics": ["r2"], "selection": {"metric": "r2", "mode": "max"}})
    )
    results = [
        {"epoch": epoch, "train_loss": 1.0, "val_loss": 1.0, "r2": r2, "seconds": 0.1}
        for epoch, r2 in enumerate([0.25, 0.75, 0.5], start=1)
    ]
    report = EpochsReported(trial_id="0000", results=results, worker="node:1")
    progress = progress_after(job, [RUN_STARTED, created(0), report], clock)
    assert progress.best_text() == "r2 0.75 (trial 0000, epoch 2)"
    assert progress.curve == [0.25, 0.75, 0.5], "that of the metric that chooses"


def test_a_view_that_starts_later_shows_the_same(clock: Clock, job: Job) -> None:
    own = progress_after(job, ALL_STATES, clock)
    joined = RunProgress(job, ALL_STATES, clock=clock)
    clock.now = START_TIME + 64
    assert joined.seconds == own.seconds - 1, "the events do not tell when the run was asked for"
    assert joined.epochs_per_second == own.epochs_per_second
    assert joined.seconds_left == own.seconds_left
    assert joined.line().partition(": ")[2] == own.line().partition(": ")[2]


def test_a_clock_that_is_behind_does_not_turn_time_back(clock: Clock, job: Job) -> None:
    progress = RunProgress(job, ALL_STATES, clock=clock)
    clock.now = START_TIME - 3600
    assert progress.seconds == 5.0, "from the first to the last event"
    assert progress.epochs_per_second > 0


RESUMED = RunResumed(time=START_TIME + 1000, trials=8, versions={})
CUT_OFF: list[Event] = [
    *ALL_STATES,
    TrialEnded(
        time=START_TIME + 60,
        trial_id="0003",
        status=Status.INTERRUPTED,
        cause=Cause.RUN_ENDED,
        reason=Ending.INTERRUPTED.sentence,
        resumable=True,
    ),
    TrialEnded(
        time=START_TIME + 60,
        trial_id="0004",
        status=Status.INTERRUPTED,
        cause=Cause.RUN_ENDED,
        reason=Ending.INTERRUPTED.sentence,
        resumable=True,
    ),
    RunEnded(time=START_TIME + 60, ending=Ending.INTERRUPTED),
]


@pytest.mark.parametrize("asked_at", [None, START_TIME + 990])
def test_a_resumed_run_restarts_time_and_speed_and_keeps_its_trials(
    clock: Clock, job: Job, asked_at: float | None
) -> None:
    if asked_at is None:  # it is watched
        progress = RunProgress(job, [*CUT_OFF, RESUMED], clock=clock)
    else:
        progress = RunProgress(job, CUT_OFF, asked_at=asked_at, clock=clock)
        progress.apply(RESUMED)
    clock.now = START_TIME + 1010
    assert progress.seconds == clock.now - (asked_at or RESUMED.time)
    assert (
        progress.line()
        .partition(": ")[2]
        .startswith("3 of 8 trials ended (1 completed, 1 stopped early, 1 failed)")
    )
    assert (progress.epochs_per_second, progress.seconds_left) == (0.0, None)
    progress.apply(replace(reported(4, 0.5, 0.4), time=START_TIME + 1006.002))
    progress.apply(replace(ended(4, Status.COMPLETED), time=START_TIME + 1007))
    assert progress.epochs_per_second == pytest.approx(2 / 4)
    assert progress.seconds_left == pytest.approx(4 / 1 * 4)


def test_opening_the_holdout_long_after_the_end_takes_no_time(clock: Clock, job: Job) -> None:
    progress = progress_after(
        job, [*ALL_STATES, RunEnded(time=START_TIME + 64, ending=Ending.ALL_TRIALS)], clock
    )
    progress.apply(HoldoutUnsealed(time=START_TIME + 5000, trial_id="0000"))
    assert progress.seconds == 64


# Values that are updated with each event


def test_the_best_is_found_again_if_its_epochs_are_repeated(clock: Clock, job: Job) -> None:
    events = [RUN_STARTED, created(0), created(1), reported(0, 0.1), reported(1, 0.2)]
    progress = progress_after(job, events, clock)
    assert progress.best_text() == "val_loss 0.1 (trial 0000, epoch 1)"
    progress.apply(reported(0, 0.3))
    assert progress.best_text() == "val_loss 0.2 (trial 0001, epoch 1)"
    assert progress.epochs == 2


def test_of_equals_the_trial_that_was_created_first_is_the_best(clock: Clock, job: Job) -> None:
    progress = progress_after(
        job, [RUN_STARTED, created(0), created(1), reported(1, 0.2), reported(0, 0.2)], clock
    )
    assert isinstance(progress.best, Best)
    assert progress.best.trial.trial_id == "0000"


def test_the_curve_is_that_of_the_best_trial_in_the_order_of_its_epochs(clock: Clock, job: Job) -> None:
    progress = progress_after(job, ALL_STATES, clock)
    assert progress.curve == [0.5, 0.123456, 0.25]
    assert progress_after(job, [], clock).curve == []


def test_failures_are_grouped_by_reason_the_commonest_first(clock: Clock, job: Job) -> None:
    reasons = ["too cold", "the loss is nan at epoch 3", "the loss is nan at epoch 1"]
    events: list[Event] = [RUN_STARTED, *map(created, range(4))]
    progress = progress_after(job, events, clock)
    assert progress.failures == []
    for number, reason in enumerate(reasons):
        progress.apply(
            TrialEnded(
                trial_id=f"{number:04d}", status=Status.FAILED, cause=Cause.TRAINING_FAILED, reason=reason
            )
        )
    assert progress.failures == [Failure(2, "0001", reasons[1]), Failure(1, "0000", reasons[0])]


def test_lost_workers_are_counted(clock: Clock, job: Job) -> None:
    progress = progress_after(job, ALL_STATES, clock)
    assert (progress.workers_lost, progress.last_loss) == (0, None)
    for reason in ("killed", "its machine is gone"):
        progress.apply(WorkerLost(time=START_TIME + 6, trial_id="0003", reason=reason))
    assert progress.workers_lost == 2
    assert progress.last_loss is not None
    assert progress.last_loss.reason == "its machine is gone"


def test_rungs_count_entered_waiting_and_promoted_trials(clock: Clock, job: Job) -> None:
    progress = progress_after(
        job, [RUN_STARTED, created(0), created(1), reported(0, 0.5), reported(1, 0.4)], clock
    )
    progress.apply(TrialPaused(time=START_TIME + 6, trial_id="0000", epoch=1))
    progress.apply(TrialPromoted(time=START_TIME + 6, trial_id="0001", epoch=1))
    first, second = progress.rungs
    assert (first.epoch, first.entries, first.waiting, first.promoted) == (1, 2, 1, 1)
    assert (second.epoch, second.entries) == (3, 0)
    assert progress.rung_progress == []


@pytest.mark.parametrize("method", ["asha_stopping", "median"])
def test_if_no_trial_waits_rungs_count_entered_continued_and_ended_trials(
    clock: Clock, make_sections: Callable[..., dict[str, Any]], method: str
) -> None:
    job = Job.from_mapping(make_sections({"scheduler": {"method": method, "grace_epochs": 1}}))
    events = [RUN_STARTED, *map(created, range(3)), reported(0, 0.5), reported(1, 0.4, 0.3), reported(2, 0.4)]
    progress = progress_after(job, [*events, ended(0, Status.STOPPED_EARLY)], clock)
    assert progress.rungs == []
    assert progress.rung_progress == [
        RungProgress(1, reached=3, advanced=1, ended=1),
        RungProgress(3, 0, 0, 0),
    ]


def test_a_scheduler_without_rungs_has_no_table(
    clock: Clock, make_sections: Callable[..., dict[str, Any]]
) -> None:
    job = Job.from_mapping(make_sections({"scheduler": {"method": "none"}}))
    progress = progress_after(job, ALL_STATES, clock)
    assert (progress.rungs, progress.rung_progress) == ([], [])


def test_counts_that_are_kept_up_are_those_of_the_records(clock: Clock, job: Job) -> None:
    progress = RunProgress(job, clock=clock)
    for event in [
        *CUT_OFF,
        RESUMED,
        started(3),
        WorkerLost(time=START_TIME + 6, trial_id="0003", reason="killed"),
        reported(4, 0.1),
    ]:
        progress.apply(event)
        record = progress.record
        for status in Status:
            assert progress.count(status) == len(record.with_status(status))
        assert progress.epochs == sum(len(trial.epochs) for trial in record.trials.values())
        assert sum(failure.count for failure in progress.failures) == sum(
            len(group) for _, group in failures(record.trials.values())
        )
