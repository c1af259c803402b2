"""Journals that are cut short or have flipped bits: the same events, fewer by a torn line, or one clear error."""

import random
import re
import shutil
from pathlib import Path

import pytest

from tests.faults.injection import CHAOS, Tally
from tests.faults.killing import CommandLine, Undisturbed, count_lost, reported, same_tables
from tune_jobs import open_run
from tune_jobs.errors import DamagedRun
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import read_journal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

DAMAGED = 500 if CHAOS else 50
RESUMED = 10 if CHAOS else 1


def test_no_damage_to_a_journal_is_taken_for_other_events(undisturbed: Undisturbed, tmp_path: Path) -> None:
    tally = Tally("journal cut or with flipped bits, then read")
    chance = random.Random(None if CHAOS else 4)
    events = read_journal(RunFolder(undisturbed.made.path).journal)
    content = RunFolder(undisturbed.made.path).journal.read_bytes()
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
            whole = bytes(damaged).count(b"\n")
            assert len(read) in {whole, whole - 1}
            assert [event.to_mapping() for event in read] == [
                event.to_mapping() for event in events[: len(read)]
            ]
            tally.outcomes["a torn last line was left out"] += 1
    tally.report()


@pytest.mark.parametrize("how", ["cut short", "with a flipped bit, repaired with --cut"])
def test_a_damaged_run_is_resumed_to_the_same_tables(
    how: str, home: Path, ray_folder: Path, undisturbed: Undisturbed
) -> None:
    tally = Tally(f"journal {how}, then resumed")
    chance = random.Random(None if CHAOS else 6)
    for number in range(RESUMED):
        command = CommandLine(home, home / f"damaged-{len(how)}-{number}", ray_folder)
        made = command.storage / "run"
        shutil.copytree(undisturbed.made.path, made)
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
            if content.index(b"\n", place - 1) + 1 < len(content):
                assert _resume(command) == 1, command.said
                assert "--cut" in command.said
                assert command.start("repair", str(made), "--cut").wait() == 0, command.said
        assert _resume(command) == 0, command.said
        resumed = open_run(made)
        tally.results_lost += count_lost(before, resumed)
        assert same_tables(resumed, undisturbed.made), made
        assert count_lost(before, resumed) == 0
        tally.outcomes["ended bit for bit as an undisturbed run"] += 1
        shutil.rmtree(made)
    tally.report()


def _resume(command: CommandLine) -> int:
    return command.start("resume", str(command.storage / "run")).wait()
