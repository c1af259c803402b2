"""The journal reaches the store before the calls that wait for it are made."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tune_jobs.remote.copies import created
from tune_jobs.errors import RunFolderError, StorageFailed
from tune_jobs.location import Location
from tune_jobs.record.journal import Journal
from tune_jobs.remote.journal_uploader import JournalUploader
from tune_jobs.remote.outage import Outage
from tune_jobs.remote.segments import read_from
from tune_jobs.remote.store import Store, StoreError


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "events.jsonl") as journal:
        journal.append(created(1))
        yield journal


@pytest.fixture
def store(s3: Location) -> Store:
    return Store(s3 / "run")


def uploader(
    journal: Journal, store: Store, ensure_lease: Callable[[], None] = lambda: None
) -> JournalUploader:
    assert isinstance(store.place, Location)
    made = JournalUploader(journal, store, Outage(store.place, journal.path), ensure_lease)
    made.begin(replace=False)
    return made


def test_a_call_waits_until_the_store_has_all_events(journal: Journal, store: Store) -> None:
    sending = uploader(journal, store)
    known: list[bool] = []
    sending.after_upload(lambda: known.append(read_from(store) == journal.path.read_bytes()))
    assert known == []
    sending.send()
    sending.send()
    assert known == [True]


def test_a_call_waits_for_the_end_of_an_outage_unless_a_newer_one_replaces_it(
    journal: Journal, store: Store
) -> None:
    away = True

    def ensure() -> None:
        if away:
            raise StoreError("it is closed", str(store.place))

    sending = uploader(journal, store, ensure)
    made: list[int] = []
    for number in (1, 2):
        sending.after_upload(lambda number=number: made.append(number))
        with pytest.raises(StoreError):
            sending.send()
    away = False
    sending.send()
    assert made == [2]


def test_a_call_that_is_asked_for_while_another_one_is_taken_is_made(journal: Journal, store: Store) -> None:
    made: list[int] = []
    asking: list[threading.Thread] = []

    class Interrupted(JournalUploader):
        """An uploader that receives a second call while it takes the first one."""

        @property
        def _after(self) -> Callable[[], None] | None:
            waiting: Callable[[], None] | None = vars(self)["waiting"]
            if waiting is not None and not asking:
                asking.append(threading.Thread(target=self.after_upload, args=(lambda: made.append(2),)))
                asking[0].start()
                asking[0].join(0.5)
            return waiting

        @_after.setter
        def _after(self, call: Callable[[], None] | None) -> None:
            vars(self)["waiting"] = call

    assert isinstance(store.place, Location)
    sending = Interrupted(journal, store, Outage(store.place, journal.path), lambda: None)
    sending.begin(replace=False)
    sending.after_upload(lambda: made.append(1))
    sending.send()
    asking[0].join()
    sending.send()
    assert made == [1, 2]


def test_a_journal_that_was_continued_elsewhere_is_replaced_on_request_alone(
    journal: Journal, store: Store, tmp_path: Path
) -> None:
    uploader(journal, store).send()
    with Journal(tmp_path / "another.jsonl") as other:
        other.append(created(7))
        assert isinstance(store.place, Location)
        sending = JournalUploader(other, store, Outage(store.place, tmp_path), lambda: None)
        with pytest.raises(RunFolderError, match="was continued elsewhere"):
            sending.begin(replace=False)
        assert read_from(store) == journal.path.read_bytes()
        sending.begin(replace=True)
        assert read_from(store) == other.path.read_bytes()


def test_lines_of_another_file_never_reach_the_store(journal: Journal, store: Store) -> None:
    sending = uploader(journal, store)
    sending.send()
    sent = read_from(store)
    journal.append(created(2))
    journal.path.with_name("new").write_bytes(b"x" * 10_000)
    journal.path.with_name("new").replace(journal.path)
    with pytest.raises(StorageFailed, match="was replaced by another file"):
        sending.send()
    assert read_from(store) == sent
