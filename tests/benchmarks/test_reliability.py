from pathlib import Path

import pytest

from benchmarks.reliability import journal_table, repeat, seconds_to_first_epoch, time_appends
from benchmarks.runs import FinishedRun
from tune_jobs.record.events import EpochsReported, Event, RunResumed, TrialStarted
from tune_jobs.record.journal import read_journal


def epochs(time: float, *seconds: float) -> EpochsReported:
    return EpochsReported(
        time=time, trial_id="0000", results=[{"seconds": each} for each in seconds], worker="here:1"
    )


EVENTS: list[Event] = [epochs(5.0, 1.0), RunResumed(time=20.0, trials=1, versions={}), epochs(29.0, 1.0, 2.0)]


def test_the_time_to_the_first_new_epoch_ends_with_its_beginning() -> None:
    assert seconds_to_first_epoch(EVENTS, 18.0) == 29 - 3 - 18
    assert seconds_to_first_epoch(EVENTS, 0.0) == 4
    with pytest.raises(ValueError, match="No epoch was reported after 30"):
        seconds_to_first_epoch(EVENTS, 30.0)


def test_each_append_is_timed_and_written(tmp_path: Path) -> None:
    seconds = time_appends(repeat([EVENTS[1]], 7), tmp_path / "events.jsonl")
    assert len(seconds) == len(read_journal(tmp_path / "events.jsonl")) == 7
    assert all(each > 0 for each in seconds)


def test_the_table_shows_the_share_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.reliability.LENGTHS", (100,))
    monkeypatch.setattr("benchmarks.reliability.TIMED_RECORDS", 100)
    run = FinishedRun(started=0.0, ended=1e9, events=[TrialStarted(trial_id="0000")] * 5)
    table = journal_table(run, tmp_path)
    assert "| 100 | " in table
    assert "The 5 records of a run of 64 trials take" in table
    assert "of its 1000000000.0 s: 0.00 %" in table
