"""The reports of a trial to the driver: every epoch once, the score so far, and the end."""

import math
import pickle
from typing import Any

import numpy as np
import pytest

from tune_jobs.errors import LaterVersion
from tune_jobs.record.codes import Cause
from tune_jobs.trainers.errors import Diverged
from tune_jobs.trainers.interface import StopReason
from tune_jobs.trainers.settings import ScoreSettings
from tune_jobs.worker.reporting import SCORE, TIME, Report, Reporter, failure_reason


def epoch(number: int, loss: float, **metrics: float) -> dict[str, Any]:
    return {"epoch": number, "train_loss": 1.0, "val_loss": loss, **metrics, "lr": 0.1, "seconds": 0.5}


@pytest.fixture
def sent() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def reporter(sent: list[dict[str, Any]]) -> Reporter:
    return Reporter(ScoreSettings(metric="val_loss"), sent.append)


def reports(sent: list[dict[str, Any]]) -> list[Report]:
    found = [Report.of_result(result) for result in sent]
    assert None not in found
    return [report for report in found if report is not None]


def test_every_epoch_travels_once(reporter: Reporter, sent: list[dict[str, Any]]) -> None:
    epochs = [epoch(number, 1 / number) for number in range(1, 6)]
    reporter.add(epochs[:1])
    reporter.send()
    reporter.add(epochs[1:3])
    reporter.add(epochs[3:4])
    reporter.send(rung=True)
    reporter.add(epochs[4:])
    reporter.end(Cause.MAX_EPOCHS)
    assert [list(report.results) for report in reports(sent)] == [epochs[:1], epochs[1:4], epochs[4:]]
    assert [report.epoch for report in reports(sent)] == [1, 4, 5]


def test_the_score_is_the_best_so_far_and_not_the_last(
    reporter: Reporter, sent: list[dict[str, Any]]
) -> None:
    for number, loss in enumerate([0.5, 0.9, math.nan, 0.25, 0.75], start=1):
        reporter.add([epoch(number, loss)])
        reporter.send()
    assert [result[SCORE] for result in sent] == [0.5, 0.5, 0.5, 0.25, 0.25]


def test_an_epoch_without_the_selection_metric_fails_the_trial_with_what_is_measured(
    sent: list[dict[str, Any]],
) -> None:
    reporter = Reporter(ScoreSettings(metric="auc", mode="max"), sent.append)
    with reporter.failures():
        reporter.add([epoch(1, 0.5)])
    (report,) = reports(sent)
    assert report.cause is Cause.TRAINING_FAILED
    assert (report.epoch, report.results) == (0, ()), "the driver could not score the epoch either"
    assert report.reason == (
        "selection.metric: given 'auc', but the training measures lr, train_loss, val_loss; name one of these, or let "
        "the training report 'auc' in every epoch"
    )


@pytest.mark.parametrize("value", [None, "0.5", [0.5], {"a": 1}, 10**30, 1j])
def test_a_metric_that_is_no_number_fails_the_trial(
    reporter: Reporter, sent: list[dict[str, Any]], value: Any
) -> None:
    """The journal could not be read with it."""
    with reporter.failures():
        reporter.add([epoch(1, 0.5)])
        reporter.add([epoch(2, 0.5, auc=value)])
    (report,) = reports(sent)
    assert report.cause is Cause.TRAINING_FAILED
    assert [row["epoch"] for row in report.results] == [1]
    assert report.reason == (
        f"epoch 2: given {value!r} for 'auc'; valid: a number, which is NaN if there is none, and below 2^63 if it is "
        "whole"
    )


def test_numbers_of_other_libraries_become_python_s(reporter: Reporter, sent: list[dict[str, Any]]) -> None:
    reporter.add([epoch(1, np.float32(0.5), auc=np.int64(3), good=np.bool_(True))])  # type: ignore[arg-type]
    reporter.send()
    ((row,),) = [report.results for report in reports(sent)]
    assert [(name, type(row[name])) for name in ("val_loss", "auc", "good")] == [
        ("val_loss", float), ("auc", int), ("good", bool),
    ]  # fmt: skip


def test_the_score_is_turned_so_that_lower_is_better(sent: list[dict[str, Any]]) -> None:
    reporter = Reporter(ScoreSettings(metric="accuracy", mode="max"), sent.append)
    for number, accuracy in enumerate([0.5, 0.75, 0.25], start=1):
        reporter.add([epoch(number, 1.0, accuracy=accuracy)])
        reporter.send()
    assert [result[SCORE] for result in sent] == [-0.5, -0.75, -0.75]


def test_schedulers_see_rungs_alone(reporter: Reporter, sent: list[dict[str, Any]]) -> None:
    reporter.add([epoch(1, 0.5)])
    reporter.send()
    reporter.add([epoch(2, 0.5), epoch(3, 0.5)])
    reporter.send(rung=True)
    assert TIME not in sent[0]
    assert sent[1][TIME] == 3
    assert [result["done"] for result in sent] == [False, False]


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_trial_without_a_finite_score_is_kept_from_schedulers(
    reporter: Reporter, sent: list[dict[str, Any]], loss: float
) -> None:
    reporter.add([epoch(1, loss)])
    reporter.send(rung=True)
    assert sent[0].keys().isdisjoint({SCORE, TIME})
    assert reports(sent)[0].score is None


