"""The cause of a trial's end, from its last report."""

import pytest

from tune_jobs.record.codes import Cause
from tune_jobs.tuning.callback import trial_ending
from tune_jobs.worker.reporting import Report


@pytest.mark.parametrize(
    ("report", "cause", "reason"),
    [
        (None, Cause.NO_REPORT, Cause.NO_REPORT.sentence),
        (
            Report(epoch=2, results=(), score=0.5, cause=Cause.DIVERGED, reason="no number"),
            Cause.DIVERGED,
            "no number",
        ),
        (
            Report(epoch=9, results=(), score=None, cause=Cause.MAX_EPOCHS, reason="all"),
            Cause.NO_FINITE_SCORE,
            Cause.NO_FINITE_SCORE.sentence,
        ),
        (
            Report(epoch=3, results=(), score=0.5),
            Cause.STOPPED_BY_SCHEDULER,
            Cause.STOPPED_BY_SCHEDULER.sentence.format(epoch=3),
        ),
        (
            Report(epoch=9, results=(), score=0.5, cause=Cause.MAX_EPOCHS, reason="all"),
            Cause.MAX_EPOCHS,
            "all",
        ),
    ],
    ids=["no report", "a failure", "no finite score", "not over", "over"],
)
def test_the_last_report_decides_the_cause(report: Report | None, cause: Cause, reason: str) -> None:
    assert trial_ending(report)[:2] == (cause, reason)


def test_a_failure_keeps_its_details() -> None:
    report = Report(
        epoch=0, results=(), score=None, cause=Cause.TRAINING_FAILED, reason="raised", details="Traceback"
    )
    assert trial_ending(report) == (Cause.TRAINING_FAILED, "raised", "Traceback")
