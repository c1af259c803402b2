"""The sealed test rows: every opening is recorded, whatever happens, and a second one is refused."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tune_jobs.holdout.lines import ledger_lines
from tune_jobs.errors import DamagedRun, HoldoutOpened, RunFolderError
from tune_jobs.holdout.ledger import read_ledger
from tune_jobs.holdout.rows import ROWS, check_sealed, unseal
from tune_jobs.record.folder import RunFolder
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


@pytest.mark.parametrize("content", [b"", b"not a zip file", None])
def test_the_look_is_claimed_before_the_rows_are_read(sealed: RunFolder, content: bytes | None) -> None:
    path = sealed.holdout / ROWS
    whole = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(DamagedRun) as caught:
        unseal(sealed, "0003")
    assert str(caught.value).startswith(f"{path}: the test rows cannot be read (")
    assert str(caught.value).endswith("Entry 1 of the ledger stays: look again with --again --reason TEXT")
    assert [entry.trial_id for entry in read_ledger(sealed)] == ["0003"]
    with pytest.raises(HoldoutOpened):
        unseal(sealed, "0003")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_damaged_rows_are_noticed_or_come_back_as_they_were(
    sealed: RunFolder, rows: Rows, place: float, bit: int, cut: bool
) -> None:
    path = sealed.holdout / ROWS
    whole = path.read_bytes()
    content = bytearray(whole)
    position = int(place * len(content))
    content[position] ^= 1 << bit
    path.chmod(0o600)
    path.write_bytes(content[:position] if cut else content)
    try:
        opened, _ = unseal(sealed, "0003", again=True, reason="a test")
        assert np.array_equal(opened.x, rows.x)
        assert np.array_equal(opened.y, rows.y)
        check_sealed(sealed, rows)
    except DamagedRun:
        pass
    finally:
        path.write_bytes(whole)


def test_fewer_rows_than_were_sealed_are_noticed(sealed: RunFolder) -> None:
    """One bit in the header of an array, which then ends earlier."""
    path = sealed.holdout / ROWS
    content = path.read_bytes()
    assert content.count(b"'shape': (5, 3)") == 1
    path.chmod(0o600)
    path.write_bytes(content.replace(b"'shape': (5, 3)", b"'shape': (4, 3)"))
    with pytest.raises(DamagedRun, match=r"Bad CRC|does not match its checksum"):
        unseal(sealed, "0003")
