"""The views of a run in progress: in a terminal and in a log."""

import dataclasses
import io
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from tests.tune_jobs.sample_events import (
    ALL_STATES,
    RUN_STARTED,
    START_TIME,
    Clock,
    created,
    ended,
    reported,
    started,
)
from tune_jobs.cli import views
from tune_jobs.cli.progress import RunProgress
from tune_jobs.cli.views import LiveView, PlainView, make_view
from tune_jobs.job.job import Job
from tune_jobs.record.codes import Cause, Ending, Status
from tune_jobs.record.events import (
    RunEnded,
    TrialEnded,
    TrialPaused,
)

BEGINNING = "small: 6 trials; about to begin"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(views, "time", SimpleNamespace(monotonic=clock))
    return clock


@pytest.fixture
def progress(make_sections: Callable[..., dict[str, Any]], clock: Clock) -> RunProgress:
    return RunProgress(
        Job.from_mapping(make_sections({"scheduler": {"grace_epochs": 1}})), asked_at=START_TIME, clock=clock
    )


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
    clock: Clock, progress: RunProgress, log: Console
) -> None:
    with PlainView(progress, log, BEGINNING) as view:
        for event in ALL_STATES[:11]:
            view(event)
        assert printed(log) == [BEGINNING]
        clock.now += 5
        view(ended(0, Status.COMPLETED))  # not yet
        clock.now += 1
        view(reported(1, 0.75))  # not the end of a trial
        assert len(printed(log)) == 1
        view(ended(1, Status.STOPPED_EARLY))
        assert len(printed(log)) == 2
        view(ended(2, Status.COMPLETED))
        assert len(printed(log)) == 2
        clock.now += 6
        view(TrialPaused(time=clock.now, trial_id="0003", epoch=1))
        assert len(printed(log)) == 3
        view(RunEnded(time=clock.now, ending=Ending.ALL_TRIALS))
    lines = printed(log)
    assert len(lines) == 4
    assert lines[1].startswith(
        "6 s: 2 of 6 trials ended (2 running, 1 completed, 1 stopped early); best val_loss"
    )
    assert lines[2].startswith("12 s: 3 of 6 trials ended (1 waiting, 2 completed, 1 stopped early)")


def test_long_trials_have_a_line_a_minute(clock: Clock, progress: RunProgress, log: Console) -> None:
    with PlainView(progress, log, BEGINNING) as view:
        for event in (RUN_STARTED, created(0), started(0)):
            view(event)
        for second in range(0, 200, 10):
            clock.now = START_TIME + second
            view(reported(0, *[0.5] * (second + 1)))
    assert [line.partition(":")[0] for line in printed(log)[1:]] == ["1 min 10 s", "2 min 20 s"]


def test_a_line_of_a_log_is_neither_folded_nor_taken_for_markup(
    clock: Clock, progress: RunProgress, log: Console
) -> None:
    configuration = {"model.act": "[red]", **{f"model.argument_{number}": 0.5 for number in range(9)}}
    with PlainView(progress, log, BEGINNING) as view:
        for event in (RUN_STARTED, created(0, **configuration), reported(0, 0.5)):
            view(event)
        view(RunEnded(time=START_TIME + 9, ending=Ending.ALL_TRIALS))
    line = printed(log)[-1]
    assert len(line) > 200
    assert "model.act=[red] model.argument_0=0.5 " in line
    assert "\x1b" not in line


def test_notices_of_the_data_are_shown_unchanged(
    clock: Clock, progress: RunProgress, log: Console, terminal: Console
) -> None:
    notice = "3 of the 20 test rows also stand in [training] or validation."
    event = dataclasses.replace(RUN_STARTED, notices=(notice, "another one"))
    with PlainView(progress, log, BEGINNING) as view:
        view(event)
    assert printed(log)[1:] == [f"notice: {notice}", "notice: another one"]
    with LiveView(progress, terminal) as live:
        live(event)
    assert f"notice: {notice}" in "".join(printed(terminal))


