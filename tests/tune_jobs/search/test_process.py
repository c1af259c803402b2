"""A method in a separate process: the same proposals, and the run if the process fails."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.processes import PATIENCE
from tests.tune_jobs.search.conftest import SPACES, drive, history_of, search, settings_of
from tune_jobs.search.history import Configuration, Observations
from tune_jobs.search.process import MethodProcess
from tune_jobs.search_spaces import parse_space

NAME = "conditional"
SPACE = parse_space(SPACES[NAME])
Asked = list[tuple[int, Observations, Configuration | None]]


def process(method: str = "gp", seed: int = 0) -> MethodProcess:
    return MethodProcess(settings_of(SPACES[NAME], method), 3, seed)


@pytest.fixture(scope="module")
def asked() -> Asked:
    """Return the observations of a run and the proposals of `gp`."""
    return list(drive(search(SPACES[NAME], "gp"), history_of(SPACE), 20))


@pytest.fixture(scope="module")
def kept() -> Iterator[MethodProcess]:
    with closing(process()) as method:
        yield method


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gp", "tpe"])
def test_a_process_proposes_the_same_as_its_method(method: str) -> None:
    here = list(drive(search(SPACES[NAME], method, seed=4), history_of(SPACE), 16))
    with closing(process(method, seed=4)) as there:
        again = list(drive(there, history_of(SPACE), 16))
    assert [configuration for *_, configuration in again] == [configuration for *_, configuration in here]


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 19), max_size=6))
def test_its_answers_do_not_depend_on_what_it_was_asked_before(
    kept: MethodProcess, asked: Asked, places: list[int]
) -> None:
    for place in places:
        number, observations, configuration = asked[place]
        assert kept.propose(observations, number) == configuration


def test_filled_in_proposals_do_not_need_the_process(asked: Asked) -> None:
    number, observations, _ = asked[-1]
    with closing(process()) as method:
        os.kill(method._process.pid, signal.SIGSTOP)  # the process would never answer
        try:
            assert method.fill_in(observations, number) == search(SPACES[NAME]).propose(observations, number)
        finally:
            os.kill(method._process.pid, signal.SIGCONT)


def filled_in(asked: Asked) -> list[Configuration | None]:
    method = search(SPACES[NAME])
    return [method.fill_in(observations, number) for number, observations, _ in asked]


@pytest.mark.slow
def test_a_killed_process_is_replaced(asked: Asked, caplog: pytest.LogCaptureFixture) -> None:
    with closing(process()) as method, caplog.at_level(logging.WARNING):
        proposed = []
        for number, observations, _ in asked:
            proposed.append(method.propose(observations, number))
            if number == 13:
                method._process.kill()
    assert proposed == [configuration for *_, configuration in asked]
    assert not caplog.records


@pytest.mark.slow
def test_after_a_second_death_the_rest_is_random_with_one_warning(
    asked: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(process()) as method, caplog.at_level(logging.WARNING):
        method._process.kill()
        before = [method.propose(observations, number) for number, observations, _ in asked[:14]]
        method._process.kill()
        after = [method.propose(observations, number) for number, observations, _ in asked[14:]]
    assert before == [configuration for *_, configuration in asked[:14]]
    assert after == filled_in(asked[14:])
    assert [record.getMessage() for record in caplog.records] == [
        "the search draws at random from now on, because its model failed: its process has ended"
    ]


@pytest.mark.slow
def test_after_a_failure_of_the_model_the_rest_is_random_and_the_log_says_why(
    asked: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    number, observations, _ = asked[-1]
    broken = replace(observations, scores={1: None})  # type: ignore[dict-item]
    with closing(process()) as method, caplog.at_level(logging.WARNING):
        assert [method.propose(broken, number)] == filled_in(asked[-1:])
        assert [method.propose(observations, number)] == filled_in(asked[-1:])
        assert method._process.poll() is None
    (record,) = caplog.records
    assert "TypeError" in record.getMessage()


def test_closing_ends_the_process_and_the_calls_that_wait_for_it(
    asked: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    """The process is stopped while it is asked, so it would never answer."""
    number, observations, _ = asked[-1]
    method = process()
    os.kill(method._process.pid, signal.SIGSTOP)
    thread = threading.Thread(target=method.propose, args=(observations, number))
    with caplog.at_level(logging.WARNING):
        thread.start()
        method.close()
        thread.join(PATIENCE)
    assert not thread.is_alive()
    assert method._process.returncode == -signal.SIGKILL
    assert not caplog.records, "an end is no failure"


def test_an_interruption_of_the_terminal_is_not_for_the_process() -> None:
    with closing(process()) as method:
        assert os.getpgid(method._process.pid) != os.getpgid(0)


def wait_until_gone(pid: int) -> None:
    end = time.monotonic() + PATIENCE
    while Path(f"/proc/{pid}").exists() and b"tune_jobs" in Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < end, "the process has outlived its driver"
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_process_gives_way_and_ends_with_its_driver() -> None:
    program = (
        "import os, sys; from tests.tune_jobs.search.test_process import process, SPACE;"
        "from tests.tune_jobs.search.conftest import history_of;"
        "method = process(); method.propose(history_of(SPACE).snapshot(), 12);"
        "pid = method._process.pid;"
        "nicer = os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, 0);"
        "print(pid, int(nicer), flush=True);"
        "os.kill(os.getpid(), 9)"
    )
    ran: Any = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=PATIENCE
    )
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    pid, gives_way = map(int, ran.stdout.split())
    assert gives_way
    wait_until_gone(pid)
