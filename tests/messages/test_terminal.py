"""The terminal: help, wrong calls, and what the commands say of runs that were recorded."""

import json
from pathlib import Path

import pytest

from tests.messages import runs
from tests.messages.conftest import Say
from tests.messages.jobs import JOB
from tests.messages.product import LEDGER, Ending, Journal, RunFolder, with_job_file
from tests.messages.snapshots import check

COMMANDS = (
    "run", "resume", "watch", "validate", "train", "show", "list", "test", "report", "dashboard", "repair",
    "import-sweep", "submit", "status", "logs", "stop", "fetch",
)  # fmt: skip

WRONG_CALLS = (
    "",
    "rnu job.yaml",
    "run",
    "show",
    "show runs --most few",
    "show runs --trail 3",
    "show runs --search.trials 3",
    "dashboard runs --port 70000",
    "test runs --reason",
    "submit job.yaml --adress http://127.0.0.1:1",
    "show nowhere",
    "show small-20260101T000000Z-abcd",
    "show job.yaml",
    "show .",
    "show s3://UP/x",
    "list nowhere",
    "list s3://UP/x",
    "run job.yaml --address http://127.0.0.1:1",
    "run missing.yaml",
    "train job.yaml --lr 7 --momentum 2 --zzz 3",
    "train job.yaml --lr 0.1 --model.hiden 3",
)


def test_help(say: Say) -> None:
    said = {"all commands": say("--help"), "version": say("--version")}
    for command in COMMANDS:
        said[command] = say(f"{command} --help")
    assert all(f"\n    {command}" in said["all commands"] for command in COMMANDS)
    listed = [line.split()[0] for line in said["all commands"].splitlines() if line.startswith("    ")]
    assert {word for word in listed if word[0].islower()} >= set(COMMANDS)
    check("help", said, {})


def test_wrong_calls(place: Path, say: Say) -> None:
    runs.job_in(place)
    (place / "empty").mkdir()
    said = {f"tune-jobs {line}".strip(): say(line) for line in (*WRONG_CALLS, "list empty")}
    check("wrong_calls", said, {place: "FOLDER"})


def test_a_finished_run(place: Path, say: Say) -> None:
    runs.record(place, "done", runs.finished(runs.job_in(place)))
    said = {
        name: say(line)
        for name, line in {
            "before it was concluded": "show runs/done",
            "repaired": "repair runs/done",
            "its trials": "show runs/done",
            "the best of them": "show runs/done --most 2",
            "one trial": "show runs/done --trial 0",
            "one that failed": "show runs/done --trial 3",
            "one that it has not": "show runs/done --trial 77",
            "watched": "watch runs/done",
            "listed": "list",
            "tested without its rows": "test runs/done",
            "tested again, without why": "test runs/done --again",
            "reported into a folder": "report runs/done --output runs",
            "reported where no folder is": "report runs/done --output job.yaml/report.html",
        }.items()
    }
    check("finished_run", said, {place: "FOLDER"})


@pytest.mark.slow
def test_every_ending(place: Path, say: Say) -> None:
    job = runs.job_in(place)
    said = {}
    for ending in Ending:
        make = runs.interrupted if ending.cut_off else runs.finished
        runs.record(place, ending.name.lower(), make(job, ending))
        runs.record(place, f"{ending.name.lower()}-at-once", runs.without_success(job, ending))
        for name in (ending.name.lower(), f"{ending.name.lower()}-at-once"):
            say(f"repair runs/{name}")
            said[name.replace("_", " ")] = say(f"show runs/{name}")
            said[name.replace("_", " ") + ", watched"] = say(f"watch runs/{name}")
    runs.record(place, "failed-alike", runs.failed_alike(job))
    say("repair runs/failed-alike")
    said["failed alike, watched"] = say("watch runs/failed-alike")
    runs.in_order(place)
    said["listed"] = say("list")
    check("endings", said, {place: "FOLDER"})


@pytest.mark.slow
def test_runs_that_were_killed_or_damaged(place: Path, say: Say) -> None:
    job = runs.job_in(place)
    said = {}
    killed = RunFolder(runs.record(place, "killed", runs.whole(job)))
    said["killed"] = say("show runs/killed")
    said["killed, repaired"] = say("repair runs/killed")
    said["killed, listed"] = say("list")
    said["killed, tested"] = say("test runs/killed")
    with killed.journal.open("ab") as file:
        file.write(b"half a li")
    said["with half a line"] = say("repair runs/killed")
    lines = killed.journal.read_bytes().splitlines(keepends=True)
    killed.journal.write_bytes(b"".join([*lines[:5], lines[5].replace(b"0", b"1"), *lines[6:]]))
    for name, line in {
        "a damaged line": "show runs/killed",
        "a damaged line, repaired": "repair runs/killed",
        "a damaged line, listed": "list",
        "a damaged line, cut": "repair runs/killed --cut",
        "after the cut": "repair runs/killed --cut",
    }.items():
        said[name] = say(line)
    killed.journal.write_bytes(b"no line\n" + b"".join(lines))
    said["a damaged first line, cut"] = say("repair runs/killed --cut")
    killed.journal.write_bytes(b"")
    said["an empty journal"] = say("show runs/killed")
    changed = runs.record(place, "changed", runs.finished(job))
    said["made"] = say("repair runs/changed")
    (changed / "selection.json").write_text("{}")
    said["a selection of something else"] = say("show runs/changed")
    (changed / "selection.json").write_text("words")
    said["a selection that cannot be read"] = say("show runs/changed")
    (changed / "selection.json").unlink()
    said["no selection"] = say("show runs/changed")
    (changed / "job.yaml").write_text(JOB.replace("max_epochs: 9", "max_epochs: 0"))
    said["a job that is wrong"] = say("show runs/changed")
    with Journal(killed.journal) as journal:
        journal.append(runs.timed(with_job_file(killed, [runs.started(job)]))[0])
        said["a run in progress"] = say("show runs/killed")
        runs.in_order(place)
        said["a run in progress, listed"] = say("list")
        said["a run in progress, repaired"] = say("repair runs/killed")
    check("damaged_runs", said, {place: "FOLDER"})


def test_openings_of_the_holdout(place: Path, say: Say) -> None:
    folder = RunFolder(runs.record(place, "opened", runs.finished(runs.job_in(place))))
    entry = {"number": 1, "time": runs.BEGUN, "trial_id": "0000", "reason": None}
    ledger = folder.holdout / LEDGER
    ledger.write_text(json.dumps(entry) + "\n")
    said = {"without a result": say("repair runs/opened"), "shown": say("show runs/opened")}
    with ledger.open("a") as file:
        file.write(json.dumps({"number": 1, "results": {"test_loss": 0.125, "test_mae": 0.25}}) + "\n")
        file.write(json.dumps({**entry, "number": 2, "reason": "a table for the paper"}) + "\n")
    said["with a result, and opened once more"] = say("repair runs/opened")
    said["both shown"] = say("show runs/opened")
    said["listed"] = say("list")
    with ledger.open("a") as file:
        file.write("half a li")
    said["a damaged ledger"] = say("show runs/opened")
    said["a damaged ledger, repaired"] = say("repair runs/opened")
    ledger.write_text(ledger.read_text().replace("0.125", "0.12"))
    said["a changed number"] = say("show runs/opened")
    said["a changed number, listed"] = say("list")
    said["a changed number, in a report"] = say("report runs/opened")
    ledger.unlink()
    said["no ledger"] = say("show runs/opened")
    check("openings", said, {place: "FOLDER"})
