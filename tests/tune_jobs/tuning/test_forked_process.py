"""A process that was forked from one which has used Ray gets one message: Ray would let it wait for ever."""

import os
import select
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.processes import PATIENCE
from tune_jobs.errors import ResourceError
from tune_jobs.tuning import ray_session
from tune_jobs.tuning.ray_session import ray_connection

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("ray_running"),
    pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning"),
]


def said_in_a_fork(act: Callable[[], Any]) -> str:
    """Return what `act` raises in a forked child as text; nothing if it waits for ever."""
    ours, childs = os.pipe()
    child = os.fork()
    if not child:
        try:
            act()
            os.write(childs, b"nothing")
        except BaseException as error:
            os.write(childs, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(childs)
    with os.fdopen(ours) as file:
        if not select.select([file], [], [], PATIENCE)[0]:
            os.kill(child, signal.SIGKILL)
        text = file.read()
    os.waitpid(child, 0)
    return text


def connect() -> None:
    with ray_connection():
        pass


def connect_as_if_the_user_had_started_ray() -> None:
    ray_session._USED_BY.clear()
    connect()


@pytest.mark.parametrize("act", [connect, connect_as_if_the_user_had_started_ray])
def test_a_fork_of_a_process_that_uses_ray_is_refused_and_the_process_continues(
    act: Callable[[], None],
) -> None:
    expected = (
        "ResourceError: this process was forked from one that has used Ray, and Ray does not work in such"
    )
    assert said_in_a_fork(act).startswith(expected)
    connect()


def test_a_fork_is_refused_after_the_end_of_ray_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_session, "_USED_BY", {os.getppid()})
    with pytest.raises(ResourceError, match=r"get_context\('spawn'\)"):
        connect()
