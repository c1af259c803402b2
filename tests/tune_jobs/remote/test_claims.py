"""Only one machine can open the test rows: a second claim fails, and each claim is recorded before rows are read."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.tune_jobs.remote.object_stores import Proxy
from tune_jobs.location import Location
from tune_jobs.remote.claims import FOLDER, LEDGER, ClaimedElsewhere, claim, update_ledger
from tune_jobs.remote.store import Store, StoreError


def entry(number: int, **more: Any) -> dict[str, Any]:
    return {"number": number, "time": 1.0, "trial_id": "0000", "reason": None, **more}


def test_a_claim_is_there_and_a_second_one_fails(s3: Location) -> None:
    store = Store(s3)
    claim(store, entry(1))
    (kept,) = store.objects(FOLDER)
    assert json.loads(store.get(kept.name)) == entry(1)
    with pytest.raises(ClaimedElsewhere):
        claim(store, entry(1))
    assert store.objects(FOLDER) == [kept]
    claim(store, entry(2))


def test_of_many_at_once_at_most_one_gets_the_claim(s3: Location) -> None:
    store = Store(s3)
    claimed, failed = [], []

    def try_to_claim(number: int) -> None:
        try:
            claim(store, entry(1, reason=str(number)))
        except ClaimedElsewhere:
            failed.append(number)
        else:
            claimed.append(number)

    threads = [threading.Thread(target=try_to_claim, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) <= 1
    assert len(claimed) + len(failed) == 5
    assert len(store.objects(FOLDER)) == len(claimed)


@pytest.mark.slow
def test_a_store_that_cannot_be_asked_grants_nothing(proxy: Proxy, s3: Location) -> None:
    proxy.mode = "down"
    with pytest.raises(StoreError):
        claim(Store(s3), entry(1))


def names(store: Store) -> list[str]:
    return [one.name for one in store.objects()]


def test_a_claim_whose_process_died_is_in_every_ledger(s3: Location, tmp_path: Path) -> None:
    """The process was killed between claim and ledger: the rows may have been read."""
    store = Store(s3)
    (tmp_path / "holdout").mkdir()
    claim(store, entry(1))
    update_ledger(tmp_path, store, names(store))
    update_ledger(tmp_path, store, names(store))
    assert [json.loads(line) for line in (tmp_path / LEDGER).read_text().splitlines()] == [entry(1)]


def test_the_longer_ledger_stays(s3: Location, tmp_path: Path) -> None:
    store = Store(s3)
    (tmp_path / "holdout").mkdir()
    claim(store, entry(1))
    lines = [json.dumps(entry(1)), json.dumps({"number": 1, "results": {"test_loss": 1.0}})]
    store.put(LEDGER, f"{lines[0]}\n".encode())
    (tmp_path / LEDGER).write_text("\n".join(lines) + "\n")
    update_ledger(tmp_path, store, names(store))
    assert (tmp_path / LEDGER).read_text().splitlines() == lines
    store.put(LEDGER, ("\n".join(lines) + "\n").encode())
    (tmp_path / LEDGER).write_text(f"{lines[0]}\n")
    update_ledger(tmp_path, store, names(store))
    assert (tmp_path / LEDGER).read_text().splitlines() == lines
