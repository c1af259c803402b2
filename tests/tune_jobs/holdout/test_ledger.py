"""The ledger of the holdout: every opening is on record before the rows are read, and a second one is refused."""

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.processes import PATIENCE, start
from tests.tune_jobs.holdout.lines import begin, ledger_lines, openings, record_results, unseal
from tune_jobs.errors import DamagedRun, HoldoutOpened, StorageFailed
from tune_jobs.holdout.ledger import LEDGER, LedgerEntry, read_ledger
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import read_journal
from tune_jobs.trainers.data import Rows


def test_the_ledger_holds_user_time_and_result_of_every_opening(sealed: RunFolder) -> None:
    unseal(sealed, "0003")
    (entry,) = read_ledger(sealed)
    assert (entry.number, entry.trial_id, entry.reason, entry.results) == (1, "0003", None, None)
    assert entry.time > 1.7e9
    record_results(sealed, 1, {"test_loss": 0.25, "test_accuracy": float("nan")})
    assert repr(read_ledger(sealed)) == repr(
        [
            LedgerEntry(
                number=1,
                time=entry.time,
                trial_id="0003",
                reason=None,
                results={"test_loss": 0.25, "test_accuracy": float("nan")},
            )
        ]
    )


def test_a_second_opening_is_refused_with_the_result_of_the_first(sealed: RunFolder) -> None:
    unseal(sealed, "0003")
    record_results(sealed, 1, {"test_loss": 0.123456789, "test_r2": 0.5})
    before = ledger_lines(sealed)
    with pytest.raises(HoldoutOpened) as caught:
        unseal(sealed, "0002")
    assert re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", str(caught.value)) == (
        f"the test rows of {sealed.name} were read before, at TIME UTC for trial 0003 "
        "(test_loss 0.123457, test_r2 0.5); a second look is no longer an honest estimate. "
        "To read them all the same: --again --reason TEXT (in Python again=True, reason=TEXT); it is recorded"
    )
    assert caught.value.exit_code == 3
    assert ledger_lines(sealed) == before


def test_a_second_look_with_a_reason_is_recorded(sealed: RunFolder, rows: Rows) -> None:
    unseal(sealed, "0003")
    opened, number = unseal(sealed, "0002", again=True, reason="the metric was wrong")
    assert number == 2
    assert np.array_equal(opened.x, rows.x)
    record_results(sealed, 2, {"test_loss": 2.0})
    first, second = read_ledger(sealed)
    assert (first.number, first.reason, first.results) == (1, None, None)
    assert (second.number, second.trial_id, second.reason) == (2, "0002", "the metric was wrong")
    assert second.results == {"test_loss": 2.0}


@pytest.mark.parametrize("room", [0, 10])
def test_without_room_in_the_journal_nothing_is_read_and_all_stays_as_it_was(
    sealed: RunFolder, room: int
) -> None:
    """Limit the size of files: this ends a write like a full disk."""
    unseal(sealed, "0003")
    before = ledger_lines(sealed), sealed.journal.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (sealed.journal.stat().st_size + room, hard))
    try:
        with pytest.raises(StorageFailed, match="File too large"):
            unseal(sealed, "0003", again=True, reason="a test")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (ledger_lines(sealed), sealed.journal.read_bytes()) == before
    assert unseal(sealed, "0003", again=True, reason="a test")[1] == 2


@pytest.fixture
def opened(sealed: RunFolder) -> RunFolder:
    """Return a run whose holdout was opened twice, with the results of both."""
    unseal(sealed, "0003")
    record_results(sealed, 1, {"test_loss": 0.25, "test_accuracy": float("nan")})
    unseal(sealed, "0003", again=True, reason="a reviewer asked")
    record_results(sealed, 2, {"test_loss": 0.5})
    return sealed


def test_the_journal_knows_all_openings_whatever_the_ledger_lost(opened: RunFolder) -> None:
    path = opened.holdout / LEDGER
    content, expected = path.read_bytes(), openings(opened)
    assert [entry.reason for entry in expected] == [None, "a reviewer asked"]
    for length in [*range(len(content)), None]:
        path.unlink(missing_ok=True)
        if length is not None:
            path.write_bytes(content[:length])
        assert repr(openings(opened)) == repr(expected)
    with pytest.raises(HoldoutOpened, match="a second look is no longer an honest estimate"):
        unseal(opened, "0003")
    assert unseal(opened, "0003", again=True, reason="once more")[1] == 3
    assert path.read_bytes().startswith(content), "the ledger is made again"


@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [
        ('"test_loss": 0.5', '"test_loss": 0.4', 'results: {"test_loss": 0.4} in the ledger'),
        ('"trial_id": "0003"', '"trial_id": "0004"', 'trial_id: "0004" in the ledger, "0003" in the journal'),
        ("a reviewer asked", "nobody asked", "reason: "),
        ('"time": 1', '"time": 2', "time: 2"),
    ],
)
def test_a_changed_entry_is_noticed_and_repaired(
    opened: RunFolder, old: str, new: str, difference: str
) -> None:
    path = opened.holdout / LEDGER
    content = path.read_text()
    path.write_text(content.replace(old, new, 1))
    for read in (lambda: openings(opened), lambda: unseal(opened, "0003", again=True, reason="a test")):
        with pytest.raises(DamagedRun) as caught:
            read()
        assert "contradicts the journal, which counts (" in str(caught.value)
        assert difference in str(caught.value)
        assert str(caught.value).endswith(
            f"; `tune-jobs repair {opened.path}` makes the ledger again from the journal"
        )


