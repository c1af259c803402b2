"""Who may join a cluster, told at once: a real head node that asks for a token."""

import os
import platform
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.killing import wait_until_gone
from tune_jobs.cluster import knock
from tune_jobs.cluster.knock import check_address
from tune_jobs.errors import ResourceError

pytestmark = pytest.mark.slow

TOKEN = secrets.token_hex(16)


@pytest.fixture(scope="module")
def head() -> Iterator[str]:
    """Its address."""
    folder = Path(tempfile.mkdtemp(prefix="tjh"))
    port = free_port()
    options = {
        "port": port, "node-ip-address": "127.0.0.1", "num-cpus": 1, "include-dashboard": "false",
        "ray-client-server-port": free_port(), "dashboard-agent-listen-port": free_port(),
    }  # fmt: skip
    words = [f"--{name}={value}" for name, value in options.items()]
    process = subprocess.Popen(
        [
            Path(sys.executable).with_name("ray"),
            "start",
            "--head",
            "--block",
            "--disable-usage-stats",
            *words,
        ],
        env={**os.environ, "RAY_TMPDIR": str(folder), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(port)
    yield f"127.0.0.1:{port}"
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)
    assert wait_until_gone(folder) == []
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "and none was given; export RAY_AUTH_MODE=token"),
        ({"RAY_AUTH_MODE": "token"}, "RAY_AUTH_MODE is token, and there is no token; export"),
        (
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)},
            "the one that was given is not it",
        ),
    ],
)
def test_who_has_not_the_token_is_told_what_to_do(
    head: str, environment: dict[str, str], words: str, no_token: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ResourceError, match=words) as error:
        check_address(head)
    assert not any(value in str(error.value) for value in environment.values() if value != "token")


def test_the_holder_of_the_token_is_let_in(
    head: str, no_token: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    assert check_address(head) == head


def test_other_versions_are_named(head: str, no_token: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    monkeypatch.setattr(platform, "python_version", lambda: "3.12.1")
    with pytest.raises(
        ResourceError, match=r"the versions differ: Python 3\.12\.1 here and 3\.11\.\d+ there; install"
    ):
        check_address(head)


def test_what_is_no_ray_is_told_so(no_token: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knock, "SECONDS_TO_ANSWER", 6.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ResourceError, match="something listens, and does not answer as a head node does"):
            check_address(address)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError("the head node has not started")
