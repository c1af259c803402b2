"""The content of W&B's files of a run, read back in their record format and by W&B itself."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.processes import PATIENCE
from tests.tune_jobs.tracking.conftest import CONFIGURATIONS, make_folder, make_job, run_events, trial_records
from tests.tune_jobs.tracking.follow_run import write_events
from tests.tune_jobs.tracking.wandb_reading import ReadRun, read_runs
from tests.tune_jobs.tracking.wandb_server import WandbServer, wandb_server
from tests.tune_jobs.tracking.wandb_session import wandb_environment
from tune_jobs.record.codes import Cause
from tune_jobs.record.events import (
    Event,
    HoldoutEvaluated,
    HoldoutUnsealed,
    in_force,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal, read_journal

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
JOB = make_job(wandb={"project": "curves", "tags": ["digits", "asha"]})
TEST = HoldoutEvaluated(
    number=1, trial_id="0000", results={"test_loss": 0.5, "test_accuracy": 0.75}, reason="to know"
)

TRACK = """
import os
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tests.tune_jobs.tracking.follow_run import read_events, write_report
from tune_jobs import Job
from tune_jobs.record.events import in_force
from tune_jobs.record.journal import Journal
from tune_jobs.tracking import Guest, TrackedRun
from tune_jobs.tracking.wandb_tracker import WandbTracker

job, path, events = Job.from_file(sys.argv[1]), Path(sys.argv[2]), read_events(Path(sys.argv[3]))
with ExitStack() as stack, Journal(path / "journal" / "events.jsonl") as journal:
    past = in_force([*journal.past, *events[:1]]) if journal.past else []
    writers = {"written": partial(write_report, path), "failing": lambda: 1 / 0, "none": None}
    tracker = WandbTracker(TrackedRun(job, path, past, writers[sys.argv[4]]))
    journal.follow(stack.enter_context(Guest(tracker, "W&B")))
    for event in events:
        journal.append(event)
