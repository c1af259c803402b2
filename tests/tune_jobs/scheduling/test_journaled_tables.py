"""Decisions are written to the journal and applied to the tables, with any other listeners."""

from collections.abc import Iterator

import pytest

from tune_jobs.record.events import (
    EpochsReported,
    Event,
    TrialCreated,
    TrialPaused,
    TrialPromoted,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal, read_journal
from tune_jobs.record.live import LiveRun
from tune_jobs.scheduling.journaled_tables import JournaledTables
from tune_jobs.scheduling.rungs import Promotion, RungTables
from tune_jobs.trainers.settings import ScoreSettings

LOSS = ScoreSettings(metric="val_loss")


def created(number: int) -> TrialCreated:
    return TrialCreated(trial_id=f"{number:04d}", number=number, configuration={})


def reported(number: int, loss: float) -> EpochsReported:
    result = {"epoch": 1, "train_loss": 1.0, "val_loss": loss, "seconds": 0.5}
    return EpochsReported(trial_id=f"{number:04d}", results=[result], worker="node:1")


def tables_on(folder: RunFolder, journal: Journal, past: tuple[Event, ...] = ()) -> JournaledTables:
    return JournaledTables(LiveRun.on(folder, journal, LOSS, past), RungTables((1, 3), 2, LOSS))


@pytest.fixture
def journal(folder: RunFolder) -> Iterator[Journal]:
    with Journal(folder.journal) as journal:
        yield journal


def test_each_decision_is_written_and_applied(folder: RunFolder, journal: Journal) -> None:
    rungs = tables_on(folder, journal)
    for number, loss in enumerate((0.5, 0.4)):
        rungs.create(created(number))
        assert not rungs.tables.has_ended(f"{number:04d}")
        journal.append(reported(number, loss))
        rungs.pause(f"{number:04d}", 1)
    assert rungs.tables.waiting == {"0000": 1, "0001": 1}
    promotion = rungs.tables.next_promotion()
    assert promotion == Promotion("0001", 1)
    rungs.promote(promotion)
    assert (rungs.tables.waiting, rungs.tables.open) == ({"0000": 1}, {"0001"})
    kinds = [type(event) for event in read_journal(folder.journal)]
    assert kinds == [TrialCreated, EpochsReported, TrialPaused] * 2 + [TrialPromoted]


def test_the_past_is_known(folder: RunFolder, journal: Journal) -> None:
    past = (created(0), reported(0, 0.5), TrialPaused(trial_id="0000", epoch=1))
    assert tables_on(folder, journal, past).tables.waiting == {"0000": 1}
    assert read_journal(folder.journal) == []
