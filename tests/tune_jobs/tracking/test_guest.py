"""A tracker is a guest: it may be slow or raise errors without an effect on the run."""

import logging
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.tune_jobs.tracking.conftest import WAIT_SECONDS, make_folder, run_events, track
from tune_jobs.record.events import Event, WinnerSelected
from tune_jobs.record.journal import Journal, read_journal
from tune_jobs.tracking import Guest


@dataclass
class Recorder:
    """A tracker that records its calls, and delays them or fails on request."""

    fail_at: int = 0
    error: BaseException = field(default_factory=lambda: RuntimeError("the server said\nno"))
    may_continue: threading.Event | None = None
    fail_to_close: bool = False
    seen: list[Event] = field(default_factory=list)
    entered: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)

    def __call__(self, event: Event) -> None:
        self.seen.append(event)
        self.entered.set()
        if self.may_continue is not None:
            assert self.may_continue.wait(WAIT_SECONDS)
        if len(self.seen) == self.fail_at:
            raise self.error

    def close(self) -> None:
        self.closed.set()
        if self.fail_to_close:
            raise self.error


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_guest_gets_every_event_in_order_and_is_closed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()
    events = run_events() * 100
    track(make_folder(tmp_path), events, [Guest(recorder, "the recorder")])
    assert recorder.seen == events
    assert recorder.closed.is_set()
    assert messages(caplog) == []


@pytest.mark.parametrize("error", [RuntimeError("the server said\nno"), SystemExit(3), KeyboardInterrupt()])
def test_a_tracker_that_raises_is_switched_off_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    failing, healthy = Recorder(fail_at=3, error=error, fail_to_close=True), Recorder()
    folder, events = make_folder(tmp_path), run_events()
    track(folder, events, [Guest(failing, "the dashboard"), Guest(healthy, "the other")])
    assert failing.seen == events[:3]
    assert failing.closed.is_set()
    assert healthy.seen == events
    assert read_journal(folder.journal)[-1] == events[-1]
    assert len(read_journal(folder.journal)) == len(events)
    (message,) = messages(caplog)
    assert message.startswith(f"the dashboard is switched off: {type(error).__name__}")
    assert message.endswith("; the run's own records are complete")
    assert "\n" not in message


def test_a_tracker_that_fails_to_close_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(fail_to_close=True)
    track(make_folder(tmp_path), run_events(), [Guest(recorder, "the dashboard")])
    assert isinstance(recorder.seen[-1], WinnerSelected)
    assert messages(caplog) == [
        "the dashboard is switched off: RuntimeError: the server said no; the run's own records are complete"
    ]


def test_a_tracker_that_hangs_delays_nothing_and_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(may_continue=threading.Event())
    folder, events = make_folder(tmp_path), run_events()
    with Guest(recorder, "the dashboard") as guest:
        with Journal(folder.journal, guest) as journal:
            for event in events:
                journal.append(event)
        assert recorder.entered.wait(WAIT_SECONDS)
        # The whole run is over and on disk while the tracker is still at the first event.
        assert len(read_journal(folder.journal)) == len(events)
        assert recorder.seen == events[:1]
        recorder.may_continue.set()
    assert recorder.seen == events
    assert messages(caplog) == []


def test_a_tracker_that_never_answers_is_given_up_when_the_run_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(may_continue=threading.Event())
    folder, events = make_folder(tmp_path), run_events()
    with Guest(recorder, "the dashboard", patience=0.01) as guest, Journal(folder.journal, guest) as journal:
        for event in events:
            journal.append(event)
        assert recorder.entered.wait(WAIT_SECONDS)
    assert not recorder.closed.is_set()
    assert len(read_journal(folder.journal)) == len(events)
    assert messages(caplog) == [
        "the dashboard is switched off: it had not finished 0.01 s after the run; "
        "the run's own records are complete"
    ]
    recorder.may_continue.set()  # it answers after all: it is closed and receives no further event
    assert recorder.closed.wait(WAIT_SECONDS)
    assert recorder.seen == events[:1]
