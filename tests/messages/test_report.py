"""The sentences of the report page, of recorded runs."""

import html
import json
import re
from pathlib import Path

import pytest

from tests.messages import runs
from tests.messages.conftest import Say
from tests.messages.jobs import JOB
from tests.messages.product import LEDGER, Ending, RunFolder, change_job
from tests.messages.snapshots import check

_DROPPED = re.compile(r"<(script|style|svg)\b.*?</\1>", re.DOTALL)
_BLOCK = re.compile(r"</?(p|div|section|h\d|tr|li|table|figcaption|header|footer|pre|dt|dd|summary)\b[^>]*>")
_FIGURE = re.compile(r'<script type="application/json"[^>]*>(.*?)</script>', re.DOTALL)


def words(page: str) -> str:
    """What is read on the page, a line for each block."""
    text = re.sub(r"<[^>]+>", " ", _BLOCK.sub("\n", _DROPPED.sub(" ", page)))
    lines = (" ".join(line.split()) for line in html.unescape(text).splitlines())
    return "\n".join(line for line in lines if line)


@pytest.mark.slow
def test_pages(place: Path, say: Say) -> None:
    job = runs.job_in(place)
    made = {
        "finished": runs.finished(job),
        "interrupted": runs.interrupted(job, Ending.INTERRUPTED),
        "killed": runs.whole(job),
        "without success": runs.without_success(job),
        "without a trial": [runs.started(job)],
    }
    said = {}
    for name, events in made.items():
        folder = RunFolder(runs.record(place, name.replace(" ", "-"), events))
        say(f"repair {folder.path}")
        say(f"report {folder.path}")
        said[name] = words(folder.report.read_text("utf-8"))
    changed = RunFolder(place / "runs" / "killed")
    change_job(changed, changed.job.read_text().replace("trials: 6", "trials: 8"), {"search.trials": 8})
    say(f"report {changed.path}")
    said["killed, with more trials"] = words(changed.report.read_text("utf-8"))
    opened = RunFolder(place / "runs" / "finished")
    entry = {"number": 1, "time": runs.BEGUN, "trial_id": "0000", "reason": "for a table"}
    (opened.holdout / LEDGER).write_text(json.dumps({**entry, "results": {"test_loss": 0.125}}) + "\n")
    say(f"report {opened.path}")
    said["opened"] = words(opened.report.read_text("utf-8"))
    check("report", said, {place: "FOLDER"})


@pytest.mark.parametrize("method", ["asha_stopping", "median", "none"])
def test_pages_of_other_schedulers_and_searches(place: Path, say: Say, method: str) -> None:
    search = {"asha_stopping": "tpe", "median": "random", "none": "random"}[method]
    text = (
        JOB.replace("  trials: 6", f"  method: {search}\n  trials: 6") + f"scheduler: {{method: {method}}}\n"
    )
    job = runs.job_in(place, text)
    folder = RunFolder(runs.record(place, "run", runs.without_waiting(runs.finished(job)), text))
    say(f"repair {folder.path}")
    say(f"report {folder.path}")
    check(f"report_{method}", {method: words(folder.report.read_text("utf-8"))}, {place: "FOLDER"})
