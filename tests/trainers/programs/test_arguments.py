"""Values arrive as they were sent, whatever parser a program has."""

import argparse
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from tests.trainers.programs.test_training import request_in
from tune_jobs.trainers.errors import ProgramError
from tune_jobs.trainers.programs.arguments import write_arguments, write_environment
from tune_jobs.trainers.programs.settings import ProgramSettings
from tune_jobs.trainers.programs.training import ProgramTraining

VALUES: dict[str, Any] = {
    "lr": 1e-05,
    "n": 3,
    "m": -0.5,
    "t": "a b",
    "yes": True,
    "no": False,
    "none": None,
    "l": [64, 32],
}
FILE = Path("/p.json")


@pytest.mark.parametrize(
    ("style", "words"),
    [
        ("argparse", ["--lr=1e-05", "--n=3", "--m=-0.5", "--t=a b", "--yes", "--l", "64", "32"]),
        ("click", ["--lr=1e-05", "--n=3", "--m=-0.5", "--t=a b", "--yes", "--l=64", "--l=32"]),
        ("absl", ["--lr=1e-05", "--n=3", "--m=-0.5", "--t=a b", "--yes=True", "--no=False", "--l=64,32"]),
        (
            "fire",
            [
                "--lr=1e-05",
                "--n=3",
                "--m=-0.5",
                "--t='a b'",
                "--yes=True",
                "--no=False",
                "--none=None",
                "--l=[64,32]",
            ],
        ),
        (
            "lightning",
            [
                "--lr=1e-05",
                "--n=3",
                "--m=-0.5",
                "--t=a b",
                "--yes=true",
                "--no=false",
                "--none=null",
                "--l=[64, 32]",
            ],
        ),
        (
            "tyro",
            [
                "--lr=1e-05",
                "--n=3",
                "--m=-0.5",
                "--t=a b",
                "--yes",
                "--no-no",
                "--none=None",
                "--l",
                "64",
                "32",
            ],
        ),
        ("hydra", ["lr=1e-05", "n=3", "m=-0.5", "t='a b'", "yes=true", "no=false", "none=null", "l=[64,32]"]),
        ("json", ["/p.json"]),
        ("env", []),
    ],
)
def test_each_parser_has_its_spelling(style: Any, words: list[str]) -> None:
    assert write_arguments(style, VALUES, FILE) == words


def test_text_that_looks_like_a_number_stays_text() -> None:
    assert write_arguments("fire", {"t": "1e-3"}, FILE) == ["--t='1e-3'"]
    assert write_arguments("hydra", {"t": "it's 1,2"}, FILE) == ["t='it\\'s 1,2'"]
    assert write_environment({"t": "1e-3", "l": [1], "b": True}) == {"t": "1e-3", "l": "[1]", "b": "true"}


def test_argparse_reads_what_was_written() -> None:
    parser = argparse.ArgumentParser()
    for name, kind in (("lr", float), ("n", int), ("m", float), ("t", str), ("none", str)):
        parser.add_argument(f"--{name}", type=kind)
    for name in ("yes", "no"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--l", type=int, nargs="*")
    assert vars(parser.parse_args(write_arguments("argparse", VALUES, FILE))) == VALUES


def test_click_reads_what_was_written() -> None:
    read: dict[str, Any] = {}

    @click.command()
    @click.option("--lr", type=float)
    @click.option("--n", type=int)
    @click.option("--m", type=float)
    @click.option("--t")
    @click.option("--yes", is_flag=True)
    @click.option("--no", is_flag=True)
    @click.option("--none")
    @click.option("--l", type=int, multiple=True)
    def command(**values: Any) -> None:
        read.update(values)

    assert CliRunner().invoke(command, write_arguments("click", VALUES, FILE)).exit_code == 0
    assert {**read, "l": list(read["l"])} == VALUES


PARSED = """
import argparse, sys
from tune_jobs import trial
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--flag", TYPE)
parser.add_argument("--fixed", type=int, default=0)
options = parser.parse_args()
for epoch in trial.epochs(4):
    trial.report(val_loss=options.lr, fixed=options.fixed, flag=options.flag)
"""


def train(folder: Path, source: str, configuration: dict[str, Any], **program: Any) -> dict[str, float]:
    (folder / "main.py").write_text(source)
    request = request_in(folder, configuration=configuration)
    with ProgramTraining(ProgramSettings(**program), request) as training:
        return dict(next(training.epochs()).metrics)


@pytest.mark.parametrize(
    ("program", "fixed"),
    [
        ({"script": "main.py"}, 0),
        ({"command": ["python", "main.py", "{parameters}", "--fixed=7"]}, 7),
        ({"command": ["python", "main.py", "--fixed=7"]}, 7),
        ({"command": ["python", "-m", "main", "--fixed=7", "{parameters}"]}, 7),
    ],
)
def test_a_program_with_argparse_gets_its_values(tmp_path: Path, program: dict[str, Any], fixed: int) -> None:
    source = PARSED.replace("TYPE", "action='store_true'")
    metrics = train(tmp_path, source, {"lr": 0.25, "flag": True}, arguments="argparse", **program)
    assert metrics == {"val_loss": 0.25, "fixed": fixed, "flag": True}


def test_a_value_that_argparse_reads_as_another_is_an_error_that_names_it(tmp_path: Path) -> None:
    source = PARSED.replace("TYPE", "type=lambda text: 4")
    with pytest.raises(
        ProgramError, match="the parameter flag is 3, and argparse read 4; mend its add_argument"
    ):
        train(tmp_path, source, {"lr": 0.25, "flag": 3}, script="main.py", arguments="argparse")


def test_values_arrive_in_a_file_and_in_the_environment(tmp_path: Path) -> None:
    loop = "\nfor e in trial.epochs(4): trial.report(val_loss=lr)"
    in_file = "import json, sys\nfrom tune_jobs import trial\nlr = json.load(open(sys.argv[1]))['lr']" + loop
    assert train(tmp_path, in_file, {"lr": 0.25}, script="main.py", arguments="json") == {"val_loss": 0.25}
    in_environment = "import os\nfrom tune_jobs import trial\nlr = float(os.environ['lr'])" + loop
    assert train(tmp_path, in_environment, {"lr": 0.25}, script="main.py", arguments="env") == {
        "val_loss": 0.25
    }
