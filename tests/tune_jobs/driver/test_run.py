"""Whole runs under a real Ray: the files of a run, the data of a trial, and failed trials."""

import json
import pickle
import textwrap
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest

from tests.tune_jobs.runs import change, copy_run, line_in, lines
from tune_jobs import Job, Run, open_run, run
from tune_jobs.cli.main import main
from tune_jobs.driver.preparation import prepare, trial_task
from tune_jobs.driver.train_alone import train_one
from tune_jobs.errors import HoldoutOpened, ResourceError, RunFailed
from tune_jobs.record.codes import Ending, Status
from tune_jobs.record.events import (
    TrialCreated,
    WorkerLost,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import read_journal
from tune_jobs.record.run_record import TrialRecord
from tune_jobs.tracking.optuna_study import study_storage

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("slope_kind", "ray_running")]

MakeJob = Callable[..., Job]


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    return partial(job_in, tmp_path)


def job_in(folder: Path, changes: Mapping[str, Any] | None = None, code: str = "") -> Job:
    """Return a job on 60 rows with changes by path, and write `code` as the module `user_code` in its folder."""
    sections: dict[str, Any] = {
        "name": "small",
        "data": {"source": "linear_gaussian", "arguments": {"n": 100, "sigma": 0.1}},
        "model": {"name": "linear"},
        "training": {"max_epochs": 9, "loss": "mse", "metrics": ["mae"]},
        "search": {
            "space": {
                "lr": {"low": 1e-3, "high": 0.5, "log": True},
                "batch_size": {"values": [8, "full"]},
                "optimizer": {"values": ["sgd", "adam"]},
                "momentum": {"low": 0.0, "high": 0.9, "when": {"optimizer": "sgd"}},
            },
            "trials": 6,
        },
        "resources": {"max_concurrent": 1},  # a second worker takes longer to start than all trials take
        "storage": str(folder / "runs"),
    }
    change(sections, changes or {})
    (folder / "user_code.py").write_text(textwrap.dedent(code))
    return Job.from_mapping(sections, folder)


def only_search(**space: Any) -> dict[str, Any]:
    return {"search/space": space, "search/method": "grid"}


# The files of a run


@pytest.fixture(scope="module")
def given_to_ray() -> list[bytes]:
    """Return the pickled objects that the finished run has handed to Ray Tune."""
    return []


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, given_to_ray: list[bytes]) -> Run:
    from tune_jobs.tuning import loop as tuning

    share = tuning.share

    def spy(*arguments: Any) -> Any:
        given_to_ray.append(pickle.dumps(arguments))
        return share(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "share", spy)
        return run(MAKE(tmp_path_factory.mktemp("finished")))


@pytest.fixture
def copied(finished: Run, tmp_path: Path) -> Run:
    """Return a copy of the finished run that a test may change."""
    copy = tmp_path / finished.path.name
    copy_run(finished.path, copy)
    return open_run(copy)


def MAKE(folder: Path) -> Job:  # noqa: N802
    return Job.from_mapping(
        {
            "name": "digits-small",
            "seed": 3,
            "data": {"source": "digits", "split": {"method": "stratified"}},
            "model": {"name": "mlp"},
            "training": {"max_epochs": 9, "loss": "cross_entropy", "metrics": ["accuracy", "f1"]},
            "search": {
                "space": {
                    "lr": {"low": 1e-3, "high": 0.3, "log": True},
                    "batch_size": {"values": [64, "full"]},
                    "optimizer": {"values": ["sgd", "adam"]},
                    "momentum": {"low": 0.0, "high": 0.9, "when": {"optimizer": "sgd"}},
                    "model.hidden": {"values": [[16], [32]]},
                    "model.dropout": {"low": 0.0, "high": 0.5},
                },
                "trials": 14,
                "points": [{"lr": 0.05, "optimizer": "sgd"}],
            },
            "resources": {"max_concurrent": 1},
            "storage": str(folder / "runs"),
        },
        folder,
    )


