"""The command line, as far as it needs no Ray: what it prints, and with which exit code it ends."""

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tune_jobs.checkpoints.store import CheckpointStore
from tune_jobs.cli.cluster_commands import ADDRESS_VARIABLE, address_to_resume
from tune_jobs.cli.main import main
from tune_jobs.driver.lifecycle import conclude
from tune_jobs.driver.preparation import make_folder, prepare, run_started, trial_task
from tune_jobs.holdout import rows as holdout
from tune_jobs.job.job import Job
from tune_jobs.record.events import (
    CheckpointWritten,
    Ending,
    EpochsReported,
    Status,
    TrialCreated,
    TrialEnded,
    TrialStarted,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal, read_journal
from tune_jobs.record.live import LiveRun
from tune_jobs.record.run_record import RunRecord
from tune_jobs.worker.trial import make_trainer

MakeRun = Callable[..., RunFolder]
WriteJob = Callable[..., Path]
Call = Callable[..., tuple[int, list[str], str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Calls the command line in `tmp_path`, 80 columns wide: exit code, lines of output, text of errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def run_command(*arguments: object) -> tuple[int, list[str], str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit_:  # argparse leaves by itself
            code = int(exit_.code or 0)
        captured = capsys.readouterr()
        return code, [line.rstrip() for line in captured.out.splitlines()], captured.err

    return run_command


# Wrong calls


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["rnu", "job.yaml"], "invalid choice: 'rnu'"),
        (["run"], "the following arguments are required: JOB"),
        (["validate"], "the following arguments are required: JOB"),
        (["show"], "the following arguments are required: RUN"),
        (["show", "runs", "--most", "few"], "--most: given 'few'; valid: a whole number of at least 0"),
        (["show", "runs", "--most", "-1"], "--most: given '-1'; valid: a whole number of at least 0"),
        (["test", "runs", "--reason"], "argument --reason: expected one argument"),
    ],
)
def test_a_wrong_call_ends_with_2_and_says_what_is_missing(
    call: Call, arguments: list[str], said: str
) -> None:
    code, output, errors = call(*arguments)
    assert (code, output) == (2, [])
    assert said in errors
    assert errors.startswith("usage: tune-jobs")


@pytest.mark.parametrize(
    "command",
    [
        "show", "watch", "list", "test", "report", "dashboard", "repair", "import-sweep",
        "status", "logs", "stop", "fetch",
    ],
)  # fmt: skip
def test_commands_without_overrides_refuse_them(call: Call, command: str) -> None:
    code, output, errors = call(command, "runs", "--search.trials", "3")
    assert (code, output) == (2, [])
    assert errors == (
        "tune-jobs: the command line: 1 problem\n"
        f"  --search.trials  not understood; see `tune-jobs {command} --help`\n"
    )


@pytest.mark.parametrize(
    ("arguments", "given", "meant"),
    [
        ("submit job.yaml --addres http://127.0.0.1:1", "--addres", "--address"),
        ("submit job.yaml --adress=http://127.0.0.1:1 --seed 3", "--adress", "--address"),
        ("submit job.yaml -include rows.csv", "-include", "--include"),
        ("run job.yaml --addres 127.0.0.1:1", "--addres", "--address"),
        ("resume runs/a --search.trials 3 --addres http://127.0.0.1:1", "--addres", "--address"),
        ("status --adress http://127.0.0.1:1", "--adress", "--address"),
        ("logs a --folow", "--folow", "--follow"),
        ("show runs/a --trail 3", "--trail", "--trial"),
        ("test runs/a --again --reasons x", "--reasons", "--reason"),
    ],
)
def test_a_misspelt_option_is_no_override(call: Call, arguments: str, given: str, meant: str) -> None:
    code, output, errors = call(*arguments.split())
    assert (code, output) == (2, [])
    command, *_ = arguments.split()
    assert errors == (
        "tune-jobs: the command line: 1 problem\n"
        f"  {given}  no option of `tune-jobs {command}`; did you mean {meant}?\n"
    )


def test_a_misspelt_key_of_a_job_is_one_of_the_job(call: Call, write_job: WriteJob) -> None:
    code, _, errors = call("submit", write_job(), "--seeds", "3")
    assert code == 2
    assert "unknown key; did you mean 'seed'?" in errors


def test_run_is_told_from_submit_by_what_its_address_is(call: Call) -> None:
    code, output, errors = call("run", "job.yaml", "--address", "http://127.0.0.1:8265")
    assert (code, output) == (2, [])
    assert errors == (
        "tune-jobs: --address http://127.0.0.1:8265: `run` joins the Ray at HOST:PORT, from a machine of the cluster; "
        "`tune-jobs submit JOB --address http://127.0.0.1:8265` sends the job there\n"
    )


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("search.trails", "data.source; did you mean 'search.trials'?\n"),
        ("limits.minuts", "data.source; did you mean 'limits.minutes'?\n"),
        ("model.name", "data.source\n"),
    ],
)
def test_a_key_that_cannot_change_is_refused_before_a_cluster_is_asked(
    call: Call, key: str, said: str
) -> None:
    code, output, errors = call(
        "resume", "/shared/a-1-abcd", "--address", "http://127.0.0.1:1", f"--{key}", "3"
    )
    assert (code, output) == (2, [])
    assert errors.startswith("tune-jobs: resume a-1-abcd: 1 problem\n")
    assert (
        f"  {key}  no key that can change in a run that has begun; those are search.trials, limits, "
        in errors
    )
    assert errors.endswith(said)