def failed(number: int, reason: str) -> TrialEnded:
    return TrialEnded(
        time=START_TIME + 6,
        trial_id=f"{number:04d}",
        status=Status.FAILED,
        cause=Cause.TRAINING_FAILED,
        reason=reason,
    )


def test_a_log_shows_the_first_failure_of_each_kind(
    clock: Clock, progress: RunProgress, log: Console
) -> None:
    with PlainView(progress, log, BEGINNING) as view:
        for event in (RUN_STARTED, *map(created, range(5))):
            view(event)
        for number, reason in enumerate(
            ["nan at epoch 1", "nan at epoch 22", "\x1b[2Jtoo\nhot", "nan at epoch 3"]
        ):
            view(failed(number, reason))
    assert printed(log)[1:] == ["trial 0000 failed: nan at epoch 1", "trial 0002 failed: \\x1b[2Jtoo hot"]


def test_a_log_is_not_filled_by_failures(clock: Clock, progress: RunProgress, log: Console) -> None:
    with PlainView(progress, log, BEGINNING) as view:
        view(RUN_STARTED)
        for number in range(100):
            view(created(number))
            view(failed(number, "x" * number))
    assert len(printed(log)) == 1 + views.KINDS_OF_FAILURE


def test_a_notice_is_printed_once_in_a_log_and_stays_in_a_terminal(
    clock: Clock, progress: RunProgress, log: Console, terminal: Console
) -> None:
    with PlainView(progress, log, BEGINNING) as view:
        for text in ("", "[nothing] heard", "[nothing] heard", "", "again"):
            view.notice(text)
    assert printed(log)[1:] == ["notice: [nothing] heard", "notice: again"]
    with LiveView(progress, terminal) as live:
        live.notice("[nothing] heard")
    assert screen(terminal)[-1] == "note    [nothing] heard"


# In a terminal


def screen(console: Console) -> list[str]:
    """Return the lines that are on the screen at the end."""
    text = "\n".join(printed(console))
    last = text.split("\x1b[2K")[-1]  # each refresh clears the lines of the last one
    lines = re.sub(r"\x1b\[[?\d;]*[A-Za-z]|\r", "", last).splitlines()
    assert all(len(line) <= 80 for line in lines)
    return [line.rstrip() for line in lines if line.strip()]


def test_a_terminal_shows_the_progress_that_the_run_ended_with(
    clock: Clock, progress: RunProgress, terminal: Console
) -> None:
    with LiveView(progress, terminal) as view:
        for event in ALL_STATES:
            view(event)
        clock.now = START_TIME + 64
    assert screen(terminal) == [
        "━" * 20 + "─" * 20,
        "trials  3 of 6 ended   1 running   1 completed   1 stopped early   1 failed",
        "rungs   epoch       1  3",
        "        reached it  4  1",
        "        wait there  0  0",
        "        promoted    0  0",
        "best    val_loss 0.1235 (trial 0000, epoch 2)",
        "        █▁▃   val_loss 0.1235 to 0.5",
        "        lr=0.1",
        "failed  1, such as trial 0002: it ended",
        "time    1 min 4 s   0.1 epochs/s   about 1 min 0 s left",
    ]


def test_the_view_suits_the_console(progress: RunProgress, log: Console, terminal: Console) -> None:
    dumb = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
    assert isinstance(make_view(progress, log, BEGINNING), PlainView)
    assert isinstance(make_view(progress, dumb, BEGINNING), PlainView)
    assert isinstance(make_view(progress, terminal, BEGINNING), LiveView)


def test_a_terminal_is_left_in_order_by_an_error(progress: RunProgress, terminal: Console) -> None:
    with pytest.raises(RuntimeError, match="half way"), LiveView(progress, terminal):
        raise RuntimeError("half way")
    assert isinstance(terminal.file, io.StringIO)
    assert terminal.file.getvalue().endswith("\x1b[?25h")  # the cursor is shown again
