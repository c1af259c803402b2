"""Text for people: numbers, durations, and the tables of a run at the width of a terminal."""

import io
import math
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tune_jobs.cli import tables
from tune_jobs.cli.tables import (
    failures_display,
    outcome_lines,
    plan_lines,
    runs_display,
    trial_display,
    trials_display,
)
from tune_jobs.driver.preparation import prepare
from tune_jobs.holdout.ledger import LEDGER
from tune_jobs.job.file import parse_overrides
from tune_jobs.job.job import Job
from tune_jobs.record.codes import Ending, Status
from tune_jobs.record.events import (
    CheckpointDamaged,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal
from tune_jobs.record.run_record import RunRecord
from tune_jobs.results import Run, open_run

MakeRecord = Callable[..., RunRecord]
MakeRun = Callable[..., RunFolder]


def shown(*parts: Any) -> list[str]:
    """Return the lines on a terminal of 80 columns, without trailing blanks."""
    console = Console(file=io.StringIO(), width=80)
    for part in parts:
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines)
    return [line.rstrip() for line in lines]


TRIALS: list[dict[str, Any]] = [
    {
        "losses": [0.5, 0.25, 0.75],
        "configuration": {"lr": 0.0123456, "model.hidden": [4], "batch_size": "full"},
    },
    {"losses": [0.125], "status": Status.STOPPED_EARLY},
    {"losses": [0.0625, math.nan], "status": Status.FAILED, "reason": "the loss is [bold] nan"},
    {"status": Status.RUNNING, "losses": [0.01]},
    {"status": Status.PENDING},
]


def test_trials_come_best_first_then_those_that_cannot_win(make_record: MakeRecord) -> None:
    assert shown(trials_display(make_record(TRIALS))) == [
        "trial  status         val_loss   epoch  configuration",
        "0001   stopped_early     0.125  1 of 1  lr=0.1",
        "0000   completed          0.25  2 of 3  lr=0.01235 model.hidden=[4]",
        "                                        batch_size=full",
        "0003   running            0.01  1 of 1  lr=0.1",
        "0002   failed           0.0625  1 of 2  lr=0.1",
        "0004   pending                  - of 0  lr=0.1",
    ]


def test_the_best_few_are_shown_on_demand(make_record: MakeRecord) -> None:
    record = make_record(TRIALS)
    assert [line.split()[0] for line in shown(trials_display(record, 2))] == [
        "trial",
        "0001",
        "0000",
        "batch_size=full",
    ]
    assert shown(trials_display(record, 0)) == ["trial  status  val_loss  epoch  configuration"]


def test_failures_are_counted_by_reason_the_commonest_first(make_record: MakeRecord) -> None:
    reasons = ["too hot", "the loss is nan", "too cold", "the loss is nan"]
    record = make_record([*TRIALS[:2], *({"status": Status.FAILED, "reason": reason} for reason in reasons)])
    assert failures_display(record) == [
        "2 failed (such as trial 0003): the loss is nan",
        "1 failed (such as trial 0002): too hot",
        "1 failed (such as trial 0004): too cold",
    ]
    assert failures_display(make_record(TRIALS[:2])) == []


# A run as a whole


def test_a_finished_run_shows_the_winner_and_the_sealed_holdout(make_run: MakeRun) -> None:
    folder = make_run(TRIALS[:3])
    assert outcome_lines(open_run(folder.path)) == [
        "3 trials ended; all trials have ended",
        "winner: trial 0001, val_loss 0.125 at epoch 1: lr=0.1",
        f"holdout: sealed; `tune-jobs test {folder.path}` opens it, once",
    ]


def test_a_run_in_progress_promises_nothing(make_run: MakeRun) -> None:
    folder = make_run(TRIALS, ending=None)
    assert outcome_lines(open_run(folder.path)) == [
        f"3 trials ended; its process was killed; continue with `tune-jobs resume {folder.path}`"
    ]


