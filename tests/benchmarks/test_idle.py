import math

import pytest

from benchmarks.idle import (
    BASELINE,
    MODEL,
    QUANTITIES,
    Idle,
    Measured,
    Stretch,
    idle_between,
    idle_table,
    mean_ratio,
    measure,
    ratio_lines,
    training_steps,
    training_stretches,
)
from tune_jobs.record.events import EpochsReported, Event, RunStarted, TrialCreated, TrialStarted


def run_started(rows: int = 100) -> RunStarted:
    return RunStarted(
        time=0.0,
        name="n",
        job_folder="",
        trials=3,
        rows={"train": rows, "validation": 1, "test": 1},
        fingerprints={},
        versions={},
    )


def created(trial: str, batch_size: int = 50, *, filled_in: bool = False) -> TrialCreated:
    configuration = {"batch_size": batch_size}
    return TrialCreated(time=0.0, trial_id=trial, number=0, configuration=configuration, filled_in=filled_in)


def starts(time: float, trial: str) -> TrialStarted:
    return TrialStarted(time=time, trial_id=trial)


def epochs(time: float, trial: str, worker: str, *seconds: float) -> EpochsReported:
    return EpochsReported(
        time=time, trial_id=trial, results=[{"seconds": each} for each in seconds], worker=worker
    )


# Worker a trains 10-12 and 13-14, then the promoted trial a second time 16-20; worker b trains 11-14 and 15-16.
EVENTS: list[Event] = [
    run_started(),
    *(created(trial, filled_in=trial == "c") for trial in ("a", "b", "c", "d")),
    starts(8.0, "a"),
    starts(8.0, "b"),
    epochs(12.0, "a", "h:1", 1.0, 1.0),
    starts(12.5, "c"),
    epochs(14.0, "b", "h:2", 3.0),
    epochs(14.0, "c", "h:1", 1.0),
    starts(15.0, "d"),
    starts(15.5, "a"),
    epochs(16.0, "d", "h:2", 1.0),
    epochs(20.0, "a", "h:1", 2.0, 2.0),
]


def test_a_report_ends_a_stretch_as_long_as_its_epochs() -> None:
    stretches = training_stretches([*EVENTS, epochs(30.0, "a", "h:1")])

    assert stretches[:2] == [Stretch("h:1", 10.0, 12.0), Stretch("h:2", 11.0, 14.0)]
    assert len(stretches) == 5  # a failure report without an epoch is none


@pytest.mark.parametrize(
    ("begin", "end", "seconds"), [(0, 9, 2), (5, 9, 1), (0, 5, 1), (4.5, 5, 0.5), (6, 9, 0), (0, 4, 0)]
)
def test_a_stretch_counts_as_far_as_it_is_within_the_window(begin: float, end: float, seconds: float) -> None:
    assert Stretch("w", 4.0, 6.0).within(begin, end) == seconds


def test_the_window_opens_with_the_last_worker_and_closes_with_the_last_new_trial() -> None:
    searching = measure(EVENTS, workers=2).searching

    assert searching.window == 15 - 11
    assert searching.training == (12 - 11) + (14 - 13) + (14 - 11)
    assert searching.seconds == 2 * 4 - 5
    assert (searching.segments, searching.trials) == (2, 2)
    assert searching.share == pytest.approx(3 / 8)
    assert (searching.per_segment, searching.per_trial) == (1.5, 1.5)


def test_until_the_last_report_a_trial_that_continues_adds_a_segment_and_no_trial() -> None:
    whole = measure(EVENTS, workers=2).whole

    assert (whole.window, whole.seconds) == (20 - 11, 2 * 9 - 10)
    assert (whole.segments, whole.trials) == (3, 2)


def test_waiting_for_a_proposal_is_idle_time() -> None:
    later = [
        event if event.time <= 14 else type(event)(**{**vars(event), "time": event.time + 2})
        for event in EVENTS
    ]

    searching = [measure(events, workers=2).searching for events in (EVENTS, later)]
    assert searching[1].seconds == searching[0].seconds + 2 * 2  # both workers wait two seconds longer


def test_steps_are_the_batches_of_all_epochs_the_last_of_each_being_smaller() -> None:
    events = [
        run_started(101),
        created("a", 50),
        created("b", 101),
        epochs(1.0, "a", "w", 0.5, 0.5),
        epochs(2.0, "b", "w", 1.0),
    ]

    assert training_steps(events) == 2 * 3 + 1


def test_the_share_of_trials_that_were_filled_in_is_that_of_all_trials() -> None:
    assert measure(EVENTS, workers=2).filled_in == 1 / 4


def test_a_run_in_which_a_worker_is_missing_is_refused() -> None:
    with pytest.raises(ValueError, match="2 of 3 workers"):
        measure(EVENTS, workers=3)


def test_a_run_whose_trials_had_all_begun_at_once_is_refused() -> None:
    with pytest.raises(ValueError, match="All trials had begun"):
        measure(
            [event for event in EVENTS if event.time <= 12 or isinstance(event, EpochsReported)], workers=2
        )


def test_nothing_is_counted_in_front_of_the_window() -> None:
    found = idle_between(EVENTS, 12.0, 15.0, workers=2)

    assert (found.training, found.segments) == ((14 - 12) + (14 - 13), 2)


def measured(per_segment: float, step: float = 0.001, filled_in: float = 0.0) -> Measured:
    idle = Idle(window=10.0, workers=2, training=20 - 4 * per_segment, segments=4, trials=2)
    return Measured(searching=idle, whole=idle, seconds_per_step=step, filled_in=filled_in)


def test_ratios_are_geometric_means_over_the_rounds_with_their_error() -> None:
    ratio = mean_ratio([2.0, 1.0], [1.0, 2.0])

    assert ratio.mean == pytest.approx(1.0)
    assert (ratio.low, ratio.high) == (pytest.approx(0.5), pytest.approx(2.0))  # ln 2 is the standard error
    assert math.isnan(mean_ratio([2.0], [1.0]).low)
    assert str(mean_ratio([2.0], [1.0])) == "2.000"


def test_the_table_and_the_ratios_are_shown() -> None:
    both = {
        MODEL: [measured(0.02), measured(0.04, filled_in=0.05)],
        BASELINE: [measured(0.01), measured(0.02)],
    }

    heading, _, row, other = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in idle_table(both).splitlines()
    )
    lines = ratio_lines(both).splitlines()

    assert row[:4] == [MODEL, "30.0", "60.0", "0.6"]
    assert (heading[-1], row[-1], other[-1]) == ("filled in, %", "2.5", "0.0")
    assert len(lines) == len(QUANTITIES)
    assert lines[0].endswith(
        "while trials are proposed: 2.000 (one standard error: 2.000 to 2.000); wanted: 1.05 or less"
    )
    assert lines[-1].endswith("1.000 (one standard error: 1.000 to 1.000)")
