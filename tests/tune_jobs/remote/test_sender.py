"""A periodic sender sends urgent data at once, repeats after an outage, and stops after a failure."""

import threading

import pytest

from tests.processes import PATIENCE
from tune_jobs.remote import sender
from tune_jobs.remote.sender import PeriodicSender
from tune_jobs.remote.store import StoreError

HOURS = 3600.0


def never(error: Exception) -> None:
    raise AssertionError from error


def test_it_sends_when_it_is_woken_and_once_more_when_it_ends() -> None:
    sent = threading.Semaphore(0)
    periodic = PeriodicSender("test", sent.release, HOURS, never)
    periodic.start()
    periodic.wake()
    assert sent.acquire(timeout=PATIENCE)
    periodic.stop()
    periodic.join()
    assert sent.acquire(blocking=False)


def test_it_sends_again_and_again_without_being_woken() -> None:
    sent = threading.Semaphore(0)
    periodic = PeriodicSender("test", sent.release, 0.0, never)
    periodic.start()
    for _ in range(3):
        assert sent.acquire(timeout=PATIENCE)
    periodic.stop()
    periodic.join()


def test_an_outage_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "FIRST_PAUSE", 0.001)
    attempts, sent = [], threading.Event()

    def send() -> None:
        attempts.append(1)
        if len(attempts) < 4:
            raise StoreError("it is closed", "s3://bucket")
        sent.set()

    periodic = PeriodicSender("test", send, 0.0, never)
    periodic.start()
    assert sent.wait(PATIENCE)
    periodic.stop()
    periodic.join()


def test_any_other_error_is_handed_on_and_may_stop_it() -> None:
    errors: list[Exception] = []

    def send() -> None:
        raise PermissionError(13, "not allowed")

    def failed(error: Exception) -> None:
        errors.append(error)
        periodic.stop()

    periodic = PeriodicSender("test", send, 0.0, failed)
    periodic.start()
    periodic.join()
    assert [type(error) for error in errors] == [PermissionError]


def test_one_that_is_stopped_before_it_starts_sends_nothing() -> None:
    sent: list[int] = []
    periodic = PeriodicSender("test", lambda: sent.append(1), 0.0, never)
    periodic.stop()
    periodic.start()
    periodic.join()
    assert (sent, periodic.is_stopping) == ([], True)
