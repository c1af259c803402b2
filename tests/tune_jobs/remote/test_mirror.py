"""The store follows a run through all failures of the store, and the driver does not wait for it."""

import dataclasses
import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import PATIENCE
from tests.tune_jobs.remote.copies import Machine, append, created, keep, machine, on_the_first, wait_for
from tests.tune_jobs.remote.object_stores import Proxy
from tune_jobs.errors import RunFolderError, StorageFailed
from tune_jobs.location import Location
from tune_jobs.record.events import Event
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal, read_journal
from tune_jobs.remote import lease, lease_keeper, mirror, outage
from tune_jobs.remote.mirror import mirrored
from tune_jobs.remote.segments import read_from
from tune_jobs.remote.store import Store
from tune_jobs.remote.working_copy import pull

__all__ = ["machine", "on_the_first"]


@pytest.fixture
def copy(make_run: Callable[..., RunFolder], s3: Location) -> RunFolder:
    """Return this machine's copy of a run in progress."""
    return keep(make_run([{"losses": [2.0]}], ending=None), s3)


def test_a_run_in_a_folder_has_no_mirror(make_run: Callable[..., RunFolder]) -> None:
    folder = make_run([{"losses": [1.0]}])
    made: list[int] = []
    with Journal(folder.journal) as journal, mirrored(folder, journal) as after_upload:
        after_upload(lambda: made.append(1))
    assert made == [1]


@pytest.mark.slow
def test_events_arrive_while_the_run_continues(copy: RunFolder, s3: Location) -> None:
    store = Store(s3 / copy.name)
    with Journal(copy.journal) as journal, mirrored(copy, journal):
        for number in (1, 2, 3):
            journal.append(created(number))
            wait_for(lambda: read_from(store) == copy.journal.read_bytes())


@pytest.mark.slow
def test_events_and_calls_do_not_wait_for_a_file_that_takes_its_time(
    copy: RunFolder, s3: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "FILES_SECONDS", 0.0)
    store, began, may_continue = Store(s3 / copy.name), threading.Event(), threading.Event()
    made: list[int] = []
    upload = Store.upload

    def slowly(self: Store, file: Path, name: str, size: int | None = None) -> None:
        if name == "wandb/large" and not began.is_set():
            began.set()
            assert may_continue.wait(PATIENCE)
        upload(self, file, name, size)

    monkeypatch.setattr(Store, "upload", slowly)
    with Journal(copy.journal) as journal, mirrored(copy, journal) as after_upload:
        try:
            (copy.path / "wandb").mkdir()
            (copy.path / "wandb" / "large").write_bytes(b"1")
            assert began.wait(PATIENCE)
            for number in (1, 2, 3):
                journal.append(created(number))
                after_upload(lambda number=number: made.append(number))
                wait_for(lambda: read_from(store) == copy.journal.read_bytes())
            wait_for(lambda: made[-1:] == [3])
        finally:
            may_continue.set()
    assert store.get("wandb/large") == b"1"