def test_the_run_folder_has_the_documented_files(finished: Run) -> None:
    names = {path.name for path in finished.path.iterdir()}
    expected = {"job.yaml", "journal", "trials.parquet", "epochs.parquet", "selection.json", "checkpoints"}
    assert expected | {"study.log", "holdout", "ray"} <= names
    assert finished.path.name.startswith("digits-small-")


def test_every_trial_has_a_row_and_a_final_status(finished: Run) -> None:
    trials = finished.trials
    assert list(trials["number"]) == list(range(14))
    assert set(trials["status"]) <= {"completed", "stopped_early"}
    assert (trials["status"] == "stopped_early").any()
    assert (trials["status"] == "completed").any()
    assert trials["reason"].str.len().gt(0).all()


def test_no_epoch_is_missing_between_the_first_and_the_last(finished: Run) -> None:
    epochs = finished.epochs
    for trial in finished.trials.itertuples():
        own = epochs[epochs["trial_id"] == trial.trial_id]
        assert list(own["epoch"]) == list(range(1, trial.epochs + 1))
    assert {"trial_id", "epoch", "train_loss", "val_loss", "accuracy", "f1", "lr", "seconds"} == set(epochs)


def test_the_winner_is_the_lowest_validation_loss_of_all(finished: Run) -> None:
    assert finished.winner.score == finished.epochs["val_loss"].min()
    best = finished.epochs.loc[finished.epochs["val_loss"].idxmin()]
    assert (finished.winner.trial_id, finished.winner.epoch) == (best["trial_id"], best["epoch"])


def test_score_and_checkpoint_are_of_the_same_epoch(finished: Run) -> None:
    """The loaded model gives the score on the validation rows to the last bit."""
    import torch

    model = finished.load_model()
    rows = prepare(finished.job).validation
    with torch.inference_mode():
        loss = torch.nn.functional.cross_entropy(model(torch.tensor(rows.x)), torch.tensor(rows.y))
    assert loss.item() == pytest.approx(finished.winner.score, rel=1e-6)


def test_points_are_tried_first(finished: Run) -> None:
    first = finished.trials.iloc[0]
    assert (first["config.lr"], first["config.optimizer"]) == (0.05, "sgd")


def test_a_trial_under_ray_equals_the_same_training_alone_bit_for_bit(finished: Run) -> None:
    """Workers are used again: there are more trials than workers. The losses of a fresh process are the same."""
    epochs = finished.epochs
    for trial_id, record in finished.record.trials.items():
        own = epochs[epochs["trial_id"] == trial_id]
        alone = [
            result.to_mapping()
            for result, _ in zip(train_one(finished.job, record.configuration), own.index, strict=False)
        ]
        for name in ("train_loss", "val_loss", "accuracy", "f1", "lr"):
            assert [row[name] for row in alone] == list(own[name]), (trial_id, name)
    assert len({record.worker for record in finished.record.trials.values()}) < len(finished.record.trials)


def test_only_the_best_few_checkpoints_stay(finished: Run) -> None:
    kept = {path.name for path in (finished.path / "checkpoints").iterdir()}
    best = finished.trials.sort_values(["score", "number"])["trial_id"].head(5)
    assert kept == set(best)
    assert finished.winner.checkpoint.is_file()


def test_no_trial_of_the_study_stays_running(finished: Run) -> None:
    study = optuna.load_study(study_name=None, storage=study_storage(RunFolder(finished.path)))
    states = {trial.user_attrs["trial_id"]: trial.state.name for trial in study.trials}
    expected = {"completed": "COMPLETE", "stopped_early": "PRUNED"}
    assert states == {t.trial_id: expected[t.status] for t in finished.trials.itertuples()}
    pruned = [trial for trial in study.trials if trial.state.name == "PRUNED"]
    assert all(trial.intermediate_values for trial in pruned)


def test_the_run_can_be_opened_again_from_its_folder(finished: Run) -> None:
    again = open_run(finished.path)
    assert again.trials.equals(finished.trials)
    assert again.job == finished.job
    assert again.ending is Ending.ALL_TRIALS