processes = subprocess.run(["ps", "-A", "-o", "ppid=,pid=,comm="], capture_output=True, text=True, check=True)
rows = [row.split(None, 2) for row in processes.stdout.splitlines()]
print(*[pid for parent, pid, command in rows if int(parent) == os.getpid() and "wandb" in command])
"""


@dataclass(frozen=True)
class Tracked:
    """A run that was tracked in a separate process."""

    folder: RunFolder
    runs: dict[str, ReadRun]
    process: "subprocess.CompletedProcess[str]"


def follow(
    root: Path, folder: RunFolder, events: list[Event], *, report: str = "written", url: str = ""
) -> Tracked:
    coming = root / "coming.jsonl"
    write_events(coming, events)
    (root / "job.yaml").write_text(JOB.to_yaml())
    process = subprocess.run(
        [sys.executable, "-c", TRACK, root / "job.yaml", folder.path, coming, report],
        cwd=ROOT,
        env=wandb_environment(root / "home", **({"WANDB_BASE_URL": url} if url else {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return Tracked(folder, read_runs(folder.wandb), process)


@pytest.fixture(scope="module")
def server() -> "WandbServer":  # type: ignore[misc]
    with wandb_server() as server:
        yield server


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory, server: WandbServer) -> Tracked:
    root = tmp_path_factory.mktemp("tracked")
    return follow(root, make_folder(root / "runs"), run_events(), url=server.url)


def test_every_epoch_of_every_trial_is_there_with_the_epoch_as_step(tracked: Tracked) -> None:
    epochs = {part: run.epochs for part, run in tracked.runs.items() if part in CONFIGURATIONS}
    np.testing.assert_equal(epochs, trial_records(run_events()))  # NaN equals NaN here
    assert tracked.runs["0000"].steps_of == {"epoch": "", "*": "epoch", "val_loss": "epoch"}


def test_wandb_reads_the_same(tracked: Tracked, tmp_path: Path) -> None:
    (file,) = tracked.folder.wandb.glob("*-0000/*.wandb")
    process = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", str(file), "--json"],
        env=wandb_environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    records = [json.loads(line) for line in process.stdout.splitlines()]
    epochs = {
        int(record["history"]["step"]["num"]): {
            name: float(value)
            for name, value in record["history"]["item"].items()
            if not name.startswith("_")
        }
        for record in records
        if record["type"] == "history"
    }
    np.testing.assert_equal(epochs, tracked.runs["0000"].epochs)


def test_runs_name_their_job_and_trial(tracked: Tracked) -> None:
    assert tracked.runs.keys() == {*CONFIGURATIONS, "summary"}
    for part, run in tracked.runs.items():
        assert run.project == "curves"
        assert run.group == tracked.folder.name
        assert run.run_id == f"{tracked.folder.name}-{part}"
        assert run.tags == ["digits", "asha", "gp"]
    for number, (trial_id, configuration) in enumerate(CONFIGURATIONS.items()):
        run = tracked.runs[trial_id]
        assert (run.name, run.job_type) == (trial_id, "trial")
        trial, job = run.config.pop("trial"), run.config.pop("job")
        assert run.config == configuration
        assert trial == {"id": trial_id, "number": number}
        assert (job["name"], job["data"], job["model"], job["max_epochs"]) == ("demo", "digits", "mlp", 5)


def test_each_epoch_has_the_time_at_which_it_ended(tmp_path: Path) -> None:
    """This includes epochs that a later driver writes again."""
    folder, events = make_folder(tmp_path / "runs"), run_events()
    ended = max(event.time for event in events if getattr(event, "trial_id", "") == "0000")
    with Journal(folder.journal) as journal:
        for event in events:
            journal.append(event)
    history = follow(tmp_path, folder, []).runs["0000"].history
    assert all(row["_timestamp"] <= ended for row in history.values())
    assert history[5]["_timestamp"] - history[4]["_timestamp"] == pytest.approx(1.25), "epoch 5 took so long"


def test_summaries_have_the_end_and_the_best(tracked: Tracked) -> None:
    summaries = {part: run.summary for part, run in tracked.runs.items() if part in CONFIGURATIONS}
    assert summaries["0000"]["val_loss"] == {"min": 0.4}
    assert summaries["0001"]["val_loss"] == {"min": 0.8}, "its last is no number"
    chosen = {
        trial_id: [summary.get(key) for key in ("status", "reason", "score", "best_epoch")]
        for trial_id, summary in summaries.items()
    }
    assert chosen == {
        "0000": ["completed", "reached max_epochs", 0.4, 3],
        "0001": ["stopped_early", "stopped by the scheduler at epoch 2", 0.8, 1],
        "0002": ["failed", "the loss is not finite", None, None],
        "0003": [None, None, None, None],
    }


def test_a_trial_that_the_scheduler_stopped_is_no_crash(tracked: Tracked) -> None:
    exits = {part: run.exit_code for part, run in tracked.runs.items()}
    assert exits == {"0000": 0, "0001": 0, "0002": 1, "0003": 1, "summary": 0}


def test_the_summary_has_the_winner_the_counts_the_table_and_the_report(tracked: Tracked) -> None:
    run = tracked.runs["summary"]
    assert run.job_type == "summary"
    assert run.summary["winner"] == {
        "id": "0000",
        "score": 0.4,
        "epoch": 3,
        "configuration": CONFIGURATIONS["0000"],
    }
    assert run.summary["trials_by_status"] == {"completed": 1, "stopped_early": 1, "failed": 1, "running": 1}
    assert run.summary["ending"] == "all_trials"
    assert run.config["job"]["metric"] == "val_loss"
    (folder,) = tracked.folder.wandb.glob("*-summary")
    table = json.loads((folder / "files" / run.summary["trials"]["path"]).read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [row["trial_id"] for row in rows] == list(CONFIGURATIONS)
    assert rows[0]["status"] == "completed"
    assert rows[0]["config.lr"] == 0.1
    assert "A report" in (folder / "files" / run.summary["report"]["path"]).read_text()


def test_a_summary_without_its_report_is_written_and_the_reason_is_said(tmp_path: Path) -> None:
    tracked = follow(tmp_path, make_folder(tmp_path / "runs"), run_events(), report="failing")
    assert tracked.runs["summary"].summary["winner"]["id"] == "0000"
    assert "report" not in tracked.runs["summary"].summary
    assert tracked.process.stderr == "W&B: the summary has no report: ZeroDivisionError: division by zero\n"


def test_a_summary_without_its_report_gets_it_from_a_later_driver(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "runs")
    assert "report" not in follow(tmp_path, folder, run_events(), report="none").runs["summary"].summary
    opened: list[Event] = [HoldoutUnsealed(trial_id="0000", reason="to know"), TEST]
    assert "report" in follow(tmp_path, folder, opened).runs["summary"].summary


def test_the_test_is_a_separate_run_that_exists_once_the_holdout_was_opened(
    tmp_path: Path,
) -> None:
    folder = make_folder(tmp_path / "runs")
    assert "test-1" not in follow(tmp_path, folder, run_events()).runs
    runs = follow(tmp_path, folder, [HoldoutUnsealed(trial_id="0000", reason="to know"), TEST]).runs
    assert runs.keys() == {*CONFIGURATIONS, "summary", "test-1"}
    run = runs["test-1"]
    assert (run.job_type, run.exit_code) == ("test", 0)
    assert {name: run.summary[name] for name in ("test_loss", "test_accuracy", "winner", "opening", "reason")} == {
        "test_loss": 0.5, "test_accuracy": 0.75, "winner": "0000", "opening": 1, "reason": "to know",
    }  # fmt: skip
    assert run.summary["validation"] == {"val_loss": 0.4, "epoch": 3}


def test_a_run_that_is_extended_has_the_same_summary_run_with_its_new_outcome(tmp_path: Path) -> None:
    from tests.tune_jobs.tracking.conftest import reported
    from tune_jobs.record.codes import Ending, Status
    from tune_jobs.record.events import (
        RunEnded,
        RunResumed,
        TrialCreated,
        TrialEnded,
        TrialStarted,
        WinnerSelected,
    )

    folder = make_folder(tmp_path / "runs")
    before = follow(tmp_path, folder, run_events()).runs["summary"]
    better: list[Event] = [
        RunResumed(trials=5, versions={}),
        TrialCreated(trial_id="0004", number=4, configuration={"lr": 0.2}),
        TrialStarted(trial_id="0004"),
        reported("0004", 0.1),
        TrialEnded(
            trial_id="0004", status=Status.COMPLETED, cause=Cause.MAX_EPOCHS, reason="reached max_epochs"
        ),
        RunEnded(ending=Ending.ALL_TRIALS),
        WinnerSelected(winner="0004"),
    ]
    runs = follow(tmp_path, folder, better).runs
    assert runs["summary"].run_id == before.run_id
    assert runs["summary"].summary["winner"]["id"] == "0004"
    assert in_force(read_journal(folder.journal))[-1] == better[-1]


def test_offline_is_quiet_and_leaves_neither_processes_nor_requests(
    tracked: Tracked, server: WandbServer
) -> None:
    (pid,) = tracked.process.stdout.split()  # from W&B's own process; nothing else was printed
    assert tracked.process.stderr == ""
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
    assert server.requests == []
