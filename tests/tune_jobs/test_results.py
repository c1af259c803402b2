"""The winner of a run with damaged files: loaded from any file with its weights, or one error before an opening."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tune_jobs.in_process_training import train_trial_without_ray
from tests.tune_jobs.job_files import change_job
from tune_jobs.checkpoints.file import epoch_line, open_checkpoint, write_checkpoint
from tune_jobs.checkpoints.local import checkpoint_paths
from tune_jobs.driver.conclusion import conclude
from tune_jobs.driver.preparation import make_folder, prepare, run_started, trial_task
from tune_jobs.driver.repair import repair
from tune_jobs.errors import DamagedRun, RunFolderError
from tune_jobs.holdout.ledger import read_ledger
from tune_jobs.job.file import apply_overrides, dump_yaml, read_yaml
from tune_jobs.job.job import Job
from tune_jobs.record.codes import Cause, Ending, Status
from tune_jobs.record.events import (
    CheckpointWritten,
    EpochsReported,
    HoldoutEvaluated,
    HoldoutUnsealed,
    RunResumed,
    TrialCreated,
    TrialEnded,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal, read_journal
from tune_jobs.record.live import LiveRun
from tune_jobs.record.run_record import RunRecord
from tune_jobs.report.writing import write_report
from tune_jobs.results import Run, open_run
from tune_jobs.worker.trial import Assignment


@pytest.fixture(scope="module")
def trained(make_sections: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a trial of six epochs whose best is the fifth, with checkpoints after the fifth and the sixth."""
    root = tmp_path_factory.mktemp("trained")
    space = {"lr": {"low": 1e-3, "high": 0.5, "log": True}, "batch_size": {"values": [8, "full"]}}
    changes = {"training/max_epochs": 6, "search/space": space, "storage": str(root / "runs")}
    job = Job.from_mapping(make_sections(changes), root)
    prepared = prepare(job)
    folder = make_folder(job, prepared)
    record, started = RunRecord(job.selection), run_started(job, prepared, folder)
    task = trial_task(job, folder, run_id=started.run_id)
    with Journal(folder.journal, record.apply) as journal:
        journal.append(started)
        configuration = {"lr": 0.2, "batch_size": 8}
        journal.append(TrialCreated(trial_id="0000", number=0, configuration=configuration))
        trial = Assignment("0000", configuration)
        results, file = train_trial_without_ray(
            task, folder.checkpoints, trial, prepared.for_trials(), every=True
        )
        journal.append(EpochsReported(trial_id="0000", results=results, worker="here:1"))
        journal.append(CheckpointWritten(trial_id="0000", epoch=6, file=f"checkpoints/{file}"))
        journal.append(
            TrialEnded(
                trial_id="0000", status=Status.COMPLETED, cause=Cause.MAX_EPOCHS, reason="all epochs are done"
            )
        )
        conclude(LiveRun(folder, journal, record), Ending.ALL_TRIALS)
    return folder.path


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(trained, tmp_path / "copy")))


def checkpoints(folder: RunFolder) -> list[Path]:
    """Return the checkpoints, the latest first."""
    return checkpoint_paths(folder.checkpoints, "0000")


def weights(finished: Run) -> dict[str, torch.Tensor]:
    return finished.load_model().state_dict()


def test_the_fixture_is_as_it_should_be(folder: RunFolder) -> None:
    finished = open_run(folder.path)
    assert finished.winner.epoch <= 5, (
        "else the fifth checkpoint has not its weights: choose another seed or lr"
    )
    assert [path.name for path in checkpoints(folder)] == ["epoch-000006.pt", "epoch-000005.pt"]
    assert finished.winner.checkpoint == checkpoints(folder)[0]


@pytest.mark.parametrize("how", ["missing", "empty", "cut", "flipped"])
def test_the_winner_is_loaded_from_another_checkpoint_with_its_weights(folder: RunFolder, how: str) -> None:
    expected = weights(open_run(folder.path))
    spoil(checkpoints(folder)[0], how)
    found = weights(open_run(folder.path))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert set(open_run(folder.path).test()) == {"test_loss", "test_mae"}


def test_without_any_checkpoint_one_error_says_what_to_do_and_no_look_is_spent(folder: RunFolder) -> None:
    last, before = checkpoints(folder)
    spoil(last, "flipped")
    spoil(before, "missing")
    finished = open_run(folder.path)
    for call in (finished.load_model, finished.test):
        with pytest.raises(DamagedRun) as caught:
            call()
        assert str(caught.value) == (
            f"{folder.path}: the winner's weights cannot be loaded (checkpoint {last} is damaged or no checkpoint "
            "(it does not match its checksum)). Restore a checkpoint from a copy, or train the configuration again "
            f"with the command that `tune-jobs show {folder.path} --trial 0000` prints"
        )
    assert read_ledger(folder) == []


def test_a_checkpoint_of_before_the_scoring_epoch_is_not_taken(folder: RunFolder) -> None:
    last, before = checkpoints(folder)
    last.unlink()
    scoring = open_run(folder.path).winner.epoch
    with open_checkpoint(before) as checkpoint, (folder.path / "earlier").open("wb") as file:
        lines = [epoch_line(row) for row in checkpoint.epochs if row["epoch"] < scoring]
        write_checkpoint(
            file,
            checkpoint.origin,
            lines,
            lambda file: bool(file.write(checkpoint.state.read())),
        )
    (folder.path / "earlier").replace(before)
    with pytest.raises(DamagedRun, match=r"does not have the weights of epoch \d"):
        open_run(folder.path).load_model()


