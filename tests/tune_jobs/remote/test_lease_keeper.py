"""A lease is renewed while it is kept, and given back or lost only once."""

import threading
from typing import cast

import pytest

from tests.processes import PATIENCE
from tune_jobs.remote import lease_keeper
from tune_jobs.remote.lease import Lease, LeaseLost
from tune_jobs.remote.lease_keeper import LeaseKeeper
from tune_jobs.remote.store import StoreError


class ScriptedLease:
    """A lease whose renewals have the given outcomes first and then succeed."""

    def __init__(self, *outcomes: Exception) -> None:
        self.outcomes = list(outcomes)
        self.calls: list[str] = []
        self.renewed = threading.Event()

    def acquire(self) -> None:
        self.calls.append("acquire")

    def release(self) -> None:
        self.calls.append("release")
        raise StoreError("it is closed", "s3://bucket")

    def renew(self) -> None:
        if self.outcomes:
            raise self.outcomes.pop(0)
        self.renewed.set()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_keeper, "SECONDS_BETWEEN_RENEWALS", 0.001)


def lost_too_early(error: LeaseLost) -> None:
    raise AssertionError from error


def test_a_lease_is_renewed_in_spite_of_an_outage_until_it_is_given_back() -> None:
    lease = ScriptedLease(
        StoreError("it is closed", "s3://bucket"), StoreError("it is closed", "s3://bucket")
    )
    keeper = LeaseKeeper(cast("Lease", lease), lost_too_early)
    keeper.take()
    assert lease.renewed.wait(PATIENCE)
    keeper.give_back()  # although the store does not accept it
    assert lease.calls == ["acquire", "release"]


def test_the_loss_of_a_lease_is_handed_on_once() -> None:
    errors: list[LeaseLost] = []
    told = threading.Event()

    def lost(error: LeaseLost) -> None:
        errors.append(error)
        told.set()

    error = LeaseLost()
    lease = ScriptedLease(error, LeaseLost())
    keeper = LeaseKeeper(cast("Lease", lease), lost)
    keeper.take()
    assert told.wait(PATIENCE)
    keeper.give_back()
    assert errors == [error]