def test_every_look_at_the_holdout_is_shown_with_its_reason(make_run: MakeRun) -> None:
    folder = make_run(TRIALS[:1])
    (folder.holdout / LEDGER).write_text(
        '{"number": 1, "time": 1.0, "trial_id": "0000", "reason": null}\n'
        '{"number": 2, "time": 2.0, "trial_id": "0000", "reason": "a bug"}\n'
        '{"number": 2, "results": {"test_loss": 0.123456, "test_r2": 0.5}}\n'
    )
    assert outcome_lines(open_run(folder.path))[2:] == [
        "holdout: opened for trial 0000: no result was recorded",
        "holdout: opened for trial 0000 (a bug): test_loss 0.1235, test_r2 0.5",
    ]


def test_a_trial_is_shown_with_its_epochs_and_the_command_that_repeats_it(make_run: MakeRun) -> None:
    configuration = {"lr": 0.012345678901, "model.hidden": [8, 8], "batch_size": "full"}
    folder = make_run(
        [{"losses": [0.5, 0.25], "configuration": configuration, "reason": "all epochs are done"}]
    )
    *parts, again = trial_display(open_run(folder.path), "0000")
    assert shown(*parts) == [
        "trial 0000: completed: all epochs are done",
        "configuration: lr=0.01235 model.hidden=[8, 8] batch_size=full",
        "epoch  train_loss  val_loss   lr  seconds",
        "    1         0.5       0.5  0.1      0.5",
        "    2        0.25      0.25  0.1      0.5",
    ]
    assert isinstance(again, str)
    command = shlex.split(again.removeprefix("again, alone: "))
    assert command[:5] == ["cd", str(open_run(folder.path).job.folder), "&&", "tune-jobs", "train"]
    assert dict(parse_overrides(command[6:])) == configuration


def test_a_trial_shows_damaged_checkpoints(make_run: MakeRun) -> None:
    folder = make_run([{"losses": [0.5]}])
    with Journal(folder.journal) as journal:
        file = "checkpoints/0000/epoch-000003.pt"
        journal.append(CheckpointDamaged(trial_id="0000", file=file, reason="File is not a zip file"))
    assert trial_display(open_run(folder.path), "0000")[2] == (
        "notice: checkpoints/0000/epoch-000003.pt was damaged (File is not a zip file), so the trial continued "
        "from an earlier checkpoint, or from its start; the epochs are the same"
    )


@pytest.mark.parametrize("ending", [Ending.INTERRUPTED, Ending.STORAGE])
def test_a_run_that_was_cut_off_early_says_why_there_is_no_winner(make_run: MakeRun, ending: Ending) -> None:
    folder = make_run([{"losses": [0.5], "status": Status.INTERRUPTED}], ending=ending)
    assert outcome_lines(open_run(folder.path)) == [
        f"0 trials ended, 1 in their middle; {ending.sentence}; continue with `tune-jobs resume {folder.path}`",
        "winner: none, because no trial had ended before the run stopped",
    ]


def test_every_ending_has_a_word_in_the_list(make_run: MakeRun, tmp_path: Path) -> None:
    for ending in Ending:
        make_run(TRIALS[:1], ending=ending)
    assert "damaged" not in "".join(shown(runs_display(tmp_path / "runs")[0]))


