"""Drivers that are killed at random moments, and again while they resume: every run ends like an undisturbed one."""

import random
import shutil
from pathlib import Path

import pytest

from tests.faults.injection import CHAOS, Tally
from tests.faults.killing import (
    CommandLine,
    Undisturbed,
    count_lost,
    kill_after,
    kill_at,
    reported,
    same_tables,
)
from tune_jobs import open_run
from tune_jobs.record.codes import Ending
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import read_journal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.usefixtures("small_kind")]

KILLS = 50 if CHAOS else 2
AGAIN = 0.4
"""Share of the runs that are killed again while they resume."""


def test_whenever_the_driver_is_killed_the_run_ends_as_it_would_have(
    home: Path, ray_folder: Path, undisturbed: Undisturbed
) -> None:
    """Kill at random moments in the full form, and otherwise at random events: times mean little on a busy machine."""
    tally = Tally("driver killed (kill -9), some again while they resumed")
    chance = random.Random(None if CHAOS else 8)
    number = -1
    events = len(read_journal(RunFolder(undisturbed.made.path).journal))
    while tally.injected < KILLS:
        number += 1
        command = CommandLine(home, home / f"killed-{number}", ray_folder)
        at = chance.uniform(0, undisturbed.seconds) if CHAOS else chance.randint(1, events)
        killed = kill_after(command.run(), at) if CHAOS else kill_at(command.run(), command, int(at))
        tally.injected += killed
        path = command.made()
        if path is None:  # no half-made file disturbs a new run
            tally.outcomes["had not begun"] += 1
            continue
        before = dict(reported(path))
        if chance.random() < AGAIN:
            again = (
                kill_after(command.resume(), chance.uniform(0, undisturbed.seconds))
                if CHAOS
                else kill_at(command.resume(), command, chance.randint(command.events, events))
            )
            before = {**reported(path), **before}
            tally.injected += again
            tally.outcomes["resumed again"] += again
        code = command.resume().wait()
        made = open_run(path)
        lost = count_lost(before, made)
        tally.results_lost += lost
        right = code == 0 and made.ending is Ending.ALL_TRIALS and same_tables(made, undisturbed.made)
        assert right, f"killed at {at}: {path}\n{command.said}"
        assert lost == 0, f"killed at {at}: {path}"
        tally.outcomes["ended bit for bit as an undisturbed run"] += killed
        shutil.rmtree(path)
    tally.report()
    assert tally.outcomes["ended bit for bit as an undisturbed run"] > 0
