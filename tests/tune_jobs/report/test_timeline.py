"""The timeline: every epoch on its worker, pauses, promotions, losses and idle time."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tune_jobs.causes import CAUSE_OF
from tune_jobs.record.codes import Ending, Status
from tune_jobs.record.events import (
    EpochsReported,
    Event,
    RunEnded,
    RunResumed,
    RunStarted,
    TrialCreated,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
    TrialStarted,
    WinnerSelected,
    WorkerLost,
    in_force,
)
from tune_jobs.record.run_record import RunRecord
from tune_jobs.report.timeline import Close, Timeline, timeline
from tune_jobs.report.timeline_figure import caption, timeline_figure
from tune_jobs.trainers.settings import ScoreSettings

BEGIN = 1_000_000.0


def started() -> RunStarted:
    return RunStarted(name="demo", job_folder=".", trials=3, rows={}, fingerprints={}, versions={})


def created(trial: int) -> TrialCreated:
    return TrialCreated(trial_id=f"{trial:04d}", number=trial, configuration={})


def begun(trial: int) -> TrialStarted:
    return TrialStarted(trial_id=f"{trial:04d}")


def reported(trial: int, *epochs: int, worker: str = "a:1", seconds: float = 1.0) -> EpochsReported:
    results = [
        {"epoch": e, "train_loss": 1.0, "val_loss": 1.0 / e, "lr": 0.1, "seconds": seconds} for e in epochs
    ]
    return EpochsReported(trial_id=f"{trial:04d}", results=results, worker=worker)


def ended(trial: int, status: Status = Status.COMPLETED, *, resumable: bool = False) -> TrialEnded:
    return TrialEnded(
        trial_id=f"{trial:04d}", status=status, cause=CAUSE_OF[status], reason="so it is", resumable=resumable
    )


def at(*timed: tuple[float, Event]) -> list[Event]:
    return [replace(event, time=BEGIN + time) for time, event in timed]


def read(events: Sequence[Event], now: float | None = 100.0) -> Timeline:
    found = timeline(events, None if now is None else BEGIN + now)
    assert found is not None
    return found


def test_a_stretch_begins_with_its_first_epoch_and_ends_when_the_worker_is_free() -> None:
    found = read(
        at(
            (0, started()), (1, created(0)), (1, begun(0)), (6, reported(0, 1)), (7, reported(0, 2, 3)),
            (8, ended(0)), (9, RunEnded(ending=Ending.ALL_TRIALS)),
        )
    )  # fmt: skip
    (stretch,) = found.stretches
    assert (stretch.start, stretch.end) == (
        5.0,
        8.0,
    )  # the first second of training; before that the worker started
    assert (stretch.first_epoch, stretch.last_epoch, stretch.close) == (1, 3, Close.ENDED)
    assert found.busy(0) == 3.0
    assert found.at_work == 4.0


def test_pauses_and_promotions_after_a_pause_are_distinguished() -> None:
    found = read(
        at(
            (0, started()), (0, created(0)), (0, begun(0)), (1, reported(0, 1)),
            (1, TrialPromoted(trial_id="0000", epoch=1)), (3, reported(0, 2, 3)),
            (4, TrialPaused(trial_id="0000", epoch=3)), (10, TrialPromoted(trial_id="0000", epoch=3)),
            (10, begun(0)), (12, reported(0, 4, worker="a:2")), (12, ended(0)),
        )
    )  # fmt: skip
    assert [(s.start, s.end, s.close) for s in found.stretches] == [
        (0.0, 4.0, Close.PAUSED),
        (11.0, 12.0, Close.ENDED),
    ]
    assert [(p.epoch, p.time) for p in found.promotions] == [(3, 10.0)]
    assert found.waiting == [(0.0, 0), (4.0, 1), (10.0, 0), (12.0, 0)]
    assert caption(found).startswith("1 worker, busy 42% of 12 s")
    assert "1 pause at a rung; 1 promotion after a pause" in caption(found)


def test_a_lost_worker_ends_its_stretch_and_the_next_worker_of_its_host_takes_over_the_lane() -> None:
    found = read(
        at(
            (0, started()), (0, created(0)), (0, begun(0)), (2, reported(0, 1, worker="a:1")),
            (3, WorkerLost(trial_id="0000", reason="killed")), (4, begun(0)),
            (6, reported(0, 2, worker="a:9")), (6, ended(0)),
        )
    )  # fmt: skip
    assert [(s.worker, s.lane, s.close) for s in found.stretches] == [
        ("a:1", 0, Close.LOST),
        ("a:9", 0, Close.ENDED),
    ]
    assert list(found.lanes) == ["worker 1"]
    assert "1 worker lost" in caption(found)


def test_a_worker_is_not_busy_twice_if_an_end_is_written_late() -> None:
    found = read(
        at(
            (0, started()), (0, created(0)), (0, created(1)), (0, created(2)), (0, begun(0)), (1, reported(0, 1)),
            (4, begun(1)), (5, reported(1, 1)), (6, ended(1)),
            (7, begun(2)), (8, reported(2, 1)), (9, ended(2)), (10, ended(0)),
        )
    )  # fmt: skip
    long = sorted((s for s in found.stretches if s.end > s.start), key=lambda s: s.start)
    assert all(a.end <= b.start for a, b in pairwise(long))
    assert found.busy(0) == found.at_work == 10.0


def test_lanes_of_several_hosts_have_their_names_and_those_of_a_host_lie_side_by_side() -> None:
    workers = ["b:1", "a:1", "b:2", "a:2"]  # in the order in which they begin
    timed: list[tuple[float, Event]] = [(0, started())]
    for trial, worker in enumerate(workers):
        timed += [
            (0, created(trial)),
            (0, begun(trial)),
            (2 + 0.1 * trial, reported(trial, 1, worker=worker)),
        ]
    found = read(at(*timed, *((3, ended(trial)) for trial in range(4))))
    assert list(found.lanes) == ["a 1", "a 2", "b 1", "b 2"]
    assert {s.worker: s.lane for s in found.stretches} == {"a:1": 0, "a:2": 1, "b:1": 2, "b:2": 3}


def test_a_resumed_run_has_a_gap_in_which_nothing_ran() -> None:
    events = at(
        (0, started()), (0, created(0)), (0, begun(0)), (2, reported(0, 1)),
        (3, ended(0, Status.INTERRUPTED, resumable=True)), (3, RunEnded(ending=Ending.INTERRUPTED)),
        (50, RunResumed(trials=1, versions={})), (52, begun(0)), (54, reported(0, 2, worker="a:2")),
        (55, ended(0)),
    )  # fmt: skip
    found = read(events)
    assert found.gaps == [(3.0, 50.0)]
    assert [s.close for s in found.stretches] == [Close.CUT_OFF, Close.ENDED]
    assert found.at_work == pytest.approx(55 - 1 - 47)
    assert "1 interruption" in caption(found)


def test_a_killed_trial_is_cut_at_its_last_event() -> None:
    found = read(
        at(
            (0, started()),
            (0, created(0)),
            (0, begun(0)),
            (2, reported(0, 1)),
            (9, RunResumed(trials=1, versions={})),
        )
    )
    assert [(s.end, s.close) for s in found.stretches] == [(2.0, Close.CUT_OFF)]


def test_a_run_in_progress_goes_up_to_now() -> None:
    found = read(at((0, started()), (0, created(0)), (0, begun(0)), (2, reported(0, 1))), now=30)
    assert found.end == 30
    assert [(s.end, s.close) for s in found.stretches] == [(30.0, Close.RUNNING)]


def test_a_run_without_a_driver_is_cut_off_and_not_running() -> None:
    found = read(at((0, started()), (0, created(0)), (0, begun(0)), (2, reported(0, 1))), now=None)
    assert [(s.end, s.close) for s in found.stretches] == [(2.0, Close.CUT_OFF)]


def test_trials_lost_or_failed_before_their_first_epoch_are_listed() -> None:
    found = read(
        at(
            (0, started()), (0, created(0)), (0, created(1)), (0, begun(0)),
            (2, WorkerLost(trial_id="0000", reason="killed")), (2, begun(0)), (4, reported(0, 1)), (5, ended(0)),
            (5, begun(1)), (7, ended(1, Status.FAILED)),
        )
    )  # fmt: skip
    assert (found.lost, found.unseen) == (1, 1)
    assert "1 worker lost; 1 trial without an epoch not shown" in caption(found)


def test_events_after_the_end_do_not_lengthen_it() -> None:
    events = at((0, started()), (0, created(0)), (0, begun(0)), (2, reported(0, 1)), (3, ended(0)))
    after = at((3, RunEnded(ending=Ending.ALL_TRIALS)), (7200, WinnerSelected(winner="0000")))
    assert read([*events, *after], now=None).end == 3.0


def test_without_an_epoch_there_is_none() -> None:
    assert timeline([], BEGIN) is None
    assert timeline(at((0, started()), (1, created(0)), (1, begun(0))), BEGIN + 5) is None


@st.composite
def made_up(draw: st.DrawFn) -> list[Event]:
    """Generate a run on up to four workers that start, pause, lose and end trials."""
    workers = [[draw(st.floats(0, 2)), f"a:{n}"] for n in range(draw(st.integers(1, 4)))]
    timed: list[tuple[float, Event]] = [(0.0, started())]
    trial = 0
    for start, worker in workers:
        clock = float(start)
        for _ in range(draw(st.integers(1, 5))):
            timed += [(clock, created(trial)), (clock, begun(trial))]
            epoch = 0
            for _ in range(draw(st.integers(1, 3))):
                seconds = draw(st.floats(0.01, 3))
                clock += seconds + draw(st.floats(0, 1))
                epoch += 1
                timed.append((clock, reported(trial, epoch, worker=worker, seconds=seconds)))
            waits = TrialPaused(trial_id=f"{trial:04d}", epoch=epoch)
            timed.append(
                (clock, draw(st.sampled_from([ended(trial), waits, ended(trial, Status.STOPPED_EARLY)])))
            )
            clock += draw(st.floats(0, 2))
            trial += 1
    return at(*sorted(timed, key=lambda pair: pair[0]))


@given(made_up())
def test_stretches_of_a_worker_never_overlap_and_hold_every_epoch_once(events: list[Event]) -> None:
    found = read(events)
    for lane in range(len(found.lanes)):
        own = sorted((s for s in found.stretches if s.lane == lane), key=lambda s: s.start)
        assert all(s.start <= s.end for s in own)
        assert all(a.end <= b.start + 1e-9 for a, b in pairwise(own))
        assert found.busy(lane) <= found.at_work + 1e-6
    reports = [
        (e.trial_id, int(r["epoch"])) for e in events if isinstance(e, EpochsReported) for r in e.results
    ]
    held = [(s.trial_id, n) for s in found.stretches for n in range(s.first_epoch, s.last_epoch + 1)]
    assert sorted(held) == sorted(reports)


@pytest.mark.slow
@given(made_up())
def test_the_figure_has_a_bar_for_every_stretch(events: list[Event]) -> None:
    found = read(events)
    record = RunRecord.replay(in_force(events), ScoreSettings(metric="val_loss"))
    figure = timeline_figure(found, record, "0000")
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert sum(len(trace.x) for trace in bars) == len(found.stretches)
    assert all(width >= 0 for trace in bars for width in trace.x)
    winner = next(trace for trace in bars if trace.name == "winner")
    assert set(winner.customdata) == {0}


def test_with_many_trials_it_stays_small() -> None:
    timed: list[tuple[float, Event]] = [(0.0, started())]
    for trial in range(500):
        timed += [
            (trial, created(trial)), (trial, begun(trial)),
            (trial + 0.9, reported(trial, 1, 2, worker=f"a:{trial % 64}", seconds=0.4)), (trial + 0.9, ended(trial)),
        ]  # fmt: skip
    events = at(*timed)
    found = read(events, now=600)
    figure = timeline_figure(found, RunRecord.replay(events, ScoreSettings(metric="val_loss")), None)
    assert len(figure.to_json()) < 80_000