def test_the_runs_of_a_folder_are_listed_the_newest_last(make_run: MakeRun, tmp_path: Path) -> None:
    older = make_run(TRIALS[:2])
    newer = make_run([{"losses": [0.5], "status": Status.INTERRUPTED}], ending=Ending.INTERRUPTED)
    running = make_run(TRIALS[3:], ending=None)
    broken = make_run(TRIALS[:1])
    broken.job.unlink()
    (newer.holdout / LEDGER).write_text('{"number": 1, "time": 1.0, "trial_id": "0000", "reason": null}\n')
    (tmp_path / "runs" / "a file").touch()
    (tmp_path / "runs" / "a folder").mkdir()
    for age, folder in enumerate([broken, running, newer, older]):
        os.utime(folder.path, (1e9 - age, 1e9 - age))
    lines = shown(runs_display(tmp_path / "runs")[0])
    assert lines[0].split() == ["run", "ended", "trials", "metric", "best", "holdout"]
    table = [re.split(r"  +", line) for line in lines[1:]]
    assert table == [
        [older.name, "done", "2", "val_loss", "0.125", "sealed"],
        [newer.name, "interrupted", "1", "val_loss", "opened"],
        [running.name, "killed", "2", "val_loss", "sealed"],
        [broken.name, "damaged"],
    ]


def test_a_run_of_a_long_name_leaves_room_for_the_other_columns(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run(TRIALS[:2], changes={"name": "x" * 80})
    lines = shown(runs_display(tmp_path / "runs")[0])
    assert lines[0].split() == ["run", "ended", "trials", "metric", "best", "holdout"]
    assert lines[1].endswith(" 2  val_loss  0.125  sealed")
    assert "".join(line[:36].strip() for line in lines[1:]) == folder.name


# A job before it runs


def test_a_plan_says_what_would_run(make_sections: Callable[..., dict[str, Any]]) -> None:
    job = Job.from_mapping(make_sections({"scheduler": {"grace_epochs": 2}, "search/space/beta1": 0.9}))
    assert plan_lines(job, prepare(job)) == [
        "small: valid",
        "data       linear_gaussian: 60 train, 20 validation, 20 test rows; a row is [2]; 1 target(s)",
        "search     gp, 6 trials, 5 parameters:",
        "             lr: 0.001 to 0.5, log scale",
        "             batch_size: 8, full",
        "             optimizer: sgd, adam",
        "             momentum: 0.0 to 0.9 (when optimizer is sgd)",
        "             beta1: 0.9",
        "training   at most 9 epochs a trial, 54 in all",
        "scheduler  asha: trials are compared after 2, 6 epochs",
        "           of 6 trials at most 2 continue after epoch 2, 0 after epoch 6",
        "selection  min val_loss on validation rows",
        "notice     search.space.beta1 does nothing for sgd; add `when: {optimizer: [adam]}`",
        "notice     no trial can reach 9 epochs: of 6 trials at most 2 continue after epoch 2, 0 after epoch 6; ask "
        "for 9 trials or more, a larger `scheduler.grace_epochs` or a smaller `scheduler.reduction_factor`",
    ]


def test_a_plan_without_rungs_says_so(make_sections: Callable[..., dict[str, Any]]) -> None:
    job = Job.from_mapping(make_sections({"scheduler": {"method": "none"}}))
    assert "scheduler  none: every trial runs its course" in plan_lines(job, prepare(job))


def test_a_run_that_cannot_be_read_for_any_reason_is_listed_beside_the_others(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound, unreadable, deep, other = (make_run([{"losses": [0.5]}]) for _ in range(4))
    deep.selection.write_text("[" * 100_000)
    (deep.holdout / LEDGER).write_text("[" * 100_000)
    other.journal.write_bytes(other.journal.read_bytes().replace(b"val_loss", b"val_lost"))
    monkeypatch.setattr(tables, "open_run", refusing(unreadable.path))
    table, refused = runs_display(tmp_path / "runs")
    rows = {line.split()[0]: line.split()[1] for line in shown(table)[1:]}
    assert rows == {
        sound.name: "done",
        unreadable.name: "damaged",
        deep.name: "damaged",
        other.name: "damaged",
    }
    assert refused == []


def refusing(path: Path) -> Callable[[Path], Run]:
    """Return `open_run` as it is for a user who may not read the journal at `path`; root may read all."""

    def opened(run: Path) -> Run:
        if run == path:
            raise PermissionError(13, "Permission denied", str(run))
        return open_run(run)

    return opened
