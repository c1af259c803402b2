"""Drivers and processes of Ray that are killed, again while they resume: every run ends like an undisturbed one."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults.injection import CHAOS, Tally
from tests.faults.killing import (
    CommandLine,
    Results,
    Undisturbed,
    count_lost,
    kill_after,
    processes_of,
    reported,
    same_tables,
    wait_until_gone,
)
from tests.processes import wait_until
from tune_jobs import open_run
from tune_jobs.record.codes import Ending

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.usefixtures("small_kind")]

SERVERS = ("gcs_server", "raylet/raylet")
"""Processes of Ray without which a run cannot continue."""
HELPERS = ("DashboardAgent", "RuntimeEnvAgent")
TIMES = 5 if CHAOS else 1
DRIVER = "driver"
KILLED = [(name,) for name in (*SERVERS, *HELPERS)] if CHAOS else [(DRIVER, SERVERS[0], DRIVER, SERVERS[1])]
"""Processes that are killed one after the other in a run, which is resumed each time."""
DRIVERS = 50
"""Drivers that are killed in the full form."""
AGAIN = 0.4
"""Share of the runs whose driver is killed again while they resume."""


def process_called(name: str, ray: Path) -> int | None:
    for pid in processes_of(ray):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if name in line:
            return pid
    return None


def kill_at_work(name: str, command: CommandLine, driver: "subprocess.Popen[str]", events: int) -> bool:
    """Kill this process as soon as the journal has `events` lines. Return False if the run is over by then."""

    def victim() -> int | None:
        if name == DRIVER:
            return driver.pid if command.events >= events and driver.poll() is None else None
        return process_called(name, command.ray) if command.events >= events else None

    wait_until(lambda: victim() is not None or driver.poll() is not None, f"{events} events")
    found = victim()
    if found is not None:
        os.kill(found, signal.SIGKILL)
    return found is not None


@pytest.mark.parametrize("names", KILLED)
def test_whichever_process_is_killed_nothing_is_lost(
    names: Sequence[str], home: Path, ray_folder: Path, undisturbed: Undisturbed
) -> None:
    """If a process of Ray is killed, the driver ends soon with a message, or continues."""
    tally = Tally(f"Ray's {names[0].partition('/')[0]} killed (kill -9)")
    chance = random.Random(time.time_ns() if CHAOS else 5)
    for number in range(TIMES):
        command = CommandLine(home, home / f"victim-{KILLED.index(names)}-{number}", ray_folder)
        driver = command.run()
        before: Results = {}
        for name in names:
            at, said = command.events + chance.randint(5, 25), len(command.said)
            if not kill_at_work(name, command, driver, at):
                break
            code = driver.wait()
            tally.injected += 1
            path = command.made()
            assert path is not None
            before = {**reported(path), **before}
            assert "Traceback" not in command.said
            tally.outcomes[f"ended with {code}, and was resumed" if code else "went on"] += 1
            if code == 0:
                break
            # If an agent dies, Ray's core ends the process at once with exit code 1.
            expected = {-signal.SIGKILL} if name == DRIVER else {130, 1} if name in HELPERS else {130}
            assert code in expected, command.said
            assert code != 130 or "`tune-jobs resume" in command.said[said:]
            assert wait_until_gone(ray_folder) == []
            driver = command.resume()
        assert driver.wait() == 0, command.said
        check_that_nothing_is_lost(command, before, undisturbed, tally)
    tally.report()
    assert CHAOS or tally.injected == len(names)


def check_that_nothing_is_lost(
    command: CommandLine, before: Results, undisturbed: Undisturbed, tally: Tally
) -> None:
    """Compare the finished run with what was reported before, and with an undisturbed run. Remove it."""
    path = command.made()
    assert path is not None
    made = open_run(path)
    lost = count_lost(before, made)
    tally.results_lost += lost
    assert lost == 0
    assert made.ending is Ending.ALL_TRIALS
    assert same_tables(made, undisturbed.made), path
    shutil.rmtree(path)


@pytest.mark.skipif(not CHAOS, reason="drivers are among the processes of the test above in the short form")
def test_whenever_the_driver_is_killed_the_run_ends_as_it_would_have(
    home: Path, ray_folder: Path, undisturbed: Undisturbed
) -> None:
    """Kill at random moments."""
    tally = Tally("driver killed (kill -9), some again while they resumed")
    chance = random.Random()
    number = -1
    while tally.injected < DRIVERS:
        number += 1
        command = CommandLine(home, home / f"killed-{number}", ray_folder)
        at = chance.uniform(0, undisturbed.seconds)
        killed = kill_after(command.run(), at)
        tally.injected += killed
        path = command.made()
        if path is None:  # no half-made file disturbs a new run
            tally.outcomes["had not begun"] += 1
            continue
        before = dict(reported(path))
        if chance.random() < AGAIN:
            again = kill_after(command.resume(), chance.uniform(0, undisturbed.seconds))
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
