"""The report as a page: its text for a run in any state, in one file that needs no network."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import PATIENCE, start
from tests.tune_jobs.report.runs import HOSTILE, trials
from tune_jobs.cli.main import main
from tune_jobs.errors import RunFolderError
from tune_jobs.holdout.ledger import LEDGER
from tune_jobs.record.codes import Ending, Status
from tune_jobs.record.events import (
    RunResumed,
    TrialStarted,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal
from tune_jobs.report.writing import write_report

MakeRun = Callable[..., RunFolder]
MEGABYTE = 1_000_000


def written(folder: RunFolder) -> str:
    return write_report(folder.path).read_text(encoding="utf-8")


def words(html: str) -> str:
    """Return the text of the page without scripts, styles and tags."""
    text = re.sub(r"<(script|style)\b.*?</\1>", " ", html, flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


def test_the_report_is_written_to_the_run_folder_or_to_the_given_path(
    make_run: MakeRun, tmp_path: Path
) -> None:
    folder = make_run(trials(3))
    assert write_report(folder.path) == folder.path / "report.html"
    before = sorted(path.name for path in folder.path.iterdir())
    elsewhere = write_report(folder.path, tmp_path / "mine.html")
    assert elsewhere == tmp_path / "mine.html"
    assert elsewhere.stat().st_size > MEGABYTE
    assert sorted(path.name for path in folder.path.iterdir()) == before


@pytest.mark.parametrize("name", ["[a-z]*", os.fsdecode(b"\xff"), "a\nb", "%s {0}"])
def test_a_run_and_a_report_may_have_any_name(make_run: MakeRun, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    make_run([{"losses": [0.5]}]).path.rename(folder)
    assert (
        write_report(folder, tmp_path / f"{name}.html")
        .read_text(encoding="utf-8")
        .startswith("<!doctype html>")
    )
    with pytest.raises(RunFolderError, match=r"cannot be written \(File name too long"):
        write_report(folder, tmp_path / ("n" * 300))


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3, 1000])
def test_it_is_one_file_below_six_megabytes_that_loads_nothing(make_run: MakeRun, count: int) -> None:
    folder = make_run(trials(count))
    html = written(folder)
    assert folder.report.stat().st_size < 6 * MEGABYTE
    visible = re.sub(r'<script type="text/plain" id="plotly">.*?</script>', "", html, flags=re.S)
    assert not re.search(r'\b(src|href)="(?!#|data:)', visible)
    assert "@import" not in visible
    assert "url(" not in visible


@pytest.mark.slow
def test_a_sentence_states_the_task_and_the_result(make_run: MakeRun) -> None:
    text = words(written(make_run(trials(40), changes={"scheduler/grace_epochs": 2, "search/trials": 40})))
    assert re.search(
        r"Of 40 configurations of mlp on linear_gaussian, trial \d{4} has the lowest val_loss: [\d.e-]+, at epoch",
        text,
    )
    assert "Asked for: 40 trials of at most 9 epochs, proposed by a Gaussian process" in text
    assert "ASHA let the best continue after 2 and 6 epochs" in text
    assert "5 failed" in text


def test_it_shows_how_to_load_the_winner_and_how_to_train_it_again(make_run: MakeRun) -> None:
    folder = make_run([{"losses": [0.5], "configuration": {"lr": 0.125, "batch_size": "full"}}])
    text = words(written(folder))
    assert "load_model()" in text
    assert f"tune-jobs train {folder.job} --lr 0.125 --batch_size full" in text


def test_a_sealed_holdout_is_distinguished_from_an_opened_one(make_run: MakeRun) -> None:
    folder = make_run([{"losses": [0.5, 0.25]}])
    text = words(written(folder))
    assert "Sealed." in text
    assert f"tune-jobs test {folder.path}" in text
    (folder.holdout / LEDGER).write_text(
        '{"number": 1, "time": 1000100.0, "trial_id": "0000", "reason": null}\n'
        '{"number": 1, "results": {"test_loss": 0.3125}}\n'
        '{"number": 2, "time": 1000200.0, "trial_id": "0000", "reason": "a reviewer asked"}\n'
    )
    text = words(written(folder))
    assert "Sealed." not in text
    assert "Opened on 1970-01-12 13:48 UTC, for trial 0000" in text
    assert "val_loss, validation 0.25 chose the winner test_loss 0.3125" in text
    assert "Opened again on 1970-01-12 13:50 UTC, for trial 0000: a reviewer asked" in text
    assert "none was recorded" in text


def test_during_the_run_it_shows_the_best_so_far_and_offers_no_test(make_run: MakeRun) -> None:
    folder = make_run(
        [{"losses": [0.5]}, {"losses": [0.4], "status": Status.RUNNING}, {"status": Status.PENDING}],
        ending=None,
    )
    with Journal(folder.journal):
        text = words(written(folder))
    assert text.split("Provenance ", 1)[1].startswith("light / dark in progress")
    assert "The best so far" in text
    assert "trial 0001 so far has the lowest val_loss: 0.4" in text
    assert "tune-jobs test" not in text
    assert "load_model" not in text
    assert "its process was killed" in words(written(folder))


@pytest.mark.parametrize("ending", [Ending.INTERRUPTED, Ending.TIME_LIMIT, Ending.FAILED])
def test_the_ending_of_the_run_is_at_the_top(make_run: MakeRun, ending: Ending) -> None:
    text = words(written(make_run(trials(3), ending=ending)))
    assert ending.sentence in text.split("Of 3 configurations")[0]


def test_a_run_without_a_trial_and_one_without_a_score_have_a_page_too(make_run: MakeRun) -> None:
    assert "No trial has been created yet." in words(written(make_run([], ending=None)))
    failed = [{"losses": [float("nan")], "status": Status.FAILED, "reason": "out of memory"}] * 3
    text = words(written(make_run(failed)))
    assert "none succeeded" in text
    assert "3 trials out of memory" in text.split("Failures", 1)[1]


def test_failures_are_grouped_by_reason(make_run: MakeRun) -> None:
    text = words(written(make_run(trials(40))))
    section = text.split("Failures", 1)[1]
    assert section.count("the training loss is nan at epoch 1; lower lr") >= 1
    assert "5 trials" in section
    assert "Trials: 0006, 0013, 0020, 0027, 0034" in section


def test_it_reports_trials_after_the_test_rows_were_seen(make_run: MakeRun) -> None:
    from tune_jobs.record.events import HoldoutUnsealed

    folder = make_run([{"losses": [0.5]}])
    warning = "Trials were trained after the holdout was opened"
    assert warning not in words(written(folder))
    with Journal(folder.journal) as journal:
        journal.append(HoldoutUnsealed(trial_id="0000"))
        journal.append(RunResumed(trials=2, versions={}))
        journal.append(TrialStarted(trial_id="0000"))
    assert warning in words(written(folder))


def test_every_trial_is_a_row_with_its_configuration_and_reason(make_run: MakeRun) -> None:
    html = written(make_run(trials(30)))
    rows = re.findall(r'<tr id="trial-(\d+)"', html)
    assert rows == [str(number) for number in range(30)]
    heads = re.findall(r'<th(?: class="number")?><button type="button">([^<]+)<', html)
    assert heads == [
        "trial", "state", "val_loss", "best epoch", "epochs", "seconds",
        "lr", "batch_size", "optimizer", "momentum", "reason",
    ]  # fmt: skip


def test_text_of_a_run_is_shown_and_never_run_as_code(make_run: MakeRun) -> None:
    values = {
        "model": {"name": "mine:make"},
        "search/space/optimizer": ...,
        "search/space/momentum": ...,
        "search/space/model.x": {"values": [HOSTILE, "b"]},
    }
    run = make_run(
        [
            {"losses": [0.5], "configuration": {"lr": 0.1, "model.x": HOSTILE}, "reason": HOSTILE},
            {"losses": [0.4], "configuration": {"lr": 0.2, "model.x": "b"}},
            {"status": Status.FAILED, "configuration": {"lr": 0.2, "model.x": "b"}, "reason": HOSTILE},
        ],
        changes=values,
    )  # fmt: skip
    html = written(run)
    assert "<img src=x" not in html
    assert "<script>document" not in html
    assert "&lt;script&gt;document" in html


def test_if_it_cannot_be_written_the_message_names_the_cure(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"cannot be written .*--output FILE"):
        write_report(make_run(trials(1)).path, tmp_path / "no" / "such" / "report.html")


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_only_files_are_replaced(make_run: MakeRun, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "there"
    target.mkdir() if kind == "folder" else os.mkfifo(target)
    with pytest.raises(RunFolderError, match=r"there: not a file, so it cannot be replaced"):
        write_report(make_run(trials(1)).path, target)
    assert not target.is_file()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError):
        write_report(tmp_path)


def test_the_command_writes_it_and_says_where(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(trials(3))
    assert main(["report", str(folder.path)]) == 0
    assert capsys.readouterr().out == f"report: {folder.report}\n"
    assert folder.report.is_file()
    assert main(["report", str(folder.path), "--output", str(tmp_path / "mine.html")]) == 0
    assert (tmp_path / "mine.html").is_file()
    assert main(["report", str(tmp_path)]) == 2
    assert "not a run folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "ending"), [(Status.INTERRUPTED, Ending.INTERRUPTED), (Status.FAILED, Ending.ALL_TRIALS)]
)
def test_a_trial_that_may_not_win_is_not_called_the_winner(
    make_run: MakeRun, status: Status, ending: Ending
) -> None:
    text = words(written(make_run([{"losses": [0.5], "status": status}] * 2, ending=ending)))
    assert "trial 0000 has had the lowest val_loss: 0.5, at epoch 1. No trial has ended that may win." in text
    assert "The winner " not in text.partition("Rule")[0]
    assert "The best so far" in text
    assert "tune-jobs test" not in text
    assert "load_model" not in text


def test_an_interrupted_run_with_a_winner_does_not_offer_the_test_rows(make_run: MakeRun) -> None:
    run = make_run(
        [{"losses": [0.5]}, {"losses": [0.4], "status": Status.INTERRUPTED}], ending=Ending.INTERRUPTED
    )
    text = words(written(run))
    assert "The winner" in text
    assert "trial 0000 has the lowest val_loss: 0.5" in text
    assert "tune-jobs test" not in text


def test_an_opening_for_a_trial_that_a_cut_took_away_is_still_shown(make_run: MakeRun) -> None:
    folder = make_run([{"losses": [0.5]}])
    (folder.holdout / LEDGER).write_text(
        '{"number": 1, "time": 1000100.0, "trial_id": "0007", "reason": null}\n'
    )
    assert "for trial 0007" in words(written(folder))


@pytest.mark.slow
def test_reports_that_are_written_at_once_are_all_whole(make_run: MakeRun) -> None:
    folder = make_run(trials(3))
    command = [sys.executable, "-m", "tune_jobs", "report", str(folder.path)]
    processes = [start(command) for _ in range(3)]
    assert [process.wait(PATIENCE) for process in processes] == [0, 0, 0]
    assert folder.report.read_text().rstrip().endswith("</html>")
    assert not list(folder.path.glob(".report*"))
