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
from tests.tune_jobs.holdout.lines import begin, ledger_lines, unseal
from tune_jobs.errors import DamagedRun, HoldoutOpened, RunFolderError
from tune_jobs.holdout.ledger import LEDGER, LedgerEntry, read_ledger, record_results
from tune_jobs.record.folder import RunFolder
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
        unseal(sealed, "0004")
    assert re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", str(caught.value)) == (
        f"the test rows of {sealed.name} were read before, at TIME UTC for trial 0003 "
        "(test_loss 0.123457, test_r2 0.5); a second look is no longer an honest estimate. "
        "To read them all the same: --again --reason TEXT (in Python again=True, reason=TEXT); it is recorded"
    )
    assert caught.value.exit_code == 3
    assert ledger_lines(sealed) == before


def test_a_second_look_with_a_reason_is_recorded(sealed: RunFolder, rows: Rows) -> None:
    unseal(sealed, "0003")
    opened, number = unseal(sealed, "0004", again=True, reason="the metric was wrong")
    assert number == 2
    assert np.array_equal(opened.x, rows.x)
    record_results(sealed, 2, {"test_loss": 2.0})
    first, second = read_ledger(sealed)
    assert (first.number, first.reason, first.results) == (1, None, None)
    assert (second.number, second.trial_id, second.reason) == (2, "0004", "the metric was wrong")
    assert second.results == {"test_loss": 2.0}


@pytest.mark.parametrize("room", [0, 10])
def test_a_ledger_that_cannot_be_written_to_stays_as_it_was_and_nothing_is_read(
    sealed: RunFolder, room: int
) -> None:
    """Limit the size of files: this ends a write like a full disk."""
    unseal(sealed, "0003")
    before = ledger_lines(sealed)
    path = sealed.holdout / LEDGER
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + room, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            unseal(sealed, "0003", again=True, reason="a test")
        with pytest.raises(RunFolderError, match=r'not recorded: {"test_loss": 0\.25}'):
            record_results(sealed, 1, {"test_loss": 0.25})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ledger_lines(sealed) == before
    assert unseal(sealed, "0003", again=True, reason="a test")[1] == 2


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


def test_the_line_of_the_damage_is_named(sealed: RunFolder) -> None:
    unseal(sealed, "0003")
    record_results(sealed, 1, {"test_loss": 0.5})
    with (sealed.holdout / LEDGER).open("a") as file:
        file.write('{"number": 2, "ti')
    with pytest.raises(DamagedRun, match="line 3 is damaged"):
        read_ledger(sealed)


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
    names = ["a", "b"]
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