def test_the_fingerprints_are_recorded(finished: Run) -> None:
    selection = json.loads((finished.path / "selection.json").read_text())
    assert {"data", "encoding", "holdout", "split", "space", "job", "job.yaml"} == set(
        selection["fingerprints"]
    )
    assert selection["fingerprints"]["space"] == finished.job.search.space.fingerprint()
    assert selection["versions"]["torch"].startswith("2.")


# The sealed holdout


def test_no_test_row_is_in_what_a_trial_receives(make_job: MakeJob) -> None:
    """Search for the bytes of each test row in the pickled objects. Training rows are found in the same way."""
    job = make_job()
    prepared = prepare(job)
    received = pickle.dumps((prepared.for_trials(), trial_task(job, RunFolder(Path("/somewhere")))))
    assert all(row.tobytes() in received for row in prepared.train.x)
    assert not any(row.tobytes() in received for row in prepared.test.x)
    assert not any(row.tobytes() in received for row in prepared.test.y)
    assert b"holdout" not in received


def test_no_test_row_is_in_what_ray_is_given(finished: Run, given_to_ray: list[bytes]) -> None:
    """The same check for the objects that a run hands to Ray Tune."""
    rows = prepare(finished.job)
    assert all(row.tobytes() in given_to_ray[0] for row in rows.train.x)
    assert not any(row.tobytes() in given_to_ray[0] for row in rows.test.x)


def test_the_sealed_rows_are_the_test_rows_and_no_other_file_holds_them(finished: Run) -> None:
    rows = prepare(finished.job).test
    sealed = finished.path / "holdout" / "rows.npz"
    with np.load(sealed) as arrays:
        assert np.array_equal(arrays["x"], rows.x)
        assert np.array_equal(arrays["y"], rows.y)
    assert sealed.stat().st_mode & 0o077 == 0
    needles = [row.tobytes() for row in rows.x[:20]]
    for path in finished.path.rglob("*"):
        if path.is_file() and path != sealed:
            content = path.read_bytes()
            assert not any(needle in content for needle in needles), path


def test_the_holdout_is_opened_once_and_again_only_with_a_reason(copied: Run) -> None:
    first = copied.test()
    assert set(first) == {"test_loss", "test_accuracy", "test_f1"}
    with pytest.raises(HoldoutOpened, match="were read before"):
        open_run(copied.path).test()
    assert open_run(copied.path).test(again=True, reason="a reviewer asked") == first
    ledger = [
        json.loads(line) for line in (copied.path / "holdout" / "ledger.jsonl").read_text().splitlines()
    ]
    assert [entry["reason"] for entry in ledger if "reason" in entry] == [None, "a reviewer asked"]


def test_the_test_loss_is_that_of_the_winner_on_the_test_rows(copied: Run) -> None:
    import torch

    rows = prepare(copied.job).test
    with torch.inference_mode():
        outputs = copied.load_model()(torch.tensor(rows.x))
    loss = torch.nn.functional.cross_entropy(outputs, torch.tensor(rows.y))
    assert copied.test()["test_loss"] == pytest.approx(loss.item(), rel=1e-5)


# Trials that fail

FAILING = """
    import os, signal, pathlib
    import torch
    from torch import nn

    def broken(input_shape, outputs, how, folder="."):
        print("a model that is to", how)
        if how == "raise":
            raise RuntimeError("the user's own fault")
        if how == "memory":
            raise MemoryError("out of memory, in earnest")
        if how == "shape":
            return nn.Linear(input_shape[0], outputs + 1)
        model = nn.Linear(input_shape[0], outputs)
        if how == "nan":
            with torch.no_grad():
                model.weight.fill_(float("nan"))
        return Dying(model, how, pathlib.Path(folder))

    class Dying(nn.Module):
        def __init__(self, inner, how, folder):
            super().__init__()
            self.inner, self.how, self.folder, self.epochs = inner, how, folder, 0

        def train(self, mode=True):
            self.epochs += mode
            once = self.folder / "died"
            if mode and self.epochs > 3 and self.how == "die_once" and not once.exists():
                once.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if mode and self.epochs > 3 and self.how == "exit":
                raise SystemExit(0)
            if mode and self.epochs > 7 and self.how == "late_nan":
                with torch.no_grad():
                    self.inner.weight.fill_(float("nan"))
            return super().train(mode)

        def forward(self, x):
            return self.inner(x)
"""


