"""Of two drivers on any machines, one writes to a run, and a dead driver can be replaced."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict

import pytest

from tests.processes import PATIENCE
from tests.tune_jobs.remote.object_stores import Proxy
from tune_jobs.errors import RunInUse
from tune_jobs.location import Location
from tune_jobs.remote import lease
from tune_jobs.remote.lease import FOLDER, Holder, Lease, LeaseLost, holders
from tune_jobs.remote.store import Store, StoreError


def held_by(store: Store, owner: Holder) -> str:
    name = f"{FOLDER}/{owner.token}.json"
    store.put(name, json.dumps(asdict(owner)).encode())
    return name


def elsewhere(**changes: object) -> Holder:
    return dataclasses.replace(Holder.here(), host="far", held=True, **changes)


def test_a_lease_is_taken_and_given_back(s3: Location) -> None:
    store = Store(s3)
    first, second = Lease(store), Lease(store)
    first.acquire()
    assert [str(owner) for owner, _ in holders(store)] == [str(Holder.here())]
    with pytest.raises(RunInUse, match="another process is at work on this run") as caught:
        second.acquire()
    assert str(Holder.here()) in str(caught.value)
    assert "free 90 s after" in str(caught.value)
    first.release()
    second.acquire()
    second.release()
    assert store.objects() == []


def test_a_driver_of_another_machine_is_believed_until_it_is_silent_for_long(
    s3: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(s3)
    held_by(store, elsewhere(pid=7))
    with pytest.raises(RunInUse, match=r"far:7, last seen \d+ s ago"):
        Lease(store).acquire()
    monkeypatch.setattr(lease, "STALE_SECONDS", -60.0)
    taken = Lease(store)
    taken.acquire()
    assert [one.name for one in store.objects()] == [taken._name]


def test_a_dead_process_of_this_machine_is_known_to_be_dead(s3: Location) -> None:
    code = (
        "from tune_jobs.remote.lease import *; from tune_jobs.location import Location;"
        f"Lease(Store(Location.parse('{s3}'))).acquire(); import os; os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)
    store = Store(s3)
    assert len(store.objects(FOLDER)) == 1
    assert holders(store) == []
    Lease(store).acquire()
    assert len(store.objects(FOLDER)) == 1


def test_a_later_process_with_the_same_number_is_another_one() -> None:
    here = dataclasses.replace(Holder.here(), pid=os.getppid(), started=lease._start_time(os.getppid()))
    assert not here.is_dead
    assert dataclasses.replace(here, started="1").is_dead
    assert not elsewhere().is_dead
    assert not dataclasses.replace(here, started="1", world="another container").is_dead


@pytest.mark.slow
def test_of_many_at_once_one_has_it(s3: Location) -> None:
    store = Store(s3)
    leases = [Lease(store) for _ in range(5)]
    got: list[Lease] = []

    def take(one: Lease) -> None:
        try:
            one.acquire()
        except RunInUse:
            return
        got.append(one)

    threads = [threading.Thread(target=take, args=(one,)) for one in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) <= 1, "never two"
    assert [one.name for one in store.objects()] == [one._name for one in got]


def test_a_driver_that_lost_its_lease_learns_it(s3: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(s3)
    suspended = Lease(store)
    suspended.acquire()
    suspended.renew()
    store.delete(suspended._name)  # as a driver does that takes over
    suspended.renew()  # the lease was renewed just now
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.0)
    with pytest.raises(LeaseLost):
        suspended.renew()
    assert store.objects() == []


def test_a_driver_that_slept_for_long_asks_before_it_writes(
    s3: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """time.monotonic stops while a machine sleeps."""
    clock, slept = time.clock_gettime, 0.0
    monkeypatch.setattr(time, "clock_gettime", lambda which: clock(which) + slept)
    store = Store(s3)
    suspended = Lease(store)
    suspended.acquire()
    store.delete(suspended._name)  # as a driver does that takes over
    suspended.ensure()  # no other driver can have the lease so soon
    slept = 60.0
    for _ in range(2):
        with pytest.raises(LeaseLost):
            suspended.ensure()
    assert store.objects() == []


@pytest.mark.slow
def test_a_driver_that_slept_for_long_without_a_rival_continues(
    s3: Location, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, slept = time.clock_gettime, 0.0
    monkeypatch.setattr(time, "clock_gettime", lambda which: clock(which) + slept)
    suspended = Lease(Store(s3))
    suspended.acquire()
    slept = 60.0
    proxy.mode = "down"
    with pytest.raises(StoreError):
        suspended.ensure()
    proxy.mode = "up"
    suspended.ensure()
    proxy.mode = "down"
    suspended.ensure()  # the keeper knows by now


@pytest.mark.parametrize("ahead", [0.0, 300.0])
def test_of_two_that_have_it_after_all_one_stops(
    s3: Location, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    """One driver was silent for long and writes its object just when the other one removes it.

    The clock of this machine may be ahead of the store's.
    """
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.0)
    true = time.time
    monkeypatch.setattr(time, "time", lambda: true() + ahead)
    store = Store(s3)
    first = Lease(store)
    first.acquire()
    other = held_by(store, elsewhere(pid=7, token="0"))
    first.renew()
    store.delete(other)
    held_by(store, elsewhere(pid=7, token="~"))
    with pytest.raises(LeaseLost):
        first.renew()


@pytest.mark.parametrize(
    ("content", "who"),
    [
        (b"{", "maybe of a later version of tune-jobs"),
        (b'["far", 7]', "maybe of a later version of tune-jobs"),
        (b'{"host": "far", "pid": 7, "token": 1}', "maybe of a later version of tune-jobs"),
        (b'{"host": "far", "pid": 7, "new": {}, "held": true}', "far:7"),
    ],
)
def test_a_lease_of_a_later_version_is_believed_until_it_is_silent_for_long(
    s3: Location, monkeypatch: pytest.MonkeyPatch, content: bytes, who: str
) -> None:
    store = Store(s3)
    store.put(f"{FOLDER}/~.json", content)
    with pytest.raises(RunInUse, match=rf"at work on this run \({who}, last seen"):
        Lease(store).acquire()
    assert store.get(f"{FOLDER}/~.json") == content
    monkeypatch.setattr(lease, "STALE_SECONDS", -60.0)
    taken = Lease(store)
    taken.acquire()
    assert [one.name for one in store.objects()] == [taken._name]


@pytest.mark.slow
def test_a_driver_that_could_not_give_it_back_may_take_it_again(proxy: Proxy, s3: Location) -> None:
    """The same process may take the lease again once the store answers."""
    first = Lease(Store(s3))
    first.acquire()
    proxy.mode = "down"
    with pytest.raises(StoreError):
        first.release()
    proxy.mode = "up"
    Lease(Store(s3)).acquire()
    assert len(Store(s3).objects()) == 1