def test_a_checkpoint_is_named_in_the_next_report_alone(
    reporter: Reporter, sent: list[dict[str, Any]]
) -> None:
    reporter.add([epoch(1, 0.5)])
    reporter.checkpoint = "0001/epoch-000001.pt"
    reporter.send()
    reporter.add([epoch(2, 0.5)])
    reporter.send()
    assert [report.checkpoint for report in reports(sent)] == ["0001/epoch-000001.pt", None]


def test_the_end_is_reported_with_its_reason(reporter: Reporter, sent: list[dict[str, Any]]) -> None:
    reporter.add([epoch(1, 0.5)])
    reporter.end(Cause.PATIENCE)
    (report,) = reports(sent)
    assert (report.cause, report.reason) == (Cause.PATIENCE, StopReason.PATIENCE.sentence)
    assert (report.failed, report.done) == (False, True)
    assert sent[0]["done"] is True


def test_a_failure_is_reported_in_one_line_with_its_traceback_and_the_last_epochs(
    reporter: Reporter, sent: list[dict[str, Any]]
) -> None:
    reporter.add([epoch(1, 0.5), epoch(2, math.nan)])

    def train() -> None:
        raise Diverged("the loss is nan\n at epoch 2")

    try:
        train()
    except Diverged as error:
        reporter.fail(error)
    (report,) = reports(sent)
    assert (report.cause, report.reason) == (Cause.DIVERGED, "the loss is nan at epoch 2")
    assert "Traceback" in report.details
    assert "raise Diverged" in report.details
    assert (report.epoch, len(report.results), report.done, report.failed) == (2, 2, True, True)


def test_a_failure_before_the_first_epoch_is_reported_too(
    reporter: Reporter, sent: list[dict[str, Any]]
) -> None:
    reporter.fail(ValueError("no such layer"))
    (report,) = reports(sent)
    assert (report.epoch, report.results, report.score) == (0, (), None)
    assert (report.cause, report.reason) == (Cause.TRAINING_FAILED, "ValueError: no such layer")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Diverged("the loss is nan"), "the loss is nan"),
        (ValueError("a\n  b\tc"), "ValueError: a b c"),
        (KeyError("x"), "KeyError: 'x'"),
        (RuntimeError(), "RuntimeError"),
        (MemoryError(), "out of memory"),
        (RuntimeError("CUDA out of memory. Tried"), "out of memory: CUDA out of memory. Tried"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            "out of memory: DefaultCPUAllocator: can't allocate memory: you tried",
        ),
    ],
)
def test_a_reason_is_one_line(error: Exception, reason: str) -> None:
    assert failure_reason(error) == reason


def test_a_reason_fits_into_every_file(reporter: Reporter, sent: list[dict[str, Any]]) -> None:
    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert failure_reason(Unspeakable()) == "Unspeakable"
    assert failure_reason(OSError("no file \udcff")) == "OSError: no file \\udcff"
    assert len(failure_reason(ValueError("word " * 10_000))) < 1100
    reporter.fail(ValueError("\udcff" + "word " * 10_000))
    report = Report.of_result(sent[-1])
    assert report is not None
    assert len(report.details) < 21_000
    report.details.encode()


def test_damaged_checkpoints_are_reported_once(reporter: Reporter, sent: list[dict[str, Any]]) -> None:
    reporter.damaged = [("0001/epoch-000002.pt", "File is not a zip file")]
    reporter.send()
    reporter.send()
    assert [list(report.damaged) for report in reports(sent)] == [
        [("0001/epoch-000002.pt", "File is not a zip file")],
        [],
    ]
    assert [report.epoch for report in reports(sent)] == [0, 0]


def test_a_checkpoint_that_cannot_be_written_is_no_failure_and_no_end(
    reporter: Reporter, sent: list[dict[str, Any]]
) -> None:
    reporter.add([epoch(1, 0.5)])
    reporter.give_up("0001/epoch-000001.pt", "No space left on device")
    (report,) = reports(sent)
    assert report.unwritten == ("0001/epoch-000001.pt", "No space left on device")
    assert (report.done, report.rung, len(report.results)) == (False, False, 1)
    assert TIME not in sent[0]


def test_a_trial_of_a_later_version_has_not_failed(reporter: Reporter, sent: list[dict[str, Any]]) -> None:
    with reporter.failures():
        raise LaterVersion("use it")
    (report,) = reports(sent)
    assert (report.refused, report.done, report.failed, report.rung) == ("use it", False, False, False)


def test_a_trial_that_waits_for_its_storage_says_so_and_is_not_compared(
    reporter: Reporter, sent: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter.add([epoch(1, 0.5)])
    reporter.keep_alive()
    assert sent == [], "it has reported just now"
    monkeypatch.setattr("tune_jobs.worker.reporting.SECONDS_BETWEEN_SIGNS", -1.0)
    reporter.keep_alive()
    assert TIME not in sent[0]
    assert not sent[0]["done"]


def test_a_result_without_a_report_has_none() -> None:
    assert Report.of_result(None) is None
    assert Report.of_result({}) is None
    assert Report.of_result({"training_iteration": 1}) is None


def test_a_report_travels_between_processes(reporter: Reporter, sent: list[dict[str, Any]]) -> None:
    reporter.add([epoch(1, 0.5)])
    reporter.send(rung=True)
    assert pickle.loads(pickle.dumps(sent)) == sent
