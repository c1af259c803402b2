"""Repair: deleted or damaged files are made again from the journal, and a damaged journal loses little."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.processes import PATIENCE
from tests.tune_jobs.job_files import change_job, with_job_file
from tests.tune_jobs.tracking.conftest import interrupted, run_events, trial_records
from tests.tune_jobs.tracking.test_tensorboard import scalars_of, trial_folders
from tests.tune_jobs.tracking.wandb_reading import read_runs
from tests.tune_jobs.tracking.wandb_session import wandb_environment
from tune_jobs import Job, open_run
from tune_jobs.cli.main import main
from tune_jobs.driver.conclusion import conclude
from tune_jobs.driver.repair import STAGING, continued_text, repair
from tune_jobs.errors import DamagedRun, RunInUse
from tune_jobs.holdout.ledger import LEDGER
from tune_jobs.record.codes import Ending
from tune_jobs.record.events import (
    HoldoutEvaluated,
    HoldoutUnsealed,
    RunEnded,
    TrialCreated,
    in_force,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal, read_journal
from tune_jobs.record.live import LiveRun
from tune_jobs.record.run_record import RunRecord
from tune_jobs.tracking.base import TrackedRun
from tune_jobs.tracking.opening import open_trackers
from tune_jobs.tracking.optuna_study import StudyMirror, study_storage

SPACE = {
    "lr": {"low": 1e-4, "high": 10.0, "log": True},
    "optimizer": {"values": ["sgd", "adam"]},
    "nesterov": {"values": [True, False], "when": {"optimizer": "sgd"}},
    "model.activation": {"values": [None, "relu"], "when": {"model.hidden": [[]]}},
    "model.hidden": {"values": [[64, 32], [], [8]]},
}
RUNGS = (2,)


def job_of(tracking: Mapping[str, Any]) -> Job:
    return Job.from_mapping(
        {
            "name": "demo",
            "data": {"source": "digits"},
            "model": {"name": "user_code:make"},
            "training": {"max_epochs": 5, "loss": "cross_entropy", "metrics": ["accuracy"]},
            "search": {"space": SPACE, "method": "random"},
            "scheduler": {"grace_epochs": 2},
            "tracking": tracking,
        }
    )


def made_live(path: Path, *, place: int | None = None, ended: bool = True, **tracking: Any) -> RunFolder:
    """Make a run as its drivers leave it. With `place`, it was interrupted after that event and resumed.

    Tables, study and TensorBoard files were written during the run.
    """
    events = run_events()[:-2]  # the end is written by `conclude`
    first, second = (events, []) if place is None else interrupted(events, place)
    job, folder = job_of(tracking), RunFolder.create(path, "demo")
    folder.job.write_text(job.to_yaml())
    first = with_job_file(folder, first)
    for part in filter(None, (first, second)):
        with ExitStack() as stack, Journal(folder.journal) as journal:
            past = in_force([*journal.past, part[0]]) if journal.past else []
            record = RunRecord.replay(past, job.selection)
            study = StudyMirror.on(folder, job.search.space, job.selection, (*RUNGS, 5), past)
            for follower in (
                record.apply,
                study,
                *map(stack.enter_context, open_trackers(TrackedRun(job, folder.path, past))),
            ):
                journal.follow(follower)
            for event in part:
                journal.append(event)
            if ended and part is (second or first):
                conclude(LiveRun(folder, journal, record), Ending.ALL_TRIALS)
    return folder


def study_of(folder: RunFolder) -> list[dict[str, Any]]:
    trials = optuna.load_study(study_name=None, storage=study_storage(folder)).trials
    return [{key: value for key, value in vars(trial).items() if "datetime" not in key} for trial in trials]


def dashboard_of(folder: RunFolder) -> dict[str, dict[tuple[str, int], float]]:
    return {path.name: scalars_of(folder, path.name) for path in trial_folders(folder)}


def bytes_of(*files: Path) -> list[bytes]:
    return [file.read_bytes() for file in files]


def tables_of(folder: RunFolder) -> list[bytes]:
    return bytes_of(folder.trials, folder.epochs, folder.selection)


def copy_of(folder: RunFolder, path: Path) -> RunFolder:
    copy = RunFolder(path / folder.name)
    shutil.copytree(folder.path, copy.path)
    return copy


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return made_live(tmp_path_factory.mktemp("straight"), tensorboard=True)


@pytest.fixture
def folder(straight: RunFolder, tmp_path: Path) -> RunFolder:
    """Return a copy of a finished run that a test can damage."""
    return copy_of(straight, tmp_path)


# Files that are made from the journal


def delete(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def fill_with_nonsense(path: Path) -> None:
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            file.write_bytes(b"no such file\n")


def halve(path: Path) -> None:
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            os.truncate(file, file.stat().st_size // 2)


@pytest.mark.parametrize("damage", [delete, fill_with_nonsense, halve])
@pytest.mark.parametrize("name", ["trials", "epochs", "selection", "study", "tensorboard"])
def test_each_file_is_made_again(
    name: str, damage: Callable[[Path], None], folder: RunFolder, straight: RunFolder
) -> None:
    damage(getattr(folder, name))
    repair(folder.path)
    assert tables_of(folder) == tables_of(straight)
    assert study_of(folder) == study_of(straight)
    np.testing.assert_equal(dashboard_of(folder), dashboard_of(straight))
    assert read_journal(folder.journal) == read_journal(straight.journal)
    assert {path.name for path in folder.path.iterdir()} == {path.name for path in straight.path.iterdir()}


@pytest.mark.parametrize("place", [3, 8, 11, 17])
def test_a_resumed_interruption_does_not_show_in_repaired_files(place: int, tmp_path: Path) -> None:
    folder = made_live(tmp_path, place=place, tensorboard=True)
    tables, study, dashboard = tables_of(folder), study_of(folder), dashboard_of(folder)
    for path in (folder.trials, folder.epochs, folder.selection, folder.study, folder.tensorboard):
        delete(path)
    repair(folder.path)
    assert tables_of(folder) == tables
    assert study_of(folder) == study
    np.testing.assert_equal(dashboard_of(folder), dashboard)


def test_a_second_repair_changes_nothing(folder: RunFolder) -> None:
    first = repair(folder.path)
    before = bytes_of(folder.trials, folder.epochs, folder.selection, folder.study, folder.journal)
    assert repair(folder.path).lines == first.lines
    assert bytes_of(folder.trials, folder.epochs, folder.selection, folder.study, folder.journal) == before


def test_it_says_what_it_did(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["repair", str(folder.path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "journal: 24 events, all intact",
        "tables: 4 trials, 8 epochs",
        "rungs: of 4 trials 1 continued after epoch 2",
        "selection: trial 0000",
        "study: 4 trials",
        "TensorBoard: tensorboard/ was rebuilt",
    ]


def test_a_run_that_has_not_ended_has_no_selection(tmp_path: Path) -> None:
    folder = made_live(tmp_path, ended=False)
    folder.selection.write_text("{}")
    lines = repair(folder.path).lines
    assert not folder.selection.exists()
    assert (
        f"selection: none, because the run has not ended; continue with `tune-jobs resume {folder.path}`"
        in lines
    )
    assert folder.trials.is_file()
    assert [trial["state"].name for trial in study_of(folder)] == ["COMPLETE", "PRUNED", "FAIL", "RUNNING"]


def test_files_that_the_job_does_not_ask_for_are_not_made(tmp_path: Path) -> None:
    folder = made_live(tmp_path)
    repair(folder.path)
    assert not folder.tensorboard.exists()
    assert not folder.wandb.exists()


def test_the_number_of_promoted_trials_is_shown_for_every_rung() -> None:
    record = RunRecord.replay(run_events(), job_of({}).selection)
    assert (
        continued_text(record, (1, 2, 4))
        == "of 4 trials 2 continued after epoch 1, 1 after epoch 2, 1 after epoch 4"
    )
    assert continued_text(record, ()) == ""


def test_a_dashboard_that_cannot_be_made_keeps_what_it_had(
    folder: RunFolder, straight: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    *_, last = repair(folder.path).lines
    assert last.startswith("TensorBoard: not rebuilt: tracking.tensorboard: the package tensorboardX is not")
    np.testing.assert_equal(dashboard_of(folder), dashboard_of(straight))
    assert not (folder.path / STAGING).exists()


@pytest.mark.slow
def test_the_files_of_wandb_are_replaced_by_those_of_the_whole_run(tmp_path: Path) -> None:
    """The job is online, but the repaired files are for `wandb sync` and need no server."""
    folder = made_live(tmp_path, place=11)
    change_job(folder, job_of({"wandb": {"project": "curves", "mode": "online"}}).to_yaml())
    old = folder.wandb / "offline-run-20200101_000000-old"
    old.mkdir(parents=True)
    command = subprocess.run(
        [sys.executable, "-m", "tune_jobs", "repair", folder.path],
        env=wandb_environment(tmp_path / "home", WANDB_BASE_URL="http://127.0.0.1:9"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (command.returncode, command.stderr) == (0, "")
    assert command.stdout.splitlines()[-1] == (
        f"W&B: wandb/ was rebuilt; upload the run with `wandb sync {folder.wandb}`"
    )
    assert not old.exists()
    runs = read_runs(folder.wandb)
    summary = runs.pop("summary")
    np.testing.assert_equal(
        {trial_id: run.epochs for trial_id, run in runs.items()}, trial_records(run_events())
    )
    assert runs["0000"].summary["status"] == "completed"
    assert summary.summary["winner"]["id"] == "0000"
    assert "report" in summary.summary


# A journal that is damaged


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return made_live(tmp_path_factory.mktemp("plain"), place=8)


def damaged_copy(plain: RunFolder, path: Path, content: bytes) -> RunFolder:
    folder = copy_of(plain, path)
    folder.journal.write_bytes(content)
    return folder


def test_a_torn_last_line_is_dropped_with_a_notice(folder: RunFolder) -> None:
    events = read_journal(folder.journal)
    os.truncate(folder.journal, folder.journal.stat().st_size - 7)
    lines = repair(folder.path).lines
    assert re.fullmatch(r"journal: the last line was incomplete \(\d+ bytes\) and was removed", lines[0])
    assert lines[1] == "journal: 23 events, all intact"
    assert read_journal(folder.journal) == events[:-1]
    assert folder.journal.read_bytes().endswith(b"\n")
    assert not any("dropped" in line for line in repair(folder.path).lines)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_journal_that_was_cut_off_anywhere_is_a_run_up_to_there(
    tmp_path_factory: pytest.TempPathFactory, plain: RunFolder, data: st.DataObject
) -> None:
    content, events = plain.journal.read_bytes(), read_journal(plain.journal)
    size = data.draw(st.integers(0, len(content)))
    folder = damaged_copy(plain, tmp_path_factory.mktemp("cut-off"), content[:size])
    whole = content[:size].count(b"\n")
    if whole == 0:
        with pytest.raises(DamagedRun, match="does not begin with the start of a run"):
            repair(folder.path)
        return
    repair(folder.path)
    assert read_journal(folder.journal) == events[:whole]
    assert len(open_run(folder.path).trials) == sum(
        isinstance(event, TrialCreated) for event in in_force(events[:whole])
    )


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_flipped_bit_is_found_and_costs_the_later_lines_at_most(
    tmp_path_factory: pytest.TempPathFactory, plain: RunFolder, data: st.DataObject
) -> None:
    content, events = bytearray(plain.journal.read_bytes()), read_journal(plain.journal)
    position, bit = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7))
    line = content[:position].count(b"\n") + 1
    content[position] ^= 1 << bit
    folder = damaged_copy(plain, tmp_path_factory.mktemp("flipped"), bytes(content))
    if position == len(content) - 1:  # the last line lacks its end: it is torn
        repair(folder.path)
        assert read_journal(folder.journal) == events[: line - 1]
        return
    with pytest.raises(DamagedRun, match=f"line {line} of "):
        repair(folder.path)
    assert folder.journal.read_bytes() == content
    assert tables_of(folder) == tables_of(plain)
    if line == 1:
        with pytest.raises(DamagedRun, match="line 1 is damaged, so nothing can be kept"):
            repair(folder.path, cut=True)
        assert folder.journal.read_bytes() == content
        return
    lines = repair(folder.path, cut=True).lines
    assert read_journal(folder.journal) == events[: line - 1]
    (kept,) = folder.journal.parent.glob("events.jsonl.damaged-*")
    assert kept.read_bytes() == content
    assert lines[0].startswith(f"journal: cut before line {line}; ")
    assert f"The original is in journal/{kept.name}. `tune-jobs resume {folder.path}` continues" in lines[0]
    before = bytes_of(folder.trials, folder.epochs, folder.study, folder.journal)
    assert repair(folder.path, cut=True).lines == lines[1:], "there is nothing left to cut"
    assert bytes_of(folder.trials, folder.epochs, folder.study, folder.journal) == before
    assert folder.selection.exists() is any(isinstance(e, RunEnded) for e in in_force(events[: line - 1]))


def damage_line(folder: RunFolder, number: int) -> bytes:
    """Replace a letter in a line of the journal and return the new content."""
    lines = folder.journal.read_bytes().splitlines(keepends=True)
    lines[number - 1] = lines[number - 1].replace(b'"type"', b'"tYpe"')
    folder.journal.write_bytes(b"".join(lines))
    return b"".join(lines)


def test_damage_in_the_middle_is_one_message_that_offers_to_cut(
    folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    damage_line(folder, 5)
    assert main(["repair", str(folder.path)]) == 1
    assert capsys.readouterr().err == (
        f"tune-jobs: {folder.journal}: line 5 of 24 is damaged; restore the file from a copy, or keep the 4 events "
        f"in front of it with `tune-jobs repair {folder.path} --cut`\n"
    )
    assert main(["repair", str(folder.path), "--cut"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("journal: cut before line 5; 20 lines removed. The original is in ")
    assert lines[1] == "journal: 4 events, all intact"


def test_each_damaged_journal_is_kept(folder: RunFolder) -> None:
    damaged = []
    for number in (9, 7, 5):
        damaged.append(damage_line(folder, number))
        repair(folder.path, cut=True)
    assert {path.read_bytes() for path in folder.journal.parent.glob("*damaged*")} == set(damaged)


def test_checkpoints_of_trials_that_dropped_out_are_not_found_by_others_of_their_name(
    folder: RunFolder,
) -> None:
    events = read_journal(folder.journal)
    for trial_id in ("0000", "0001", "0002", "0003"):
        (folder.checkpoints / trial_id).mkdir()
        (folder.checkpoints / trial_id / "epoch-000001.pt").write_bytes(trial_id.encode())
    last = max(number for number, event in enumerate(events) if isinstance(event, TrialCreated))
    damage_line(folder, last)  # the line before
    lines = repair(folder.path, cut=True).lines
    assert lines[1] == "checkpoints: those of 2 removed trials are set aside"
    names = {path.name.partition(".")[0]: path for path in folder.checkpoints.iterdir()}
    assert {name: path.name == name for name, path in names.items()} == {
        "0000": True, "0001": True, "0002": False, "0003": False,
    }  # fmt: skip
    assert {(path / "epoch-000001.pt").read_text() for path in names.values()} == names.keys()


def test_openings_of_the_holdout_and_their_results_are_known_again_from_its_ledger(folder: RunFolder) -> None:
    entry = {"number": 1, "time": 5.0, "trial_id": "0000", "reason": None}
    (folder.holdout / LEDGER).write_text(json.dumps(entry) + "\n")
    lines = repair(folder.path).lines
    assert lines[0] == "journal: 1 opening of the holdout added from its ledger"
    assert read_journal(folder.journal)[-1] == HoldoutUnsealed(time=5.0, trial_id="0000", from_ledger=True)
    results = {"test_loss": 0.25}
    with (folder.holdout / LEDGER).open("a") as file:
        file.write(json.dumps({"number": 1, "results": results}) + "\n")
    lines = repair(folder.path).lines
    assert lines[0] == "journal: 1 result of the holdout added from its ledger"
    evaluated = HoldoutEvaluated(time=5.0, number=1, trial_id="0000", results=results, from_ledger=True)
    assert read_journal(folder.journal)[-1] == evaluated
    before = folder.journal.read_bytes()
    repair(folder.path)
    assert folder.journal.read_bytes() == before


def test_an_opening_stays_although_a_cut_takes_its_trial_away(folder: RunFolder) -> None:
    entry = {"number": 1, "time": 5.0, "trial_id": "0007", "reason": None}
    (folder.holdout / LEDGER).write_text(json.dumps(entry) + "\n")
    damage_line(folder, len(read_journal(folder.journal)) - 2)
    assert "journal: 1 opening of the holdout added from its ledger" in repair(folder.path, cut=True).lines
    assert [opening.trial_id for opening in open_run(folder.path).openings] == ["0007"]


@pytest.mark.parametrize("how", ["deleted", "emptied", "cut", "changed", "noise"])
def test_the_ledger_is_made_again_from_the_journal(how: str, folder: RunFolder) -> None:
    ledger = folder.holdout / LEDGER
    with Journal(folder.journal) as journal:
        journal.append(HoldoutUnsealed(time=5.0, trial_id="0000"))
        journal.append(HoldoutEvaluated(number=1, trial_id="0000", results={"test_loss": 0.25}))
    lines = repair(folder.path).lines
    assert lines[1] == "ledger of the holdout: made again from the journal"
    content = ledger.read_bytes()
    spoilt = {
        "emptied": b"",
        "cut": content[:90],
        "changed": content.replace(b"0.25", b"0.20"),
        "noise": b"x",
    }
    ledger.unlink() if how == "deleted" else ledger.write_bytes(spoilt[how])
    if how in {"changed", "noise"}:
        with pytest.raises(DamagedRun, match="makes the ledger again from the journal"):
            _ = open_run(folder.path).openings
    else:
        assert [entry.results for entry in open_run(folder.path).openings] == [{"test_loss": 0.25}]
    lines = repair(folder.path).lines
    assert lines[1].startswith("ledger of the holdout: made again from the journal")
    assert ledger.read_bytes() == content
    kept = [path.read_bytes() for path in folder.holdout.glob(f"{LEDGER}.damaged-*")]
    assert kept == ([spoilt[how]] if how in {"changed", "noise"} else [])
    assert "ledger" not in repair(folder.path).lines[1]


# Damage that cannot be repaired


@pytest.mark.slow
@pytest.mark.parametrize("cut", [False, True])
def test_a_run_that_is_at_work_is_left_alone(cut: bool, folder: RunFolder) -> None:
    folder.study.unlink()
    with Journal(folder.journal):
        content = damage_line(folder, 5)
        with pytest.raises(RunInUse, match="another process is at work on this run"):
            repair(folder.path, cut=cut)
    assert folder.journal.read_bytes() == content
    assert not folder.study.exists()


WRONG: Mapping[str, tuple[Callable[[RunFolder], Any], int, str]] = {
    "no folder": (lambda folder: shutil.rmtree(folder.path), 2, "no such folder"),
    "no journal": (lambda folder: folder.journal.unlink(), 2, "not a run folder"),
    "an empty journal": (lambda folder: folder.journal.write_bytes(b""), 1, "does not begin with the start of a run"),
    "a journal of noise": (lambda folder: folder.journal.write_bytes(bytes(range(256))), 1, "line 1 "),
    "no job": (lambda folder: folder.job.unlink(), 1, "job.yaml: no such file"),
    "a job of noise": (lambda folder: folder.job.write_bytes(b"\xff\x00{"), 1, "job.yaml: cannot be read"),
    "a job that is none": (lambda folder: folder.job.write_text("name: x"), 1, "job.yaml: "),
    "a ledger of noise": (lambda folder: (folder.holdout / LEDGER).write_text("x"), 1, "line 1 is damaged"),
    "a folder for a table": (
        lambda folder: (folder.trials.unlink(), folder.trials.mkdir()), 2, "trials.parquet: cannot be written to",
    ),
}  # fmt: skip


@pytest.mark.parametrize("options", [[], ["--cut"]])
@pytest.mark.parametrize("name", WRONG)
def test_damage_that_cannot_be_repaired_is_one_message(
    name: str, options: list[str], folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, exit_code, message = WRONG[name]
    spoil(folder)
    assert main(["repair", str(folder.path), *options]) == exit_code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tune-jobs: ")
    assert message in line


def test_the_job_is_checked_after_the_cut_and_the_cut_is_reported(folder: RunFolder) -> None:
    damage_line(folder, 5)
    folder.job.unlink()
    with pytest.raises(DamagedRun, match=r"job.yaml: no such file.*; journal: cut before line 5"):
        repair(folder.path, cut=True)
    assert len(read_journal(folder.journal)) == 4
