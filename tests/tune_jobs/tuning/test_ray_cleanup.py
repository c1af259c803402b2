"""The leftovers of a Ray are ended, and no other process, even if its driver was killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from tests.processes import PATIENCE, running, start
from tune_jobs.tuning import ray_cleanup
from tune_jobs.tuning.ray_cleanup import end_with_this_process, sessions, writers

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="Ray has its own watch elsewhere"
)

SLEEP = [sys.executable, "-c", "import time; time.sleep(10_000)"]
DRIVER = """
import subprocess, sys, time
from pathlib import Path
from tune_jobs.tuning.ray_cleanup import end_with_this_process
import os
folder = Path(sys.argv[1], f"session_1_{os.getpid()}")
with end_with_this_process(Path(sys.argv[1])):
    folder.mkdir()
    with (folder / "raylet.out").open("w") as log:
        left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(10_000)"], stdout=log)
    print(left.pid, flush=True)
    time.sleep(10_000)
"""


class Sleepers:
    """Processes that sleep, with a file open."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, file: Path, mode: str) -> subprocess.Popen[bytes]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        with file.open(mode) as opened:
            stream = {"stdin": opened} if mode == "r" else {"stderr": opened}
            self._started.append(subprocess.Popen(SLEEP, **stream))  # type: ignore[call-overload]
        return self._started[-1]

    def close(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()


@pytest.fixture
def sleepers() -> Iterator[Sleepers]:
    with closing(Sleepers()) as started:
        yield started


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_writers_of_new_sessions_are_ended_and_no_other_process(tmp_path: Path, sleepers: Sleepers) -> None:
    own = f"_{os.getpid()}"
    before = sleepers.start(tmp_path / f"session_0{own}" / "logs" / "worker.err", "w")
    with end_with_this_process(tmp_path):
        session = tmp_path / f"session_1{own}"
        left = sleepers.start(session / "logs" / "agent.err", "w")
        looks_on = sleepers.start(session / "logs" / "agent.err", "r")
        foreign = sleepers.start(tmp_path / f"session_1_1{own}0" / "logs" / "worker.err", "w")
        held = (session / "logs" / "driver.log").open("w")
    with held:
        assert left.wait(PATIENCE) == -signal.SIGKILL
    assert [process.poll() for process in (before, looks_on, foreign)] == [None, None, None]


def test_writers_are_found_by_the_files_that_they_have_open(tmp_path: Path, sleepers: Sleepers) -> None:
    process = sleepers.start(tmp_path / "session_1_5" / "logs" / "gcs.err", "w")
    assert writers(sessions(tmp_path, 5)) == [process.pid]
    assert writers(sessions(tmp_path, 15)) == []
    assert writers([]) == []


def test_a_killed_driver_takes_its_processes_along(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DRIVER, str(tmp_path)]
    with running(command, stdout=subprocess.PIPE, text=True) as driver, ExitStack() as left_over:
        assert driver.stdout is not None
        left = int(driver.stdout.readline())
        left_over.callback(lambda: is_alive(left) and os.kill(left, signal.SIGKILL))
        assert is_alive(left)
        driver.kill()
        deadline = time.monotonic() + PATIENCE
        while is_alive(left) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not is_alive(left)


def test_it_says_nothing_and_ends_when_it_was_ended_itself(tmp_path: Path) -> None:
    with end_with_this_process(tmp_path):
        os.kill(watch_of(tmp_path), signal.SIGKILL)


def watch_of(temporary: Path) -> int:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for process in Path("/proc").iterdir():
            with suppress(OSError):
                if str(temporary).encode() in (process / "cmdline").read_bytes().split(b"\0"):
                    return int(process.name)
    raise AssertionError("no process watches")


# While Ray starts


STARTING = """
import ctypes, os, pathlib, signal, sys, time
from tune_jobs.tuning import ray_cleanup

def hold_the_interpreter():
    # in native code that lets no Python code run, as Ray may do
    library, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(64)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)

def interrupted(number, frame):
    if how != "stuck":  # a signal may come in the moment before
        raise KeyboardInterrupt

how, temporary = sys.argv[1:]
signal.signal(signal.SIGINT, interrupted)
signal.signal(signal.SIGTERM, interrupted)
try:
    with ray_cleanup.end_with_this_process(pathlib.Path(temporary)) as watch:
        if how == "dies":
            with watch.starting():
                print("starting", flush=True)
                os._exit(1)
        with watch.starting():
            if how == "stuck":
                print("starting", flush=True)
                hold_the_interpreter()
            if how == "waits":
                print("starting", flush=True)
                time.sleep(1000)
        print("ready", flush=True)
        if how == "ready":
            time.sleep(1000)
except KeyboardInterrupt:
    sys.exit(130)
"""
"""A driver that starts what it takes for Ray."""


def started_driver(how: str, folder: Path) -> "subprocess.Popen[str]":
    return start(
        [sys.executable, "-c", STARTING, how, str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_a_driver_whose_ray_lets_no_python_code_run(
    tmp_path: Path, number: signal.Signals
) -> None:
    driver = started_driver("stuck", tmp_path)
    assert driver.stdout is not None
    assert driver.stdout.readline() == "starting\n"
    driver.send_signal(number)
    _, said = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == -signal.SIGKILL
    assert said == "tune-jobs: interrupted while Ray started; nothing was changed\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("how", "line"), [("waits", "starting\n"), ("ready", "ready\n")])
def test_a_driver_that_can_end_in_order_does_so(
    tmp_path: Path, number: signal.Signals, how: str, line: str
) -> None:
    driver = started_driver(how, tmp_path)
    assert driver.stdout is not None
    assert driver.stdout.readline() == line
    driver.send_signal(number)
    _, said = driver.communicate(timeout=PATIENCE)
    assert (driver.returncode, said) == (130, "")


def test_a_start_that_never_comes_has_a_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ray_cleanup, "SECONDS_TO_START", 0.1)
    driver = started_driver("stuck", tmp_path)
    ours, theirs = os.pipe()
    os.write(theirs, b"s")
    assert ray_cleanup.wait_for_end(ours, driver.pid) is False
    driver.communicate(timeout=PATIENCE)
    assert driver.returncode == -signal.SIGKILL
    assert capfd.readouterr().err == "tune-jobs: Ray did not start within 0 s; nothing was changed\n"
    os.close(ours)
    os.close(theirs)


def test_a_driver_that_ray_ends_while_it_starts_is_explained(tmp_path: Path) -> None:
    driver = started_driver("dies", tmp_path)
    _, said = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 1
    assert said.startswith(
        "tune-jobs: Ray ended this process while it started: the machine is too busy, or lacks"
    )
    assert said.count("\n") == 1