@pytest.mark.parametrize("number", [0, 3, 7, 1.5, True])
def test_a_changed_number_of_an_entry_is_noticed(opened: RunFolder, number: object) -> None:
    path = opened.holdout / LEDGER
    path.write_text(path.read_text().replace('"number": 2', f'"number": {json.dumps(number)}'))
    with pytest.raises(DamagedRun):
        openings(opened)


def test_a_lost_line_at_the_start_is_noticed(opened: RunFolder) -> None:
    path = opened.holdout / LEDGER
    path.write_text("".join(path.read_text().splitlines(keepends=True)[2:]))
    with pytest.raises(
        DamagedRun, match="line 1 is damaged; the holdout counts as opened; `tune-jobs repair"
    ):
        openings(opened)


def test_an_opening_that_the_ledger_alone_holds_counts(sealed: RunFolder) -> None:
    (sealed.holdout / LEDGER).write_text(
        '{"number": 1, "time": 5.0, "trial_id": "0003", "reason": null}\n{"number": 1, "results": {"test_loss": 2.0}}\n'
    )
    assert openings(sealed) == [
        LedgerEntry(number=1, time=5.0, trial_id="0003", reason=None, results={"test_loss": 2.0})
    ]
    with pytest.raises(HoldoutOpened):
        unseal(sealed, "0003")
    assert unseal(sealed, "0003", again=True, reason="a test")[1] == 2
    kinds = [event.type for event in read_journal(sealed.journal)[5:]]
    assert kinds == ["holdout_unsealed", "holdout_evaluated", "holdout_unsealed"]


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"3",
        b"{}",
        b'{"number": 1}',
        b'{"number": 1, "time": 1.0, "trial_id": "3"',
        b'{"number": [1], "results": {}}',
        b'{"number": "1", "time": 1.0, "trial_id": "3", "reason": null, "results": {}}',
        b'{"number": 1, "time": 1e300, "trial_id": "3", "reason": null}',
        b'{"number": 1, "time": 1.0, "trial_id": "../3", "reason": null}',
        b'{"number": 1, "time": 1.0, "trial_id": "3", "reason": 7}',
        b'{"number": 1, "time": 1.0, "trial_id": "3", "reason": null, "results": {"test_loss": "low"}}',
        b"[" * 100_000,
        b"\xff\xfe",
        b"",
    ],
)
def test_a_damaged_ledger_counts_as_opened(sealed: RunFolder, line: bytes) -> None:
    path = sealed.holdout / LEDGER
    path.write_bytes(line + b"\n")
    for read in (
        lambda: read_ledger(sealed),
        lambda: unseal(sealed, "0003"),
        lambda: unseal(sealed, "0003", again=True, reason="why not"),
    ):
        with pytest.raises(DamagedRun) as caught:
            read()
        assert str(caught.value) == f"{path}: line 1 is damaged; the holdout counts as opened"
    assert path.read_bytes() == line + b"\n"


CLAIM = """
import pathlib, sys, time
import numpy, tune_jobs.trainers.data
from tune_jobs.errors import HoldoutOpened, RunInUse
from tune_jobs.record.folder import RunFolder
from tests.tune_jobs.holdout.lines import unseal

folders = [RunFolder(pathlib.Path(path)) for path in sys.argv[3:]]
(pathlib.Path(sys.argv[1]) / sys.argv[2]).touch()
while not (pathlib.Path(sys.argv[1]) / "go").exists():
    time.sleep(0.001)
for folder in folders:
    try:
        unseal(folder, sys.argv[2])
        print("won")
    except (HoldoutOpened, RunInUse):
        print("lost")
"""


@pytest.mark.slow
def test_of_several_processes_at_once_exactly_one_opens_the_holdout(tmp_path: Path, rows: Rows) -> None:
    folders = [RunFolder.create(tmp_path / "runs", f"run{number}") for number in range(10)]
    for folder in folders:
        begin(folder, rows)
    names = ["0001", "0002"]
    arguments = [str(folder.path) for folder in folders]
    processes = [
        start(
            [sys.executable, "-c", CLAIM, str(tmp_path), name, *arguments], stdout=subprocess.PIPE, text=True
        )
        for name in names
    ]
    while not all((tmp_path / name).exists() for name in names):
        assert all(process.poll() is None for process in processes)
    (tmp_path / "go").touch()
    told = [process.communicate(timeout=PATIENCE)[0].split() for process in processes]
    for number, folder in enumerate(folders):
        assert sorted(outcomes[number] for outcomes in told) == ["lost", "won"]
        (entry,) = read_ledger(folder)
        assert told[names.index(entry.trial_id)][number] == "won"
        assert [json.loads(line)["number"] for line in ledger_lines(folder)] == [1]
