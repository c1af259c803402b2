"""A job file on the command line: `validate`, `train`, and wrong jobs, which `run` refuses with the same message."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tune_jobs.cli.conftest import Call

WriteJob = Callable[..., Path]


@pytest.mark.parametrize("command", ["run", "validate", "train"])
def test_arguments_that_are_no_overrides_are_listed(call: Call, write_job: WriteJob, command: str) -> None:
    code, output, errors = call(command, write_job(), "--search.trials", "--seed")
    assert (code, output) == (2, [])
    assert errors == (
        "tune-jobs: the command line: 2 problems\n"
        "  --search.trials  has no value; write `--search.trials VALUE`\n"
        "  --seed           has no value; write `--seed VALUE`\n"
    )


@pytest.mark.parametrize("command", ["run", "validate", "train"])
def test_an_invalid_job_ends_with_2_lists_every_problem_and_leaves_nothing(
    call: Call, write_job: WriteJob, tmp_path: Path, command: str
) -> None:
    path = write_job({"data/source": "digit", "training/loss": "ms", "search/trials": 0})
    code, output, errors = call(command, path, "--scheduler.methd", "none")
    assert (code, output) == (2, [])
    assert errors.splitlines() == [
        f"tune-jobs: {path}: 4 problems",
        "  training.loss    given 'ms'; valid: mse, mae, huber, cross_entropy, binary_cross_entropy or "
        "`package.module:function`; did you mean 'mse'?",
        "  search.trials    given 0; valid: a number of at least 1",
        "  scheduler.methd  unknown key; did you mean 'method'?",
        "  data.source      given 'digit'; valid: digits, breast_cancer, wine, diabetes, linear_gaussian; a file "
        "(.parquet, .csv, .arrow, .npz); or `package.module:function`; did you mean 'digits'?",
    ]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("command", ["run", "validate", "train"])
def test_data_that_cannot_be_used_end_with_2_and_leave_nothing(
    call: Call, write_job: WriteJob, tmp_path: Path, command: str
) -> None:
    (tmp_path / "rows.csv").write_text("x,y\n1,2\n3,\n")
    path = write_job({"data": {"source": "rows.csv", "target": "y"}})
    code, output, errors = call(command, path)
    assert code == 2
    assert not any("run: " in line for line in output)
    assert errors.startswith("tune-jobs: data.")
    assert errors.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == [path, tmp_path / "rows.csv"]


@pytest.mark.parametrize("command", ["run", "validate", "train", "import-sweep"])
def test_a_missing_file_ends_with_2(call: Call, tmp_path: Path, command: str) -> None:
    code, output, errors = call(command, "jbo.yaml")
    assert (code, output) == (2, [])
    assert errors == (
        f"tune-jobs: the job file: 1 problem\n  jbo.yaml  no such file; the current folder is {tmp_path}\n"
    )


def test_validate_counts_what_would_run_and_starts_nothing(
    call: Call, write_job: WriteJob, tmp_path: Path
) -> None:
    path = write_job()
    code, output, errors = call(
        "validate", path, "--search.trials=10", "--search.space.model.hidden.values", "[[8], [8, 8]]",
        "--search.space.lr.high", "1e-1",
    )  # fmt: skip
    assert (code, errors) == (0, "")
    assert output == [
        "small: valid",
        "data       linear_gaussian: 60 train, 20 validation, 20 test rows; a row is [2]; 1 target(s)",
        "search     gp, 10 trials, 5 parameters:",
        "             lr: 0.001 to 0.1, log scale",
        "             batch_size: 8, full",
        "             optimizer: sgd, adam",
        "             momentum: 0.0 to 0.9 (when optimizer is sgd)",
        "             model.hidden: [8], [8, 8]",
        "training   at most 9 epochs a trial, 90 in all",
        "scheduler  asha: trials are compared after 2, 6 epochs",
        "           of 10 trials at most 3 continue after epoch 2, 1 after epoch 6",
        "selection  min val_loss on validation rows",
    ]
    assert list(tmp_path.iterdir()) == [path]


def test_train_prints_each_epoch_of_one_configuration(
    call: Call, write_job: WriteJob, tmp_path: Path
) -> None:
    path = write_job()
    code, output, errors = call(
        "train", path, "--training.max_epochs", "2", "--lr", "1e-2", "--model.hidden=[3]", "--momentum", "0.5"
    )  # fmt: skip
    assert (code, errors) == (0, "")
    assert output[:2] == [
        "configuration: lr=0.01 model.hidden=[3] momentum=0.5",
        "defaults are taken for: batch_size, optimizer",
    ]
    table = [line.split() for line in output[2:]]
    assert table[0] == ["epoch", "train_loss", "val_loss", "mae", "lr", "seconds"]
    assert [row[0] for row in table[1:]] == ["1", "2"]
    assert float(table[2][2]) < float(table[1][2])
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("seed", [0, 1])
def test_train_prints_the_same_numbers_for_the_same_seed(call: Call, write_job: WriteJob, seed: int) -> None:
    def curve(number: int) -> list[list[str]]:
        _, output, _ = call("train", write_job(), "--training.max_epochs", "2", "--seed", number)
        return [line.split()[:-1] for line in output[3:]]

    assert curve(seed) == curve(seed)
    assert curve(seed) != curve(seed + 1)


def test_train_refuses_a_wrong_configuration(call: Call, write_job: WriteJob) -> None:
    code, _, errors = call("train", write_job(), "--lr", "-0.1", "--optimiser", "sgd")
    assert code == 2
    assert errors == (
        "tune-jobs: the configuration: 2 problems\n"
        "  lr         given -0.1; valid: a number above 0\n"
        "  optimiser  unknown parameter; did you mean 'optimizer'?\n"
    )


def test_train_ends_with_1_when_the_training_diverges(call: Call, write_job: WriteJob) -> None:
    code, output, errors = call("train", write_job({"model": {"name": "linear"}}), "--lr", "1e30")
    assert code == 1
    assert len(output) > 2
    assert re.fullmatch(
        r"tune-jobs: the (training|validation) loss is (nan|inf) at epoch \d+; lower lr .*\n", errors
    )