def failing(*how: str, **changes: Any) -> dict[str, Any]:
    search = only_search(**{"lr": 0.01, "model.how": {"values": list(how)}})
    return {
        "model/name": "user_code:broken",
        "training/metrics": [],
        "scheduler/method": "none",
        **search,
        **changes,
    }


FAULTS = ("raise", "memory", "shape", "nan", "late_nan", "exit", "die_once", "fine")


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a run with a trial for each fault, at a learning rate at which a sound training succeeds."""
    folder = tmp_path_factory.mktemp("faulty")
    changes = failing(*FAULTS, **{"model/arguments": {"folder": str(folder)}, "limits/retries_per_trial": 1})
    changes["search/trials"] = len(FAULTS)
    return run(job_in(folder, changes, FAILING))


def trial_of(made: Run, fault: str) -> TrialRecord:
    (found,) = (one for one in made.record.trials.values() if one.configuration["model.how"] == fault)
    return found


def deaths_of(made: Run, fault: str) -> int:
    """Return the number of workers that the trial has lost."""
    events = read_journal(RunFolder(made.path).journal)
    trial_id = trial_of(made, fault).trial_id
    return sum(isinstance(event, WorkerLost) and event.trial_id == trial_id for event in events)


def test_a_failed_trial_is_one_row_with_its_reason_and_the_others_continue(faulty: Run) -> None:
    trials = faulty.trials.set_index("config.model.how")
    sound = {"die_once": "completed", "fine": "completed"}
    assert dict(trials["status"]) == {fault: sound.get(fault, "failed") for fault in FAULTS}
    assert "RuntimeError: the user's own fault" in trials["reason"]["raise"]
    assert "out of memory, in earnest" in trials["reason"]["memory"]
    assert "2" in trials["reason"]["shape"]
    assert "nan at epoch 1" in trials["reason"]["nan"]
    in_one_worker = ("raise", "memory", "shape", "nan", "late_nan", "exit")
    assert len({trial_of(faulty, fault).worker for fault in in_one_worker} - {""}) <= 1, "workers were lost"


def test_what_each_trial_prints_is_kept_and_shown(faulty: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Also if it fails, if its worker is killed, and if another worker continues it."""
    for fault in FAULTS:
        printed = (faulty.path / "output" / f"{trial_of(faulty, fault).trial_id}.log").read_text()
        assert set(printed.splitlines()) == {f"a model that is to {fault}"}
    assert main(["show", str(faulty.path), "--trial", trial_of(faulty, "raise").trial_id]) == 0
    shown = capsys.readouterr().out
    assert f"output (output/{trial_of(faulty, 'raise').trial_id}.log, all):" in shown
    assert "  a model that is to raise" in shown


def test_a_training_that_diverges_late_never_wins_though_its_first_epochs_were_good(faulty: Run) -> None:
    late = trial_of(faulty, "late_nan")
    assert late.status is Status.FAILED
    assert faulty.trials.set_index("config.model.how")["score"]["late_nan"] > 0, "it had finite epochs before"
    assert faulty.winner.configuration["model.how"] in {"fine", "die_once"}


def test_a_trial_that_calls_exit_is_a_failed_one(faulty: Run) -> None:
    assert "called sys.exit(0)" in trial_of(faulty, "exit").reason


def test_a_trial_whose_worker_was_killed_continues_from_the_last_checkpoint(faulty: Run) -> None:
    own = faulty.epochs[faulty.epochs["trial_id"] == trial_of(faulty, "die_once").trial_id]
    assert list(own["epoch"]) == list(range(1, 10))
    assert deaths_of(faulty, "die_once") == 1
    straight = [r.metrics["val_loss"] for r in train_one(faulty.job, {"lr": 0.01, "model.how": "fine"})]
    assert list(own["val_loss"]) == straight, "the curve of a killed and resumed trial differs"


