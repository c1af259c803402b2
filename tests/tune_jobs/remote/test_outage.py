"""An outage of a store is reported once it is long, and only if the store is the cause."""

from pathlib import Path

import pytest

from tune_jobs.location import Location
from tune_jobs.remote import outage
from tune_jobs.remote.store import StoreError

PLACE = Location("s3", "bucket", "run")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every outage long enough to be reported."""
    monkeypatch.setattr(outage, "SECONDS_BEFORE_REPORT", 0.0)


def fail(store: outage.Outage, error: Exception) -> None:
    with pytest.raises(type(error)), store.observe():
        raise error


@pytest.mark.usefixtures("at_once")
def test_other_errors_are_no_outage_of_the_store(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = outage.Outage(PLACE, tmp_path)
    fail(store, KeyError("the lease is lost"))
    store.report_if_due()
    assert caplog.messages == []


@pytest.mark.usefixtures("at_once")
def test_an_outage_is_reported_once_with_its_reason_and_so_is_its_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = outage.Outage(PLACE, tmp_path)
    for _ in range(2):
        fail(store, StoreError("it is closed", str(PLACE)))
        store.report_if_due()
    with store.observe():
        pass
    store.report_if_due()
    assert caplog.messages == [
        f"{PLACE}: has accepted nothing for 0 s (it is closed); the run continues. Everything is kept on this "
        f"machine, in {tmp_path}, and is sent when the store accepts objects again",
        f"{PLACE}: accepts objects again",
    ]


def test_a_short_outage_is_not_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = outage.Outage(PLACE, tmp_path)
    fail(store, StoreError("it is closed", str(PLACE)))
    store.report_if_due()
    with store.observe():
        pass
    assert caplog.messages == []


@pytest.mark.usefixtures("at_once")
def test_a_call_that_never_returns_is_reported_by_the_thread_that_watches(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = outage.Outage(PLACE, tmp_path)
    with store.observe():
        store.start()
        store.stop()
        assert [message for message in caplog.messages if "it has not answered yet" in message]
