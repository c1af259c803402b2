"""Processes of Ray itself that are killed: the driver ends soon with a message, or continues, and nothing is lost."""

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.faults.injection import CHAOS, Tally
from tests.faults.killing import (
    CommandLine,
    Undisturbed,
    count_lost,
    processes_of,
    reported,
    same_tables,
)
from tests.processes import wait_until
from tune_jobs import open_run
from tune_jobs.record.codes import Ending
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import read_journal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.usefixtures("small_kind")]

SERVERS = ("gcs_server", "raylet/raylet")
"""Processes of Ray without which a run cannot continue."""
HELPERS = ("DashboardAgent", "RuntimeEnvAgent", "log_monitor")
TIMES = 5 if CHAOS else 1
KILLED = [*SERVERS, *HELPERS] if CHAOS else SERVERS


def process_called(name: str, ray: Path) -> int | None:
    for pid in processes_of(ray):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if name in line:
            return pid
    return None


@pytest.mark.parametrize("name", KILLED)
def test_whichever_process_of_ray_is_killed_nothing_is_lost(
    name: str, home: Path, ray_folder: Path, undisturbed: Undisturbed
) -> None:
    tally = Tally(f"Ray's {name.partition('/')[0]} killed (kill -9)")
    chance = random.Random(time.time_ns() if CHAOS else 5)
    events = len(read_journal(RunFolder(undisturbed.made.path).journal))
    for number in range(TIMES):
        command = CommandLine(home, home / f"victim-{KILLED.index(name)}-{number}", ray_folder)
        driver = command.run()
        at = chance.randint(1, events // 3)
        wait_until(lambda: command.events >= at or driver.poll() is not None, f"{at} events")  # noqa: B023
        victim = process_called(name, ray_folder)
        if victim is None:
            assert driver.wait() == 0
            continue
        os.kill(victim, signal.SIGKILL)
        code = driver.wait()
        tally.injected += 1
        path = command.made()
        assert path is not None
        before = reported(path)
        assert "Traceback" not in command.said
        if code:
            # If an agent dies, Ray's core ends the process at once with exit code 1.
            assert code == 130 or (code == 1 and name in HELPERS), command.said
            assert code == 1 or "`tune-jobs resume" in command.said
            assert command.resume().wait() == 0, command.said
        made = open_run(path)
        lost = count_lost(before, made)
        tally.results_lost += lost
        assert lost == 0
        assert made.ending is Ending.ALL_TRIALS
        assert same_tables(made, undisturbed.made), path
        tally.outcomes[f"ended with {code}, and was resumed" if code else "went on"] += 1
        shutil.rmtree(path)
    tally.report()