@pytest.mark.slow
@pytest.mark.parametrize("what", ["put", "upload"])
def test_an_unexpected_error_of_either_thread_ends_the_run(
    copy: RunFolder, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(mirror, "FILES_SECONDS", 0.0)
    written = getattr(Store, what)

    def fails(self: Store, *args: object) -> None:
        if any(isinstance(arg, str) and arg.startswith(("journal/", "report")) for arg in args):
            raise PermissionError(13, "not allowed")
        written(self, *args)

    def write_events() -> None:
        with Journal(copy.journal) as journal, mirrored(copy, journal):
            monkeypatch.setattr(Store, what, fails)
            copy.report.write_text("new")
            for number in range(1, 1000):
                journal.append(created(number))
                time.sleep(0.05)

    with pytest.raises(StorageFailed, match=r"cannot be written to .PermissionError.*the run has stopped"):
        write_events()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "reason"),
    [("down", "(it cannot be reached at .*|it has not answered yet)"), ("silent", "it has not answered yet")],
)
def test_an_outage_loses_nothing_and_is_reported_while_it_lasts(
    mode: str,
    reason: str,
    copy: RunFolder,
    s3: Location,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(outage, "SECONDS_BEFORE_REPORT", 0.1)
    # The copy belongs to the address of the server. The proxy has another address, so the copy is made again.
    there = pull(s3 / copy.name, without=())
    store = Store(s3 / copy.name)
    with Journal(there.journal) as journal, mirrored(there, journal):
        proxy.mode = mode
        for number in range(1, 50):
            journal.append(created(number))
        wait_for(lambda: bool(caplog.messages))
        proxy.mode = "up"
        wait_for(lambda: read_from(store) == there.journal.read_bytes())
    begun, over = caplog.messages
    words = f"has accepted nothing for 0.1 s \\({reason}\\); the run continues. Everything is kept on this machine, in "
    assert re.fullmatch(
        f"{there.address}: {words}{there.path}, and is sent when the store accepts objects again", begun
    )
    assert over == f"{there.address}: accepts objects again"


@pytest.mark.slow
def test_a_short_outage_is_not_reported(
    copy: RunFolder,
    s3: Location,
    proxy: Proxy,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outage, "SECONDS_BEFORE_REPORT", PATIENCE)
    there = pull(s3 / copy.name, without=())
    with Journal(there.journal) as journal, mirrored(there, journal):
        proxy.mode = "down"
        journal.append(created(1))
        wait_for(lambda: proxy.refused > 0)
        proxy.mode = "up"
    assert caplog.messages == []


@pytest.mark.slow
def test_at_the_end_the_store_has_all_or_it_is_said(
    copy: RunFolder, s3: Location, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, machine: Machine
) -> None:
    monkeypatch.setattr(mirror, "END_SECONDS", 0.1)
    place = s3 / copy.name
    there = pull(place, without=())

    def write_events() -> None:
        with Journal(there.journal) as journal, mirrored(there, journal):
            proxy.mode = "down"
            journal.append(created(1))

    with pytest.raises(StorageFailed) as caught:
        write_events()
    text = str(caught.value)
    assert text.startswith(f"{place}: does not have the whole run yet (it cannot be reached")
    assert str(there.path) in text
    assert f"tune-jobs resume {place}" in text
    proxy.mode = "up"
    with Journal(there.journal) as journal, mirrored(there, journal):
        pass
    assert read_from(Store(place)) == there.journal.read_bytes()


def test_a_call_is_made_once_the_store_knows_why(copy: RunFolder, s3: Location) -> None:
    store = Store(s3 / copy.name)
    known: list[tuple[int, int]] = []
    with Journal(copy.journal) as journal, mirrored(copy, journal) as after_upload:
        for number in range(1, 6):
            journal.append(created(number))
            size = journal.size
            after_upload(lambda size=size: known.append((size, len(read_from(store)))))
        last = journal.size
    assert known[-1][0] == last
    assert all(has >= wanted for wanted, has in known)


@pytest.mark.slow
def test_a_run_that_another_one_took_over_stops(
    copy: RunFolder, s3: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.0)
    store = Store(s3 / copy.name)
    before = read_from(store)

    def write_events() -> None:
        with Journal(copy.journal) as journal, mirrored(copy, journal):
            journals.append(journal)
            journal.follow(heard.append)
            other = dataclasses.replace(lease.Holder.here(), host="far", held=True, token="~")
            store.put(f"{lease.FOLDER}/~.json", json.dumps(dataclasses.asdict(other)).encode())
            for number in range(1, 1000):
                time.sleep(0.05)
                journal.append(created(number))

    journals: list[Journal] = []
    heard: list[Event] = []
    with pytest.raises(StorageFailed, match="another process has taken over this run") as caught:
        write_events()
    assert journals[0].failure is caught.value, "the journal raises the same error"
    assert heard == read_journal(copy.journal)[-len(heard) :], "also of the event at which it stopped"
    assert read_from(store).startswith(before)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["event", "file", "removed file", "call"])
def test_a_driver_that_slept_and_lost_its_lease_sends_and_removes_nothing(
    copy: RunFolder, s3: Location, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(mirror, "FILES_SECONDS", 3600.0 if what == "call" else 0.0)
    monkeypatch.setattr(mirror, "GROUP_SECONDS", 0.5)
    monkeypatch.setattr(lease_keeper, "SECONDS_BETWEEN_RENEWALS", 3600.0)  # the sender has to ask by itself
    clock, slept = time.clock_gettime, 0.0
    monkeypatch.setattr(time, "clock_gettime", lambda which: clock(which) + slept)
    copy.report.write_text("old")
    store, made = Store(s3 / copy.name), []
    before: dict[str, bytes] = {}

    def write_events() -> None:
        nonlocal slept
        with Journal(copy.journal) as journal, mirrored(copy, journal) as after_upload:
            before.update((one.name, store.get(one.name)) for one in store.objects())
            slept = 100.0
            (own,) = [name for name in before if name.startswith(lease.FOLDER)]
            del before[own]
            store.delete(own)
            if what == "event":
                journal.append(created(1))
            elif what == "file":
                copy.report.write_text("new")
            elif what == "removed file":
                copy.report.unlink()
            else:
                after_upload(lambda: made.append(1))
            time.sleep(1.5)

    with pytest.raises(StorageFailed, match="another process has taken over this run"):
        write_events()
    assert {one.name: store.get(one.name) for one in store.objects()} == before
    assert made == []


def test_a_copy_that_is_behind_may_not_write(copy: RunFolder, s3: Location, machine: Machine) -> None:
    with machine("second"):
        there = pull(s3 / copy.name, without=())
        with Journal(there.journal) as journal, mirrored(there, journal):
            journal.append(created(1))
    append(copy, created(7))
    with (
        Journal(copy.journal) as journal,
        pytest.raises(RunFolderError, match="was continued elsewhere"),
        mirrored(copy, journal),
    ):
        pass
    assert Store(s3 / copy.name).objects(lease.FOLDER) == []
    with Journal(copy.journal) as journal, mirrored(copy, journal, replace=True):
        pass
    assert read_from(Store(s3 / copy.name)) == copy.journal.read_bytes()


def test_checkpoints_of_unknown_trials_are_removed(copy: RunFolder, s3: Location) -> None:
    store = Store(s3 / copy.name)
    for name in ("0000", "0001", "0001.damaged"):
        store.put(f"checkpoints/{name}/epoch-000001.pt", b"1")
    with Journal(copy.journal) as journal, mirrored(copy, journal):
        pass
    assert store.folders("checkpoints") == ["0000", "0001.damaged"]
