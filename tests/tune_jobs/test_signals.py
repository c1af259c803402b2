"""The effect of signals on a run at each moment. No process of the run is left."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes import PATIENCE, running, start
from tests.trainers.slope import slope_registered
from tests.trainers.slope_command import COMMAND, with_repository
from tune_jobs import open_run
from tune_jobs.record.codes import Ending
from tune_jobs.signals import Interrupts, interrupts, restore_handlers

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)

# The handlers


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_raises_until_a_result_must_be_kept(number: signal.Signals) -> None:
    with interrupts() as asked, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    assert asked.requested


def test_a_run_that_was_started_with_nohup_outlives_its_terminal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupts() as asked:
            signal.raise_signal(signal.SIGHUP)
            assert not asked.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_deferred_signal_is_asked_for() -> None:
    with interrupts() as asked:
        asked.defer()
        assert not asked.requested
        signal.raise_signal(signal.SIGINT)
        assert asked.requested


def test_a_signal_whose_exception_was_swallowed_is_not_forgotten() -> None:
    with interrupts() as asked:
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException:  # the user's code
            assert asked.requested
        with pytest.raises(KeyboardInterrupt):
            asked.defer()


def test_handlers_are_as_before_whatever_ray_has_made_of_them() -> None:
    before = [signal.getsignal(number) for number in NUMBERS]
    with interrupts():
        assert signal.getsignal(signal.SIGTERM) != before[1]
        signal.signal(signal.SIGUSR1, lambda *_: None)
        with restore_handlers():
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))
    assert [signal.getsignal(number) for number in NUMBERS] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_threads_touch_no_handler() -> None:
    before = [signal.getsignal(number) for number in NUMBERS]
    seen: list[object] = []

    def work() -> None:
        with interrupts() as asked, restore_handlers():
            seen.extend([asked.requested, *(signal.getsignal(number) for number in NUMBERS)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False, *before]


SLEEPER = """
import sys, time
from tune_jobs.signals import interrupts
with interrupts() as asked:
    asked.defer()
    print("ready", flush=True)
    while not asked.requested:
        time.sleep(0.01)
    print("first", flush=True)
    {busy}
"""


@pytest.mark.parametrize(
    "busy",
    [
        "time.sleep(10_000)",
        "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)",  # no handler is called meanwhile
    ],
)
def test_a_second_signal_ends_the_process_at_once(busy: str) -> None:
    command = [sys.executable, "-c", SLEEPER.format(busy=busy)]
    with running(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "first\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        assert process.stdout.read() == ""


def test_interrupts_alone_handle_nothing() -> None:
    assert not Interrupts().requested


# Whole runs

JOB = """
name: tiny
slope: {epochs: 300, pause: 0.05}
scheduler: {method: none}
search: {space: {rate: {low: 1e-3, high: 0.5, log: true}}, method: gp, trials: 50}
selection: {metric: error}
resources: {max_concurrent: 1}
"""
"""The processes of a run are the same for every kind of training."""
SECONDS_BETWEEN_LOOKS = 0.1
"""Seconds between two looks at all processes of the machine, which are costly."""
Process = tuple[int, str]
"""A process id and the start of the process: ids are used again."""


def stat(process: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on, or none if the process has ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def is_there(process: Process) -> bool:
    now = stat(process[0])
    return bool(now) and now[0] != "Z" and now[19] == process[1]


class Driver:
    """`tune-jobs run` in a separate process, and all its descendants."""

    def __init__(self, folder: Path) -> None:
        (folder / "job.yaml").write_text(JOB)
        self.storage = folder / "runs"
        self.family: dict[Process, str] = {}
        self.process = start(
            [*COMMAND, "run", "job.yaml"],
            cwd=folder,
            env=with_repository(os.environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, reached: Callable[["Driver"], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self.note_processes()
            if reached(self):
                return
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(SECONDS_BETWEEN_LOOKS)
        raise AssertionError(sorted(self.family.values()))

    def note_processes(self) -> None:
        """Record the descendants of the driver. Those that have lost their parent stay known."""
        known = {self.process.pid, *(process for process, _ in self.family)}
        rows = {
            int(path.name): stat(int(path.name)) for path in Path("/proc").iterdir() if path.name.isdecimal()
        }
        for _ in range(4):  # generations
            for process, row in rows.items():
                if row and int(row[1]) in known and process not in known:
                    known.add(process)
                    self.family[process, row[19]] = name_of(process)

    def end(self) -> tuple[int, str, str]:
        while True:
            self.note_processes()
            try:
                output, errors = self.process.communicate(timeout=0.1)
            except subprocess.TimeoutExpired:
                continue
            return self.process.returncode, output, errors

    def left_over(self) -> list[str]:
        """Return the processes that still run after they had time to end."""
        deadline = time.monotonic() + PATIENCE
        while any(map(is_there, self.family)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return [name for process, name in self.family.items() if is_there(process)]

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        for process in filter(is_there, self.family):
            os.kill(process[0], signal.SIGKILL)


def name_of(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    started = Driver(tmp_path)
    yield started
    started.close()


def has_reported(driver: Driver) -> bool:
    return any("epochs_reported" in path.read_text() for path in driver.storage.glob("*/journal/*.jsonl"))


def has_agents(driver: Driver) -> bool:
    """Wait until Ray is about to start: its agents exist, and no worker runs."""
    return sum("agent" in name for name in driver.family.values()) > 2  # raylet names them, too


@pytest.mark.slow
@pytest.mark.parametrize("reached", [has_agents, has_reported])
def test_a_killed_driver_leaves_no_process(driver: Driver, reached: Callable[[Driver], bool]) -> None:
    driver.wait_for(reached)
    driver.process.kill()
    driver.process.wait()
    assert driver.left_over() == []


@pytest.mark.slow
def test_a_signal_while_ray_starts_leaves_nothing(driver: Driver) -> None:
    driver.wait_for(has_agents)
    driver.process.send_signal(signal.SIGTERM)
    code, _, errors = driver.end()
    assert (code, errors) == (130, "tune-jobs: interrupted\n")
    assert not driver.storage.exists()
    assert driver.left_over() == []


@pytest.mark.slow
def test_a_second_signal_ends_a_run_at_once_and_it_can_be_opened(driver: Driver) -> None:
    driver.wait_for(has_reported)
    driver.process.send_signal(signal.SIGTERM)
    driver.process.send_signal(signal.SIGINT)
    code, _, errors = driver.end()
    assert code == 130
    assert "Traceback" not in errors
    (path,) = driver.storage.iterdir()
    with slope_registered():
        assert open_run(path).ending in {None, Ending.INTERRUPTED}
    assert driver.left_over() == []
