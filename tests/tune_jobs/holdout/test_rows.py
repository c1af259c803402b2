"""The sealed test rows: every opening is recorded, whatever happens, and a second one is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tune_jobs.holdout.lines import begin, ledger_lines, unseal
from tune_jobs.errors import DamagedRun, RunFolderError
from tune_jobs.holdout.ledger import read_ledger
from tune_jobs.holdout.rows import ROWS, check_sealed, rows_path
from tune_jobs.holdout.rows import seal as write_rows
from tune_jobs.record.events import RunStarted
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal, read_journal
from tune_jobs.trainers.data import Rows


def test_sealed_rows_come_back_as_they_were(sealed: RunFolder, rows: Rows) -> None:
    assert read_ledger(sealed) == []
    opened, number = unseal(sealed, "0003")
    assert number == 1
    for mine, original in ((opened.x, rows.x), (opened.y, rows.y)):
        assert mine.dtype == original.dtype
        assert np.array_equal(mine, original)


def test_sealed_rows_are_for_their_owner_alone_to_read(sealed: RunFolder) -> None:
    assert (sealed.holdout / ROWS).stat().st_mode & 0o777 == 0o400
    assert sealed.holdout.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in sealed.holdout.iterdir()] == [ROWS]


@pytest.mark.parametrize("reason", [None, "", "  \n"])
def test_a_second_look_without_a_reason_costs_nothing(sealed: RunFolder, reason: str | None) -> None:
    with pytest.raises(RunFolderError) as caught:
        unseal(sealed, "0003", again=True, reason=reason)
    assert str(caught.value) == (
        "--again needs --reason TEXT: why the test rows are read once more; the reason is recorded"
    )
    assert ledger_lines(sealed) == []


def test_a_run_without_sealed_rows_says_so(folder: RunFolder) -> None:
    with pytest.raises(RunFolderError) as caught:
        unseal(folder, "0003")
    assert str(caught.value) == (
        f"{folder.path}: the run has no sealed test rows ({ROWS} is missing in holdout/)"
    )
    assert ledger_lines(folder) == []


def replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def other_rows(rows: Rows) -> Rows:
    return Rows(rows.x + 1, rows.y)


def of_another_run(sealed: RunFolder, rows: Rows) -> RunFolder:
    other = RunFolder.create(sealed.path.parent, "other")
    begin(other, other_rows(rows))
    return other


def cut(sealed: RunFolder, rows: Rows) -> None:
    path = rows_path(sealed)
    replace(path, path.read_bytes()[:100])


def swap(sealed: RunFolder, rows: Rows) -> None:
    replace(rows_path(sealed), rows_path(of_another_run(sealed, rows)).read_bytes())


def link(sealed: RunFolder, rows: Rows) -> None:
    rows_path(sealed).unlink()
    rows_path(sealed).symlink_to(rows_path(of_another_run(sealed, rows)))


def write_fewer(sealed: RunFolder, rows: Rows) -> None:
    rows_path(sealed).unlink()
    write_rows(sealed, Rows(rows.x[:4], rows.y[:4]))


def empty(sealed: RunFolder, rows: Rows) -> None:
    replace(rows_path(sealed), b"")


@pytest.mark.parametrize("spoil", [empty, cut, swap, link, write_fewer])
def test_other_rows_than_those_that_were_sealed_cost_no_opening(
    sealed: RunFolder, rows: Rows, spoil: Callable[[RunFolder, Rows], None]
) -> None:
    whole = rows_path(sealed).read_bytes()
    spoil(sealed, rows)
    with pytest.raises(DamagedRun) as caught:
        unseal(sealed, "0003")
    assert str(caught.value).startswith(
        f"{rows_path(sealed)}: these are not the test rows that were sealed ("
    )
    assert str(caught.value).endswith("the holdout was not opened. Restore the file from a copy of this run")
    assert read_ledger(sealed) == []
    replace(rows_path(sealed), whole)
    assert np.array_equal(unseal(sealed, "0003")[0].x, rows.x)


def test_a_journal_without_the_fingerprint_of_the_rows_is_damaged(folder: RunFolder, rows: Rows) -> None:
    write_rows(folder, rows)
    with Journal(folder.journal) as journal:
        journal.append(
            RunStarted(name="small", job_folder="", trials=1, rows={}, fingerprints={}, versions={})
        )
    with pytest.raises(DamagedRun, match=r"the journal of the run has no SHA-256 of its test rows"):
        unseal(folder, "0003")
    assert read_ledger(folder) == []


def test_a_copy_of_the_run_elsewhere_has_the_same_rows(sealed: RunFolder, rows: Rows, tmp_path: Path) -> None:
    copy = RunFolder(Path(shutil.copytree(sealed.path, tmp_path / "copy")))
    assert np.array_equal(unseal(copy, "0003")[0].x, rows.x)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_one_changed_bit_of_the_rows_is_noticed(
    sealed: RunFolder, rows: Rows, place: float, bit: int, cut: bool
) -> None:
    path = sealed.holdout / ROWS
    started = read_journal(sealed.journal)[0]
    assert isinstance(started, RunStarted)
    whole = path.read_bytes()
    content = bytearray(whole)
    position = int(place * len(content))
    content[position] ^= 1 << bit
    path.chmod(0o600)
    path.write_bytes(content[:position] if cut else content)
    try:
        with pytest.raises(DamagedRun):
            unseal(sealed, "0003", again=True, reason="a test")
        with pytest.raises(DamagedRun):
            check_sealed(sealed, rows, started)
    finally:
        path.write_bytes(whole)


def test_a_resumed_run_has_the_rows_that_were_sealed(sealed: RunFolder, rows: Rows) -> None:
    started = read_journal(sealed.journal)[0]
    assert isinstance(started, RunStarted)
    check_sealed(sealed, rows, started)
    with pytest.raises(DamagedRun, match="the sealed rows are not the test rows of the run"):
        check_sealed(sealed, other_rows(rows), started)
