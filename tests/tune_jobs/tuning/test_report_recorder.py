"""Reports on their way into the journal: each once, and no epoch twice."""

from collections.abc import Iterator
from typing import Any

import pytest

from tune_jobs.errors import LaterVersion, StorageFailed
from tune_jobs.record.events import CheckpointDamaged, CheckpointWritten, EpochsReported, Event, TrialCreated
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal
from tune_jobs.record.live import LiveRun
from tune_jobs.trainers.settings import ScoreSettings
from tune_jobs.tuning.report_recorder import ReportRecorder
from tune_jobs.worker.reporting import Report


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def log(events: list[Event], folder: RunFolder) -> Iterator[ReportRecorder]:
    with Journal(folder.journal) as journal:
        run = LiveRun.on(folder, journal, ScoreSettings(metric="val_loss"))
        run.append(TrialCreated(trial_id="0000", number=0, configuration={}))
        run.follow(events.append)
        yield ReportRecorder(run)


def epochs(first: int, last: int) -> tuple[dict[str, Any], ...]:
    return tuple({"epoch": epoch, "val_loss": 1 / epoch, "seconds": 0.5} for epoch in range(first, last + 1))


def result_of(report: Report) -> dict[str, Any]:
    return {**report.to_result(), "hostname": "node", "pid": 7}


def test_a_report_is_written_once_from_either_side(log: ReportRecorder, events: list[Event]) -> None:
    report = Report(epoch=2, results=epochs(1, 2), score=0.5, rung=True, checkpoint="0000/epoch-000002.pt")
    result = result_of(report)
    assert log.write("0000", result) is report
    assert log.write("0000", dict(result)) is report
    assert [type(event) for event in events] == [EpochsReported, CheckpointWritten]
    assert events[0] == EpochsReported(
        time=events[0].time, trial_id="0000", results=list(report.results), worker="node:7"
    )
    assert events[1] == CheckpointWritten(
        time=events[1].time, trial_id="0000", epoch=2, file="checkpoints/0000/epoch-000002.pt"
    )


def test_epochs_that_are_reported_again_are_left_out(log: ReportRecorder, events: list[Event]) -> None:
    log.write("0000", result_of(Report(epoch=2, results=epochs(1, 2), score=0.5)))
    log.write("0000", result_of(Report(epoch=2, results=epochs(1, 2), score=0.5, rung=True)))
    assert len(events) == 1
    log.write("0000", result_of(Report(epoch=3, results=epochs(1, 3), score=0.5)))
    assert isinstance(events[1], EpochsReported)
    assert [result["epoch"] for result in events[1].results] == [3]


def test_an_epoch_that_came_out_differently_is_written_again(
    log: ReportRecorder, events: list[Event]
) -> None:
    log.write("0000", result_of(Report(epoch=2, results=epochs(1, 2), score=0.5)))
    other = {"epoch": 2, "val_loss": 9.0, "seconds": 0.5}
    log.write("0000", result_of(Report(epoch=2, results=(epochs(1, 1)[0], other), score=0.5)))
    assert isinstance(events[1], EpochsReported)
    assert list(events[1].results) == [other]


def test_a_result_without_a_report_is_nothing(log: ReportRecorder, events: list[Event]) -> None:
    assert log.write("0000", {"done": True}) is None
    assert events == []


def test_damage_is_written_before_the_epochs_that_follow_from_it(
    log: ReportRecorder, events: list[Event]
) -> None:
    damaged = [("0000/epoch-000006.pt", "torn"), ("0000/epoch-000002.pt", "torn too")]
    log.write("0000", result_of(Report(epoch=1, results=epochs(1, 1), score=1.0, damaged=damaged)))
    assert [type(event) for event in events] == [CheckpointDamaged, CheckpointDamaged, EpochsReported]
    assert events[0] == CheckpointDamaged(
        time=events[0].time, trial_id="0000", file="checkpoints/0000/epoch-000006.pt", reason="torn"
    )


def test_a_checkpoint_of_a_later_version_stops_the_run_and_the_error_names_it(
    log: ReportRecorder, events: list[Event], folder: RunFolder
) -> None:
    with pytest.raises(LaterVersion, match=f"^{folder.path}: use it$") as caught:
        log.write("0000", result_of(Report(epoch=0, results=(), score=None, refused="use it")))
    assert log.failure is caught.value
    assert events == []


def test_a_checkpoint_that_could_not_be_written_stops_the_run_after_its_epochs_are_written(
    log: ReportRecorder, events: list[Event], folder: RunFolder
) -> None:
    unwritten = ("0000/epoch-000002.pt", "No space left on device; 0.0 MB free")
    report = Report(epoch=2, results=epochs(1, 2), score=0.5, unwritten=unwritten)
    with pytest.raises(StorageFailed) as caught:
        log.write("0000", result_of(report))
    assert [type(event) for event in events] == [EpochsReported]
    assert log.failure is caught.value
    assert caught.value.path == folder.path
    assert str(caught.value).startswith(
        f"{folder.checkpoints}/0000/epoch-000002.pt: cannot be written to (No space left on device; 0.0 MB free, on "
    )
