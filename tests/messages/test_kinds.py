"""What is said if a kind of training lacks what is asked of it, or is unknown."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.messages.product import Job, RunFolder, RunStarted, run_errors, with_job_file
from tests.messages.snapshots import check
from tests.trainers.own_rows import OwnRows, register_own_rows
from tune_jobs.driver.preparation import prepare
from tune_jobs.job.file import parse_yaml
from tune_jobs.record.reading import job_of
from tune_jobs.trainers import kinds
from tune_jobs.trainers.scores import better
from tune_jobs.trainers.settings import ScoreSettings

JOB = """
name: line
own_rows: {epochs: 2}
search: {space: {rate: {low: 0.001, high: 0.5}}}
selection: {metric: error}
"""


def complaint(call: Callable[[], object]) -> str:
    with pytest.raises(run_errors.ExpectedError) as caught:
        call()
    return str(caught.value)


def test_kinds_that_do_not_fit(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "ENTRIES", dict(kinds.ENTRIES))
    folder = RunFolder.create(place / "runs", "line")
    folder.job.write_text(JOB)

    def read(kind_class: str) -> Job:
        started = RunStarted(
            name="line",
            job_folder=str(place),
            trials=10,
            rows={},
            fingerprints={},
            versions={},
            kind="own_rows",
            kind_class=kind_class,
        )
        return job_of(folder, with_job_file(folder, [started]))

    said = {
        "a run of a kind without a module": complaint(lambda: read("line_of_no_job:OwnRows")),
        "a run of a kind under another name": complaint(lambda: read("tests.trainers.slope:Slope")),
    }
    register_own_rows()
    job = Job.from_mapping(parse_yaml(JOB))
    monkeypatch.setattr(OwnRows, "capabilities", replace(OwnRows.capabilities, seals_test=True))
    said["rows that do not come"] = complaint(lambda: prepare(job))
    monkeypatch.setattr(OwnRows, "capabilities", replace(OwnRows.capabilities, resumes=False))
    said["a scheduler that pauses"] = complaint(lambda: Job.from_mapping(parse_yaml(JOB)))
    score = ScoreSettings(metric="auc", mode="max")
    said["a metric that is not measured"] = complaint(lambda: better(None, {"epoch": 1, "error": 0.5}, score))
    check("kinds", said, {place: "FOLDER"})