def test_a_message_has_no_letter_that_a_terminal_obeys(call: Call) -> None:
    code, output, errors = call("validate", "\x1b[2J\x07job\u202e.yaml\udcff")
    assert (code, output) == (2, [])
    assert "  \\x1b[2J\\x07job\\u202e.yaml\\udcff  no such file" in errors


def test_a_letter_that_the_output_lacks_is_spelled_out(make_run: Callable[..., RunFolder]) -> None:
    run = make_run([{"losses": [0.5], "configuration": {"lr": 0.1, "größe": "日本"}}])
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for command in ("show", "watch"):
        shown = subprocess.run(
            [sys.executable, "-m", "tune_jobs", command, str(run.path)],
            capture_output=True, env=environment, timeout=60, check=True,
        )  # fmt: skip
        assert b"gr\\xf6\\xdfe=\\u65e5\\u672c" in shown.stdout


@pytest.mark.parametrize("command", ["run", "validate", "train"])
def test_overrides_that_are_none_are_listed(call: Call, write_job: WriteJob, command: str) -> None:
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
def test_a_file_that_is_not_there_ends_with_2(call: Call, tmp_path: Path, command: str) -> None:
    code, output, errors = call(command, "jbo.yaml")
    assert (code, output) == (2, [])
    assert errors == (
        f"tune-jobs: the job file: 1 problem\n  jbo.yaml  no such file; the current folder is {tmp_path}\n"
    )


def test_help_names_every_command(call: Call) -> None:
    code, output, _ = call("--help")
    assert code == 0
    listed = {line.split()[0] for line in output if re.match(r"    \w", line)}
    assert listed >= {"run", "validate", "train", "show", "list", "test", "report", "import-sweep"}


# validate


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
        "           of 10 trials at most 3 go on after epoch 2, 1 after epoch 6",
        "selection  min val_loss on validation rows",
    ]
    assert list(tmp_path.iterdir()) == [path]


# train


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


# show and list


