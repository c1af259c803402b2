"""A run folder on the command line: `show`, `list`, `test`, and their messages about a damaged one."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.tune_jobs.cli.conftest import Call
from tests.tune_jobs.in_process_training import train_trial_without_ray
from tune_jobs.driver.conclusion import conclude
from tune_jobs.driver.preparation import make_folder, prepare, run_started, trial_task
from tune_jobs.holdout.ledger import read_ledger
from tune_jobs.job.job import Job
from tune_jobs.record.codes import Cause, Ending, Status
from tune_jobs.record.events import (
    CheckpointWritten,
    EpochsReported,
    TrialCreated,
    TrialEnded,
    TrialStarted,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal, read_journal
from tune_jobs.record.live import LiveRun
from tune_jobs.record.run_record import RunRecord
from tune_jobs.worker.trial import Assignment

MakeRun = Callable[..., RunFolder]


TRIALS: list[Mapping[str, Any]] = [
    {"losses": [0.5, 0.25], "configuration": {"lr": 0.5, "model.hidden": [4]}},
    {"losses": [0.125], "status": Status.STOPPED_EARLY},
    {"status": Status.FAILED, "reason": "the loss is [bold] :bug: nan"},
]


def test_show_prints_trials_failures_winner_and_the_folder_at_the_end(call: Call, make_run: MakeRun) -> None:
    folder = make_run(TRIALS)
    code, output, errors = call("show", folder.path)
    assert (code, errors) == (0, "")
    assert output == [
        "trial  status         val_loss   epoch  configuration",
        "0001   stopped_early     0.125  1 of 1  lr=0.1",
        "0000   completed          0.25  2 of 2  lr=0.5 model.hidden=[4]",
        "0002   failed                   - of 0  lr=0.1",
        "1 failed (such as trial 0002): the loss is [bold] :bug: nan",
        "3 trials ended; all trials have ended",
        "winner: trial 0001, val_loss 0.125 at epoch 1: lr=0.1",
        f"holdout: sealed; `tune-jobs test {folder.path}` opens it, once",
        f"report: tune-jobs report {folder.path}",
        f"run: {folder.path}",
    ]


def test_show_hides_all_but_the_best_on_demand(call: Call, make_run: MakeRun) -> None:
    folder = make_run(TRIALS)
    code, output, _ = call("show", folder.path, "--most", 1)
    assert code == 0
    assert output[1:3] == [
        "0001   stopped_early     0.125  1 of 1  lr=0.1",
        f"and 2 more: tune-jobs show {folder.path} --most 3",
    ]


def test_show_prints_a_run_in_progress(call: Call, make_run: MakeRun) -> None:
    folder = make_run([*TRIALS, {"status": Status.RUNNING}], ending=None)
    code, output, _ = call("show", folder.path)
    assert code == 0
    assert output[-2:] == [
        f"3 trials ended; its process was killed; continue with `tune-jobs resume {folder.path}`",
        f"run: {folder.path}",
    ]


def test_show_prints_one_trial(call: Call, make_run: MakeRun) -> None:
    folder = make_run(TRIALS)
    code, output, _ = call("show", folder.path, "--trial", "0000")
    assert code == 0
    assert output[0] == "trial 0000: completed: its course is run"
    assert output[-1].startswith("again, alone: cd ")
    assert " && tune-jobs train " in output[-1]
    code, output, errors = call("show", folder.path, "--trial", "9999")
    assert (code, output) == (2, [])
    assert errors == f"tune-jobs: {folder.path}: no trial '9999'; `tune-jobs show RUN` lists them\n"


def test_a_folder_that_is_no_run_ends_with_2(call: Call, tmp_path: Path) -> None:
    for command in ("show", "test"):
        assert call(command, "gone") == (
            2,
            [],
            "tune-jobs: gone: no such folder; `tune-jobs list` shows the runs of a folder\n",
        )
        assert call(command, ".") == (
            2,
            [],
            "tune-jobs: .: not a run folder (it has no journal); `tune-jobs list .` shows the runs in it\n",
        )


def damage_journal(folder: RunFolder) -> str:
    lines = folder.journal.read_bytes().splitlines(keepends=True)
    folder.journal.write_bytes(b"".join([lines[0], b"0" + lines[1], *lines[2:]]))
    return f"{folder.journal}: line 2 of {len(lines)} is damaged"


def cut_journal(folder: RunFolder) -> str:
    folder.journal.write_bytes(b"")
    return f"{folder.journal}: does not begin with the start of a run"


def remove_job(folder: RunFolder) -> str:
    folder.job.unlink()
    return f"{folder.job}: no such file"


def break_job(folder: RunFolder) -> str:
    folder.job.write_text("name: [")
    return f"{folder.job}: not valid YAML"


def break_selection(folder: RunFolder) -> str:
    folder.selection.write_text("{")
    return f"{folder.selection}: cannot be read"


@pytest.mark.parametrize("damage", [damage_journal, cut_journal, remove_job, break_job, break_selection])
def test_a_damaged_run_ends_with_1_and_names_the_file(
    call: Call, make_run: MakeRun, damage: Callable[[RunFolder], str]
) -> None:
    folder = make_run(TRIALS)
    said = damage(folder)
    code, _, errors = call("show", folder.path)
    assert code == 1
    assert errors.startswith(f"tune-jobs: {said}")


def test_list_shows_runs_and_their_state(call: Call, make_run: MakeRun) -> None:
    make_run(TRIALS)
    code, output, _ = call("list")
    assert code == 0
    assert output[0].split() == ["run", "ended", "trials", "metric", "best", "holdout"]
    assert output[1].split()[-4:] == ["3", "val_loss", "0.125", "sealed"]


def test_list_of_nothing_says_so(call: Call, tmp_path: Path) -> None:
    assert call("list", ".") == (0, ["no runs in ."], "")
    assert call("list") == (
        2,
        [],
        "tune-jobs: runs: no such folder; runs are kept in the folder that `storage:` of a job names\n",
    )


@pytest.fixture
def trained_run(make_sections: Callable[..., dict[str, Any]], tmp_path: Path) -> RunFolder:
    """Return a run of two real trainings with sealed test rows, made by parts of the driver without Ray."""
    changes = {
        "training/max_epochs": 2,
        "search/space": {"lr": {"low": 1e-3, "high": 0.5}},
        "storage": str(tmp_path / "runs"),
    }
    job = Job.from_mapping(make_sections(changes), tmp_path)
    prepared = prepare(job)
    folder = make_folder(job, prepared)
    record, started = RunRecord(job.selection), run_started(job, prepared, folder)
    task = trial_task(job, folder, run_id=started.run_id)
    with Journal(folder.journal, record.apply) as journal:
        journal.append(started)
        for number, lr in enumerate([0.01, 0.1]):
            trial_id = f"{number:04d}"
            journal.append(TrialCreated(trial_id=trial_id, number=number, configuration={"lr": lr}))
            journal.append(TrialStarted(trial_id=trial_id))
            results, file = train_trial_without_ray(
                task, folder.checkpoints, Assignment(trial_id, {"lr": lr}), prepared.for_trials()
            )
            journal.append(EpochsReported(trial_id=trial_id, results=results, worker="here:1"))
            journal.append(CheckpointWritten(trial_id=trial_id, epoch=2, file=f"checkpoints/{file}"))
            journal.append(
                TrialEnded(
                    trial_id=trial_id,
                    status=Status.COMPLETED,
                    cause=Cause.MAX_EPOCHS,
                    reason="all epochs are done",
                )
            )
        conclude(LiveRun(folder, journal, record), Ending.ALL_TRIALS)
    return folder


def test_the_holdout_is_opened_once_then_only_with_a_reason(call: Call, trained_run: RunFolder) -> None:
    code, output, errors = call("test", trained_run.path)
    assert (code, errors) == (0, "")
    winner = json.loads(trained_run.selection.read_text())["winner"]
    assert output[:2] == [
        f"winner: trial {winner['trial_id']}, epoch {winner['epoch']}",
        f"val_loss: {winner['score']:.6g} (validation, which chose the winner)",
    ]
    assert [line.partition(":")[0] for line in output[2:]] == ["test_loss", "test_mae"]

    code, second, errors = call("test", trained_run.path)
    assert (code, second) == (3, [])
    assert errors.startswith(f"tune-jobs: the test rows of {trained_run.name} were read before, at ")
    code, _, errors = call("test", trained_run.path, "--again")
    assert code == 2
    assert "--again needs --reason TEXT" in errors
    code, again, _ = call("test", trained_run.path, "--again", "--reason", "a second look")
    assert (code, again) == (0, output)

    kinds = [event.type for event in read_journal(trained_run.journal)]
    assert kinds.count("holdout_unsealed") == 2
    _, shown, _ = call("show", trained_run.path)
    looks = [line for line in shown if line.startswith("holdout: ")]
    assert len(looks) == 2
    assert looks[0].startswith("holdout: opened for trial ")
    assert "(a second look)" in looks[1]


def test_an_unreadable_checkpoint_does_not_open_the_holdout(call: Call, trained_run: RunFolder) -> None:
    winner = json.loads(trained_run.selection.read_text())["winner"]
    (trained_run.path / winner["checkpoint"]).write_bytes(b"gone")
    code, _, errors = call("test", trained_run.path)
    assert code == 1
    assert "is damaged or no checkpoint" in errors
    assert read_ledger(trained_run) == []


def test_a_run_that_has_not_ended_has_no_winner_to_test(call: Call, make_run: MakeRun) -> None:
    folder = make_run(TRIALS, ending=None)
    code, _, errors = call("test", folder.path)
    assert code == 2
    assert errors == f"tune-jobs: {folder.path}: the run has not ended, so nothing is selected yet\n"
    folder = make_run(TRIALS[2:])
    code, _, errors = call("test", folder.path)
    assert code == 2
    assert errors == f"tune-jobs: {folder.path}: there is no winner, because no trial succeeded\n"
