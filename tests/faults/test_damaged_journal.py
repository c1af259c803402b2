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


# Lines that are lost, doubled, moved or joined


def other_lines(chance: random.Random, lines: list[bytes], other: list[bytes]) -> tuple[str, list[bytes]]:
    """Return the name of a change of lines, and the lines after it; `other` is the journal of another run."""
    first, second = sorted(chance.sample(range(len(lines)), 2))
    before, between, after = lines[:first], lines[first + 1 : second], lines[second + 1 :]
    changes = {
        "lost": [*before, *lines[first + 1 :]],
        "doubled": [*before, lines[first], *lines[first:]],
        "swapped": [*before, lines[second], *between, lines[first], *after],
        "moved": [*before, *between, lines[second], lines[first], *after],
        "joined in the middle": [*lines[: first + 1], *other[first + 1 :]],
        "joined": [*lines, *other],
        "joined to itself": [*lines[:second], *lines[first:]],
        "several lost": [*before, *lines[second:]],
    }
    how = chance.choice(list(changes))
    return how, changes[how]


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return another run of the same job."""
    return run(line_in(tmp_path_factory.mktemp("another"), {"search/trials": 14}))


def lines_of(made: Run) -> list[bytes]:
    return RunFolder(made.path).journal.read_bytes().splitlines(keepends=True)


def test_no_line_is_lost_doubled_moved_or_joined_in_silence(
    undisturbed: Run, another: Run, tmp_path: Path
) -> None:
    tally = Tally("lines of a journal lost, doubled, moved or joined, then read")
    chance = random.Random(None if CHAOS else 8)
    lines, other, path = lines_of(undisturbed), lines_of(another), tmp_path / "events.jsonl"
    sound = [event.to_mapping() for event in read_journal(RunFolder(undisturbed.path).journal)]
    for _ in range(DAMAGED):
        how, changed = other_lines(chance, lines, other)
        path.write_bytes(b"".join(changed))
        same = next((n for n, pair in enumerate(zip(lines, changed, strict=False)) if pair[0] != pair[1]), -1)
        tally.injected += 1
        if changed == lines[: len(changed)]:  # as after a kill: its events happen again
            assert [event.to_mapping() for event in read_journal(path)] == sound[: len(changed)]
            tally.outcomes["the end was lost, as by a kill"] += 1
            continue
        with pytest.raises(DamagedRun) as caught:
            read_journal(path)
        named = re.search(r"line (\d+) of", str(caught.value))
        assert named is not None, how
        assert int(named[1]) == (same if same >= 0 else len(lines)) + 1, how
        tally.outcomes[f"{how}: the line was named"] += 1
    tally.report()


COMMANDS = ("show", "list", "report", "resume", "repair", "test", "repair --cut", "show")
"""Commands in an order in which each but the last two meets the damage."""


def test_every_command_notices_a_changed_line(
    undisturbed: Run, another: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tally = Tally("a journal with changed lines or bytes, then each command")
    chance = random.Random(None if CHAOS else 9)
    lines, other = lines_of(undisturbed), lines_of(another)
    for number in range(60 if CHAOS else 4):
        how, changed = other_lines(chance, lines, other)
        if number % 2:
            how, content = "a byte", bytearray(b"".join(lines))
            content[chance.randrange(len(lines[0]), len(content) - 1)] ^= 1 << chance.randrange(1, 8)
            changed = bytes(content).splitlines(keepends=True)
        if changed == lines[: len(changed)] or changed[0] != lines[0]:
            continue
        tally.injected += 1
        made = tmp_path / f"{number}" / "run"
        shutil.copytree(undisturbed.path, made)
        RunFolder(made).journal.write_bytes(b"".join(changed))
        before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
        for command in COMMANDS[:-2]:
            place = made.parent if command == "list" else made
            assert main([command, str(place)]) == (0 if command == "list" else 1), (how, command)
            said = capsys.readouterr()
            assert ("damaged" in said.out) if command == "list" else (f"{made}/journal/" in said.err), (
                how,
                command,
            )
            assert {path: path.read_bytes() for path in made.rglob("*") if path.is_file()} == before
        for command in COMMANDS[-2:]:
            name, *options = command.split()
            assert main([name, str(made), *options]) == 0, (how, command, capsys.readouterr().err)
        assert lines_of(open_run(made)) == lines[: len(lines_of(open_run(made)))]
        tally.outcomes[how] += 1
        shutil.rmtree(made.parent)
    tally.report()
