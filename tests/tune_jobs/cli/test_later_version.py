"""Every command refuses a run that another version wrote to, and changes nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tune_jobs.later import EARLIER, LATER, SAID, SAID_OF_EARLIER, write_later
from tune_jobs.cli.main import main
from tune_jobs.record.folder import RunFolder

COMMANDS = (
    "show RUN", "show RUN --trial 0", "watch RUN", "test RUN", "test RUN --again --reason why", "report RUN",
    "dashboard RUN", "repair RUN", "repair RUN --cut", "resume RUN", "resume RUN --search.trials 99",
    "fetch RUN --output fetched",
)  # fmt: skip


@pytest.fixture
def run(make_run: Callable[..., RunFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return make_run([{"losses": [2.0, 1.0]}, {"losses": [3.0]}])


@pytest.mark.parametrize("place", ["last", "in the middle"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_refuses_it(
    command: str, place: str, run: RunFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    number = write_later(run.journal, LATER["an unknown event"], place)
    before = contents(tmp_path)
    code = main([str(run.path) if word == "RUN" else word for word in command.split()])
    said = capsys.readouterr()
    assert (code, said.out) == (2, "")
    assert said.err.startswith(f"tune-jobs: {run.path}: line {number} of its journal {SAID}")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_refuses_a_journal_before_format_1(
    command: str, run: RunFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run.journal.write_bytes(EARLIER)
    before = contents(tmp_path)
    code = main([str(run.path) if word == "RUN" else word for word in command.split()])
    said = capsys.readouterr()
    assert (code, said.out) == (2, "")
    assert said.err.startswith(f"tune-jobs: {run.path}: line 1 of its journal {SAID_OF_EARLIER}")
    assert contents(tmp_path) == before


def test_list_shows_a_journal_before_format_1(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    run.journal.write_bytes(EARLIER)
    assert main(["list", "runs"]) == 0
    out = capsys.readouterr().out
    assert "earlier version" in out
    assert SAID_OF_EARLIER in " ".join(out.split())


def test_list_shows__it_beside_the_other_runs_and_says_why_it_is_not_read(
    run: RunFolder, make_run: Callable[..., RunFolder], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = make_run([{"losses": [1.0]}])
    write_later(run.journal, LATER["an unknown event"])
    before = contents(tmp_path)
    assert main(["list", "runs"]) == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert rows[run.name].split()[1:] == ["later", "version"]
    assert "done" in rows[other.name]
    assert SAID in " ".join(out.split())
    assert "damaged" not in out
    assert contents(tmp_path) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
