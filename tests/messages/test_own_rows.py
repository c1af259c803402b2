"""What is said of a run whose trainings read their own data, and of a training that ends without a reason."""

import shutil
from pathlib import Path

import pytest

from tests.messages import runs
from tests.messages.conftest import Say
from tests.messages.snapshots import check
from tests.messages.test_report import words
from tests.messages.trained import trained_run
from tests.trainers import own_rows
from tune_jobs import open_run
from tune_jobs.errors import TuneJobsError
from tune_jobs.record.folder import RunFolder
from tune_jobs.trainers import kinds
from tune_jobs.worker.trial import check_ended

JOB = """
name: line
storage: runs
own_rows: {epochs: 2}
search:
  space: {rate: {low: 0.001, high: 0.5, log: true}}
  trials: 1
scheduler: {method: none}
selection: {metric: error}
"""


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "ENTRIES", dict(kinds.ENTRIES))
    own_rows.register_own_rows()


class Unfinished:
    epoch = 3
    stop_reason = None


def test_trainings_that_read_their_own_data(place: Path, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    made = trained_run(runs.job_in(place, JOB), {"rate": 0.05})
    folder = RunFolder(Path(shutil.move(made.path, place / "runs" / "trained")))
    said = {
        "validate": say("validate job.yaml"),
        "repair": say("repair runs/trained"),
        "show": say("show runs/trained"),
        "list": say("list runs"),
        "test": say("test runs/trained"),
        "report": say("report runs/trained"),
    }
    page = words(folder.report.read_text("utf-8"))
    said["report"] += "\n" + "\n".join(line for line in page.splitlines() if "trainings" in line)
    with pytest.raises(TuneJobsError) as raised:
        _ = open_run(folder.path).info
    said["the encoding of rows"] = str(raised.value)
    with pytest.raises(RuntimeError) as unfinished:
        check_ended(Unfinished())
    said["a training that ends without a reason"] = str(unfinished.value)
    kinds.ENTRIES.pop("own_rows")
    monkeypatch.delattr(own_rows, "OwnRows")
    said["show, without the class of the kind"] = say("show runs/trained")
    said["list, without the class of the kind"] = say("list runs")
    check("own_rows", said, {place: "FOLDER"}, numbers=False)
