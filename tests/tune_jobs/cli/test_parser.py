"""The remaining arguments of a call: overrides of the job, misspelt options, and arguments that no command takes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tune_jobs.cli.conftest import Call

WriteJob = Callable[..., Path]


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