def test_a_trial_that_hangs_loses_its_worker(tmp_path: Path) -> None:
    limits = {"limits/retries_per_trial": 0, "limits/minutes_per_epoch": 0.05, "scheduler/method": "none"}
    changes = lines(("hang_once", 0.0), ("", 0.0), **limits, **{"slope/folder": str(tmp_path)})
    trials = run(line_in(tmp_path, changes)).trials.set_index("config.how")
    assert dict(trials["status"]) == {"hang_once": "failed", "": "completed"}
    assert "no epoch for" in trials["reason"]["hang_once"]


def test_a_run_without_a_success_fails_with_the_commonest_reason(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="told to fail at epoch 1") as raised:
        run(line_in(tmp_path, {"slope/fail_at": 1, "search/trials": 1}))
    failed = open_run(raised.value.path)
    assert failed.winner_id is None
    assert list(failed.trials["status"]) == ["failed"]
    assert "Traceback" in next(iter(failed.record.trials.values())).details


def test_a_run_stops_if_its_first_trials_all_fail_alike(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"the first \d trials all failed in .*slope\.py, line \d+") as raised:
        run(line_in(tmp_path, {"slope/fail_at": 1, "search/trials": 48}))
    stopped = open_run(raised.value.path)
    assert stopped.ending is Ending.LIKE_FAILURES
    assert len(stopped.trials) < 12
    assert "told to fail at epoch 1" in str(raised.value)


# Search, schedulers and limits


def test_the_command_of_such_a_run_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = line_in(tmp_path, {"search/space": {"rate": 1e30}, "search/method": "grid", "search/trials": 1})
    file = tmp_path / "job.yaml"
    file.write_text(job.to_yaml())
    assert main(["run", str(file)]) == 1
    captured = capsys.readouterr()
    assert "no trial succeeded. The most common reason, in 1 of 1 failed trials: the" in captured.err
    assert captured.out.rstrip().splitlines()[-1].startswith("run: ")


@pytest.mark.parametrize("method", ["asha_stopping", "median", "none"])
def test_schedulers(tmp_path: Path, method: str) -> None:
    made = run(line_in(tmp_path, {"scheduler": {"method": method}, "search/trials": 16}))
    statuses = set(made.trials["status"])
    assert statuses == ({"completed"} if method == "none" else {"completed", "stopped_early"})


def test_the_same_seed_proposes_the_same_with_one_worker(tmp_path: Path) -> None:
    def curves(**changes: Any) -> pd.DataFrame:
        made = run(
            line_in(tmp_path, {"search/method": "gp", "search/trials": 12, "slope/epochs": 3, **changes})
        )
        assert len(made.trials) == 12
        return made.epochs.drop(columns="seconds")

    first = curves(seed=5)
    assert first.equals(curves(seed=5))


def test_another_seed_proposes_others(tmp_path: Path) -> None:
    lines = [line_in(tmp_path, {"slope/epochs": 1, "search/trials": 2, "seed": seed}) for seed in (5, 6)]
    first, second = (run(job).trials["config.rate"] for job in lines)
    assert not first.equals(second)


def test_the_time_limit_ends_the_run_in_order(tmp_path: Path) -> None:
    changes = {"slope": {"pause": 0.2, "epochs": 100_000}, "limits/minutes": 0.1}
    made = run(line_in(tmp_path, {**changes, "scheduler": {"method": "none"}}))
    assert made.ending is Ending.TIME_LIMIT
    assert set(made.trials["status"]) == {"stopped_early"}
    assert set(made.trials["reason"]) == {Ending.TIME_LIMIT.sentence}
    assert made.winner.checkpoint.is_file()


def test_too_many_gpus_are_refused_before_a_trial_waits(make_job: MakeJob) -> None:
    with pytest.raises(ResourceError, match=r"resources\.gpus_per_trial: a trial asks for 64"):
        run(make_job({"resources/gpus_per_trial": 64}))


def test_events_are_in_order(finished: Run) -> None:
    events = read_journal(RunFolder(finished.path).journal)
    assert [event.type for event in events[:2]] == ["run_started", "trial_created"]
    assert [event.type for event in events[-2:]] == ["run_ended", "winner_selected"]
    assert sum(isinstance(event, TrialCreated) for event in events) == 14
