"""What a person sees while a run lasts: in a terminal, and in a log."""

import dataclasses
import io
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from tune_jobs import progress
from tune_jobs.events import (
    Ending,
    EpochsReported,
    Event,
    RunEnded,
    RunStarted,
    Status,
    TrialCreated,
    TrialEnded,
    TrialPromoted,
    TrialStarted,
    TrialWaits,
)
from tune_jobs.job import Job
from tune_jobs.progress import LiveView, PlainView, Standing, make_view

BEGUN = 1_000_000.0


class Clock:
    """The time that the view sees; events carry their own."""

    def __init__(self) -> None:
        self.now = BEGUN

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        both = SimpleNamespace(time=lambda: self.now, monotonic=lambda: self.now)
        monkeypatch.setattr(progress, "time", both)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    made.install(monkeypatch)
    return made


@pytest.fixture
def job(make_sections: Callable[..., dict[str, Any]]) -> Job:
    return Job.from_mapping(make_sections())


STARTED = RunStarted(
    time=BEGUN + 1, name="small", job_folder="", trials=6, rows={}, fingerprints={}, versions={}
)


def created(number: int, **configuration: Any) -> TrialCreated:
    return TrialCreated(
        time=BEGUN + 2, trial_id=f"{number:04d}", number=number, configuration=configuration or {"lr": 0.1}
    )


def begun(number: int, second: float = 4) -> TrialStarted:
    return TrialStarted(time=BEGUN + second, trial_id=f"{number:04d}")


def epochs(number: int, *losses: float) -> EpochsReported:
    results = [
        {"epoch": epoch, "val_loss": loss, "seconds": 0.1} for epoch, loss in enumerate(losses, start=1)
    ]
    """They began at second 4, whenever they are reported."""
    seconds = sum(result["seconds"] for result in results)
    time = BEGUN + 4 + seconds
    return EpochsReported(time=time, trial_id=f"{number:04d}", results=results, worker="node:1")


def ended(number: int, status: Status) -> TrialEnded:
    return TrialEnded(time=BEGUN + 6, trial_id=f"{number:04d}", status=status, reason="its course is run")


ALL_STATES: list[Event] = [
    STARTED,
    *(created(number) for number in range(5)),
    *(begun(number) for number in range(4)),
    epochs(0, 0.5, 0.123456, 0.25),
    ended(0, Status.COMPLETED),
    epochs(1, 0.75),
    ended(1, Status.STOPPED_EARLY),
    epochs(2, float("nan")),
    ended(2, Status.FAILED),
    epochs(3, 0.9),
]


def standing_after(job: Job, events: list[Event]) -> Standing:
    standing = Standing(job)
    for event in events:
        standing.apply(event)
    return standing


def test_before_the_first_trial_the_run_is_starting(clock: Clock, job: Job) -> None:
    standing = standing_after(job, [])
    clock.now += 3
    assert standing.line() == "3 s: 0 of 6 trials ended (starting); 0 epochs/s"
    assert (standing.seconds, standing.seconds_left, standing.best_text()) == (3.0, None, None)
    standing.apply(STARTED)
    standing.apply(created(0))
    assert standing.first_epoch_seconds is None
    assert standing.epochs_per_second == 0.0


def test_a_run_in_progress_is_told_in_one_line(clock: Clock, job: Job) -> None:
    standing = standing_after(job, ALL_STATES)
    clock.now = BEGUN + 64
    assert standing.line() == (
        "1 min 4 s: 3 of 6 trials ended (1 running, 1 completed, 1 stopped early, 1 failed); "
        "best val_loss 0.1235 (trial 0000, epoch 2): lr=0.1; 0.1 epochs/s; about 1 min 0 s left"
    )
    assert [standing.count(status) for status in Status] == [1, 1, 0, 1, 1, 1, 0]


def test_time_left_is_what_the_ended_trials_took_for_those_that_have_not(clock: Clock, job: Job) -> None:
    standing = standing_after(
        job, [STARTED, created(0), begun(0, second=1), created(1), epochs(0, 0.5), begun(1, second=20)]
    )
    clock.now = BEGUN + 24
    assert standing.first_epoch_seconds == pytest.approx(4), "the start of Ray and its workers is no training"
    assert standing.seconds_left is None
    standing.apply(ended(0, Status.COMPLETED))
    assert standing.seconds_left == pytest.approx(20 / 1 * 5)
    standing.apply(ended(1, Status.FAILED))
    assert standing.seconds_left == pytest.approx(20 / 2 * 4)