def test_a_damaged_encoding_is_an_error_before_any_look(folder: RunFolder) -> None:
    text = folder.data_info.read_text()
    folder.data_info.write_text(text.replace('"outputs": 1', '"outputs": 3'))
    with pytest.raises(DamagedRun, match=r"data\.json: cannot be read \(it does not match its checksum\)"):
        open_run(folder.path).test()
    assert read_ledger(folder) == []


# The result of the test


def with_tracking(folder: RunFolder, **tracking: Any) -> Run:
    job = read_yaml(folder.job)
    change_job(folder, dump_yaml({**job, "tracking": {**job["tracking"], **tracking}}))
    return open_run(folder.path)


def test_a_run_that_was_continued_after_it_was_opened_is_not_called_damaged(folder: RunFolder) -> None:
    opened = open_run(folder.path)
    resumed = RunResumed(trials=2, versions={})
    with Journal(folder.journal) as journal:
        live = LiveRun.begin(folder, journal, resumed, opened.job.selection)
        better = [{**row, "val_loss": 0.0} for row in live.record.trials["0000"].epochs.values()]
        live.append(resumed)
        live.append(TrialCreated(trial_id="0001", number=1, configuration={"lr": 0.1, "batch_size": 8}))
        live.append(EpochsReported(trial_id="0001", results=better, worker="here:1"))
        live.append(
            TrialEnded(trial_id="0001", status=Status.COMPLETED, cause=Cause.MAX_EPOCHS, reason="all epochs")
        )
        conclude(live, Ending.ALL_TRIALS)
    with pytest.raises(RunFolderError, match="was continued after it was opened; open it again"):
        _ = opened.winner
    assert open_run(folder.path).winner_id == "0001"


def test_a_selection_that_contradicts_the_journal_is_damage(folder: RunFolder) -> None:
    folder.selection.write_text('{"winner": null}')
    with pytest.raises(DamagedRun, match="contradicts the journal"):
        _ = open_run(folder.path).winner


def test_the_journal_has_the_result_after_the_opening(folder: RunFolder) -> None:
    finished = open_run(folder.path)
    first = finished.test()
    second = finished.test(again=True, reason="a reviewer asked")
    looks = [e for e in read_journal(folder.journal) if isinstance(e, HoldoutUnsealed | HoldoutEvaluated)]
    assert [type(event) for event in looks] == [HoldoutUnsealed, HoldoutEvaluated] * 2
    results = [event for event in looks if isinstance(event, HoldoutEvaluated)]
    assert [(event.number, event.trial_id, event.reason) for event in results] == [
        (1, "0000", None),
        (2, "0000", "a reviewer asked"),
    ]
    assert [event.results for event in results] == [first, second]
    assert [entry.results for entry in read_ledger(folder)] == [first, second]


def test_trackers_receive_the_result(folder: RunFolder) -> None:
    from tests.tune_jobs.tracking.test_tensorboard import scalars_of

    finished = with_tracking(folder, tensorboard=True)
    results = finished.test()
    shown = scalars_of(folder, "test-1")
    assert {name: shown[name, finished.winner.epoch] for name in results} == pytest.approx(results)


def test_a_tracker_that_fails_costs_neither_the_result_nor_its_record(
    folder: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    code = "def broken(run):\n    raise RuntimeError('no server there')\n"
    finished = with_tracking(folder, trackers=["broken_tracker:broken"])
    (finished.job.folder / "broken_tracker.py").write_text(code)
    results = finished.test()
    assert [entry.results for entry in read_ledger(folder)] == [results]
    assert isinstance(read_journal(folder.journal)[-1], HoldoutEvaluated)
    (record,) = caplog.records
    assert "is switched off: RuntimeError: no server there" in record.getMessage()


def test_a_missing_package_of_a_tracker_costs_neither(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    finished = with_tracking(folder, tensorboard=True)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    results = finished.test()
    assert [entry.results for entry in read_ledger(folder)] == [results]
    (record,) = caplog.records
    assert record.getMessage().startswith("the result of the test is not tracked: tracking.tensorboard: ")


def spoil(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    match how:
        case "missing":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "flipped":
            content[len(content) // 2] ^= 1
            path.write_bytes(content)


@pytest.mark.parametrize("read", [open_run, repair, write_report], ids=lambda read: read.__name__)
def test_a_job_that_was_changed_by_hand_is_refused_before_it_chooses_another_winner(
    folder: RunFolder, read: Callable[[Path], object]
) -> None:
    selected = folder.selection.read_bytes()
    folder.job.write_text(
        folder.job.read_text().replace("metric: val_loss, mode: min", "metric: mae, mode: min")
    )
    with pytest.raises(DamagedRun, match=r"job\.yaml: was changed since the run began"):
        read(folder.path)
    assert folder.selection.read_bytes() == selected


@pytest.mark.parametrize("read", [open_run, repair, write_report], ids=lambda read: read.__name__)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "renamed"),
        ("search.trials", 7),
        ("resources.max_concurrent", 7),
        ("tracking.tensorboard", True),
        ("storage", "elsewhere"),
    ],
)
def test_no_key_is_changed_by_hand_although_a_resumption_may_change_it(
    folder: RunFolder, read: Callable[[Path], object], key: str, value: object
) -> None:
    folder.job.write_text(dump_yaml(apply_overrides(read_yaml(folder.job), [(key, value)])))
    with pytest.raises(
        DamagedRun, match=r"job\.yaml: was changed by hand; .* `tune-jobs resume RUN --key value`"
    ):
        read(folder.path)
