"""Damage to the holdout of a run: its openings stay known, and no other rows are taken for those that were sealed."""

import random
from pathlib import Path

import numpy as np
import pytest

from tests.faults.injection import CHAOS, Tally
from tests.tune_jobs.holdout.lines import begin, openings, record_results, unseal
from tune_jobs.errors import DamagedRun, HoldoutOpened, LaterVersion
from tune_jobs.holdout.ledger import LEDGER
from tune_jobs.holdout.rows import rows_path
from tune_jobs.record.folder import RunFolder
from tune_jobs.trainers.data import Rows

FAULTS = 200 if CHAOS else 20


@pytest.fixture
def sealed(tmp_path: Path) -> RunFolder:
    rows = Rows(np.arange(60, dtype=np.float32).reshape(20, 3), np.arange(20))
    return begin(RunFolder.create(tmp_path / "runs", "small"), rows)


def flip(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def test_damage_to_the_ledger_never_seals_the_holdout_again(sealed: RunFolder) -> None:
    tally, chance = Tally("ledger of the holdout deleted, cut or with a flipped bit"), random.Random(8)
    for number in (1, 2):
        unseal(sealed, "0003", again=number > 1, reason="a reviewer asked" if number > 1 else None)
        record_results(sealed, number, {"test_loss": 0.5 / number})
    path, expected = sealed.holdout / LEDGER, openings(sealed)
    content = path.read_bytes()
    for number in range(FAULTS):
        cut = number % 2 == 0
        path.write_bytes(content[: chance.randrange(len(content))] if cut else flip(content, chance))
        if number == 0:
            path.unlink()
        tally.injected += 1
        try:
            found = openings(sealed)
        except (DamagedRun, LaterVersion):  # a flipped bit may give a key another name
            assert not cut
            tally.outcomes["noticed"] += 1
        else:
            assert found == expected
            tally.outcomes["the openings of the journal"] += 1
        with pytest.raises((HoldoutOpened, DamagedRun, LaterVersion)):
            unseal(sealed, "0003")
    tally.report()


def test_no_damage_to_the_sealed_rows_costs_the_opening(sealed: RunFolder) -> None:
    tally, chance = Tally("sealed test rows cut or with a flipped bit, then opened"), random.Random(9)
    path = rows_path(sealed)
    content = path.read_bytes()
    path.chmod(0o600)
    for number in range(FAULTS):
        path.write_bytes(flip(content, chance) if number % 2 else content[: chance.randrange(len(content))])
        tally.injected += 1
        with pytest.raises(DamagedRun, match="the holdout was not opened"):
            unseal(sealed, "0003")
        assert openings(sealed) == []
        tally.outcomes["noticed before the opening"] += 1
    tally.report()
