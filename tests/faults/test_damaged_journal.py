"""Journals that are cut short or have flipped bits: the same events, fewer by a torn line, or one clear error."""

import random
import re
import shutil
from pathlib import Path

import pytest

from tests.faults.injection import CHAOS, Tally
from tests.faults.killing import count_lost, reported, same_tables
from tests.tune_jobs.runs import line_in
from tune_jobs import Run, open_run, run
from tune_jobs.cli.main import main
from tune_jobs.errors import DamagedRun
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import read_journal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.usefixtures("slope_kind", "ray_running"),
]

DAMAGED = 500 if CHAOS else 50
RESUMED = 10 if CHAOS else 1


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(line_in(tmp_path_factory.mktemp("undisturbed"), {"search/trials": 14}))


def test_no_damage_to_a_journal_is_taken_for_other_events(undisturbed: Run, tmp_path: Path) -> None:
    tally = Tally("journal cut or with flipped bits, then read")
    chance = random.Random(None if CHAOS else 4)
    events = read_journal(RunFolder(undisturbed.path).journal)
    content = RunFolder(undisturbed.path).journal.read_bytes()
    path = tmp_path / "events.jsonl"
    for number in range(DAMAGED):
        place = chance.randrange(len(content))
        damaged = bytearray(content[:place] if number % 2 else content)
        if not number % 2:
            damaged[place] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        tally.injected += 1
        try:
            read = read_journal(path)
        except DamagedRun as error:
            line = content[:place].count(b"\n") + 1
            named = re.search(r"line (\d+) of", str(error))
            assert named is not None
            assert int(named[1]) == line
            tally.outcomes["the line was named"] += 1
        else:
            assert not damaged.endswith(b"\n") or b"\0" in damaged or len(damaged) == place
            assert len(read) == bytes(damaged).count(b"\n") - (b"\0" in damaged)
            assert [event.to_mapping() for event in read] == [
                event.to_mapping() for event in events[: len(read)]
            ]
            tally.outcomes["a torn last line was left out"] += 1
    tally.report()


@pytest.mark.parametrize("how", ["cut short", "with a flipped bit, repaired with --cut"])
def test_a_damaged_run_is_resumed_to_the_same_tables(
    how: str, tmp_path: Path, undisturbed: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    tally = Tally(f"journal {how}, then resumed")
    chance = random.Random(None if CHAOS else 6)
    for number in range(RESUMED):
        made = tmp_path / f"{number}" / "run"
        shutil.copytree(undisturbed.path, made)
        before = reported(made)
        journal = RunFolder(made).journal
        content = bytearray(journal.read_bytes())
        begun = content.index(b"\n") + 1
        place = chance.randrange(begun, len(content))
        tally.injected += 1
        if how == "cut short":
            journal.write_bytes(content[:place])
        else:
            content[place] ^= 1 << chance.randrange(8)
            journal.write_bytes(content)
            if content.endswith(b"\n") and b"\0" not in content:
                assert main(["resume", str(made)]) == 1
                assert "--cut" in capsys.readouterr().err
                assert main(["repair", str(made), "--cut"]) == 0
        assert main(["resume", str(made)]) == 0
        resumed = open_run(made)
        tally.results_lost += count_lost(before, resumed)
        assert same_tables(resumed, undisturbed), made
        assert count_lost(before, resumed) == 0
        tally.outcomes["ended bit for bit as an undisturbed run"] += 1
        shutil.rmtree(made)
    tally.report()