TRIALS: list[Mapping[str, Any]] = [
    {"losses": [0.5, 0.25], "configuration": {"lr": 0.5, "model.act": "[red]"}},
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
        "0000   completed          0.25  2 of 2  lr=0.5 model.act=[red]",
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
        f"3 trials ended; its process was killed; `tune-jobs resume {folder.path}` goes on",
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


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that nobody can read")
def test_an_error_of_the_system_is_one_line_and_1(call: Call, make_run: MakeRun) -> None:
    folder = make_run(TRIALS)
    folder.journal.unlink()
    folder.journal.symlink_to("/proc/self/mem")
    assert call("show", folder.path) == (1, [], "tune-jobs: [Errno 5] Input/output error\n")


# test


@pytest.fixture
def trained_run(make_sections: Callable[..., dict[str, Any]], tmp_path: Path) -> RunFolder:
    """A run of two real trainings with sealed test rows, made by the driver's own parts without Ray."""
    changes = {"training/max_epochs": 2, "storage": str(tmp_path / "runs")}
    job = Job.from_mapping(make_sections(changes), tmp_path)
    prepared = prepare(job)
    folder = make_folder(job, prepared)
    record, task = RunRecord(job.selection), trial_task(job, folder)
    with Journal(folder.journal, record.apply) as journal:
        journal.append(run_started(job, prepared.report))
        for number, lr in enumerate([0.01, 0.1]):
            trial_id = f"{number:04d}"
            journal.append(TrialCreated(trial_id=trial_id, number=number, configuration={"lr": lr}))
            journal.append(TrialStarted(trial_id=trial_id))
            trainer = make_trainer({"lr": lr}, task, prepared.for_trials())
            results = [result.to_mapping() for result in trainer.epochs()]
            file = CheckpointStore(folder.checkpoints, trial_id).save(trainer)
            journal.append(EpochsReported(trial_id=trial_id, results=results, worker="here:1"))
            journal.append(CheckpointWritten(trial_id=trial_id, epoch=2, file=f"checkpoints/{file}"))
            journal.append(
                TrialEnded(trial_id=trial_id, status=Status.COMPLETED, reason="all epochs are done")
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


def test_a_checkpoint_that_cannot_be_read_costs_no_look(call: Call, trained_run: RunFolder) -> None:
    winner = json.loads(trained_run.selection.read_text())["winner"]
    (trained_run.path / winner["checkpoint"]).write_bytes(b"gone")
    code, _, errors = call("test", trained_run.path)
    assert code == 1
    assert "is damaged or no checkpoint" in errors
    assert holdout.read_ledger(trained_run) == []


def test_a_run_that_has_not_ended_has_no_winner_to_test(call: Call, make_run: MakeRun) -> None:
    folder = make_run(TRIALS, ending=None)
    code, _, errors = call("test", folder.path)
    assert code == 2
    assert errors == f"tune-jobs: {folder.path}: the run has not ended, so nothing is selected yet\n"
    folder = make_run(TRIALS[2:])
    code, _, errors = call("test", folder.path)
    assert code == 2
    assert errors == f"tune-jobs: {folder.path}: there is no winner, since no trial succeeded\n"


# import-sweep


def test_a_sweep_is_printed_as_a_job_file_to_the_letter(call: Call, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(
        textwrap.dedent(
            """\
            method: random
            name: mine
            parameters:
              lr: {distribution: log_uniform_values, min: 1e-4, max: 0.1}
              model.act: {values: ["[red]", ":bug:", "[/]"]}
            """
        )
    )
    code, output, errors = call("import-sweep", "sweep.yaml")
    assert (code, errors) == (0, "")
    assert output[0] == "name: mine"
    assert '      - "[red]"' in output
    assert '      - ":bug:"' in output
    assert '      - "[/]"' in output


def test_a_sweep_that_is_none_ends_with_2(call: Call, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text("method: guess\nparameters: {lr: {min: 0}}\n")
    code, output, errors = call("import-sweep", "sweep.yaml")
    assert (code, output) == (2, [])
    assert errors.startswith("tune-jobs: method: guess is not a method; valid are bayes, random, grid")


@pytest.mark.parametrize(
    ("run", "given", "where"),
    [
        ("small-20260101T000000Z-abcd", None, "http://127.0.0.1:1"),
        ("small-20260101T000000Z-abcd", "10.0.0.1:6379", "10.0.0.1:6379"),
        ("runs/small-20260101T000000Z-abcd", None, None),
        ("s3://bucket/runs/small-20260101T000000Z-abcd", None, None),
        (".", None, None),
    ],
)
def test_what_is_no_run_here_is_resumed_where_the_environment_says(
    run: str, given: str | None, where: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ADDRESS_VARIABLE, "http://127.0.0.1:1")
    assert address_to_resume(run, given) == where
    monkeypatch.delenv(ADDRESS_VARIABLE)
    assert address_to_resume(run, given) == given