def test_trials_that_wait_are_counted_as_such_and_most_of_their_work_as_done(clock: Clock, job: Job) -> None:
    standing = standing_after(
        job, [STARTED, created(0), created(1), begun(0), begun(1), epochs(0, 0.5), epochs(1, 0.4)]
    )
    clock.now = BEGUN + 24
    standing.apply(TrialWaits(trial_id="0000", epoch=1))
    standing.apply(TrialWaits(trial_id="0001", epoch=1))
    assert "0 of 6 trials ended (2 waiting)" in standing.line()
    assert standing.seconds_left == pytest.approx(20 / 2 * 4)
    standing.apply(TrialPromoted(trial_id="0001", epoch=1))
    assert "0 of 6 trials ended (1 waiting)" in standing.line()
    assert standing.seconds_left == pytest.approx(20 / 1 * 5)


@pytest.mark.parametrize(
    ("number", "seconds", "text"),
    [(1000, 4, "250 epochs/s"), (50, 4, "12 epochs/s"), (10, 4, "2.5 epochs/s"), (1, 96, "0.01 epochs/s")],
)
def test_speed_has_digits_where_it_is_low(
    clock: Clock, job: Job, number: int, seconds: float, text: str
) -> None:
    standing = standing_after(job, [STARTED, created(0), begun(0), epochs(0, *([0.5] * number))])
    clock.now = BEGUN + 4 + seconds
    assert standing.speed_text() == text


def test_after_the_end_the_clock_stands_and_nothing_is_left(clock: Clock, job: Job) -> None:
    standing = standing_after(job, [*ALL_STATES, RunEnded(time=BEGUN + 64, ending=Ending.INTERRUPTED)])
    clock.now = BEGUN + 10_000
    assert standing.seconds == 64
    assert standing.seconds_left is None
    assert standing.line().startswith("1 min 4 s: 3 of 6 trials ended")
    assert "left" not in standing.line()


def test_the_best_is_the_highest_where_high_is_good(
    clock: Clock, make_sections: Callable[..., dict[str, Any]]
) -> None:
    job = Job.from_mapping(
        make_sections({"training/metrics": ["r2"], "selection": {"metric": "r2", "mode": "max"}})
    )
    results = [
        {"epoch": epoch, "val_loss": 1.0, "r2": r2, "seconds": 0.1}
        for epoch, r2 in enumerate([0.25, 0.75, 0.5], start=1)
    ]
    report = EpochsReported(trial_id="0000", results=results, worker="node:1")
    standing = standing_after(job, [STARTED, created(0), report])
    assert standing.best_text() == "r2 0.75 (trial 0000, epoch 2): lr=0.1"


# In a log


def printed(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.fixture
def log() -> Console:
    return Console(file=io.StringIO(), width=80)


@pytest.fixture
def terminal() -> Console:
    return Console(file=io.StringIO(), width=80, height=24, force_terminal=True, color_system=None)


def test_a_log_gets_a_line_at_the_start_one_now_and_then_and_one_at_the_end(
    clock: Clock, job: Job, log: Console
) -> None:
    with PlainView(job, log) as view:
        for event in ALL_STATES[:11]:
            view(event)
        assert printed(log) == ["small: 6 trials; reading the data, starting Ray and its workers"]
        clock.now += 5
        view(ended(0, Status.COMPLETED))  # not yet
        clock.now += 1
        view(epochs(1, 0.75))  # not the end of a trial
        assert len(printed(log)) == 1
        view(ended(1, Status.STOPPED_EARLY))
        assert len(printed(log)) == 2
        view(ended(2, Status.FAILED))
        assert len(printed(log)) == 2
        clock.now += 6
        view(TrialWaits(trial_id="0003", epoch=1))
        assert len(printed(log)) == 3
        view(RunEnded(time=clock.now, ending=Ending.ALL_TRIALS))
    lines = printed(log)
    assert len(lines) == 4
    assert lines[1].startswith(
        "6 s: 2 of 6 trials ended (2 running, 1 completed, 1 stopped early); best val_loss"
    )
    assert lines[2].startswith(
        "12 s: 3 of 6 trials ended (1 waiting, 1 completed, 1 stopped early, 1 failed)"
    )


def test_a_line_of_a_log_is_neither_folded_nor_taken_for_markup(clock: Clock, job: Job, log: Console) -> None:
    configuration = {"model.act": "[red]", **{f"model.argument_{number}": 0.5 for number in range(9)}}
    with PlainView(job, log) as view:
        for event in (STARTED, created(0, **configuration), epochs(0, 0.5)):
            view(event)
        view(RunEnded(time=BEGUN + 9, ending=Ending.ALL_TRIALS))
    line = printed(log)[-1]
    assert len(line) > 200
    assert "model.act=[red] model.argument_0=0.5 " in line
    assert "\x1b" not in line


def test_notices_of_the_data_are_told_to_the_letter(
    clock: Clock, job: Job, log: Console, terminal: Console
) -> None:
    notice = "3 of the 20 test rows also stand in [training] or validation."
    event = dataclasses.replace(STARTED, notices=(notice, "another one"))
    with PlainView(job, log) as view:
        view(event)
    assert printed(log)[1:] == [f"notice: {notice}", "notice: another one"]
    with LiveView(job, terminal) as live:
        live(event)
    assert f"notice: {notice}" in "".join(printed(terminal))


# In a terminal


def screen(console: Console) -> list[str]:
    """The lines that are on the screen in the end."""
    text = "\n".join(printed(console))
    last = text.split("\x1b[2K")[-1]  # each refresh clears the lines of the one before
    lines = re.sub(r"\x1b\[[?\d;]*[A-Za-z]|\r", "", last).splitlines()
    assert all(len(line) <= 80 for line in lines)
    return [line.rstrip() for line in lines if line.strip()]


def test_a_terminal_shows_the_standing_that_the_run_ended_with(
    clock: Clock, job: Job, terminal: Console
) -> None:
    with LiveView(job, terminal) as view:
        for event in ALL_STATES:
            view(event)
        clock.now = BEGUN + 64
    assert screen(terminal) == [
        "━" * 20,
        "trials  3 of 6 ended   1 running  1 completed  1 stopped early  1 failed",
        "best    val_loss 0.1235 (trial 0000, epoch 2): lr=0.1",
        "time    1 min 4 s   0.1 epochs/s   about 1 min 0 s left",
    ]


def test_a_terminal_says_that_ray_is_starting(clock: Clock, job: Job, terminal: Console) -> None:
    with LiveView(job, terminal):
        clock.now += 2
    assert screen(terminal)[-3:] == [
        "trials  0 of 6 ended",
        "best    no score yet",
        "time    2 s   starting Ray and its workers",
    ]


def test_a_long_configuration_is_folded_and_not_taken_for_markup(
    clock: Clock, job: Job, terminal: Console
) -> None:
    configuration = {"model.act": "[red]", **{f"model.argument_{number}": 0.5 for number in range(9)}}
    with LiveView(job, terminal) as view:
        for event in (STARTED, created(0, **configuration), begun(0), epochs(0, 0.5)):
            view(event)
    text = " ".join(line.strip() for line in screen(terminal))
    assert "(trial 0000, epoch 1): model.act=[red]" in text
    assert all(f"model.argument_{number}=0.5" in text for number in range(9))


def test_the_view_suits_where_the_console_writes_to(job: Job, log: Console, terminal: Console) -> None:
    assert isinstance(make_view(job, log), PlainView)
    assert isinstance(make_view(job, terminal), LiveView)


def test_a_terminal_is_left_in_order_by_an_error(job: Job, terminal: Console) -> None:
    with pytest.raises(RuntimeError, match="half way"), LiveView(job, terminal):
        raise RuntimeError("half way")
    assert isinstance(terminal.file, io.StringIO)
    assert terminal.file.getvalue().endswith("\x1b[?25h")  # the cursor is shown again
