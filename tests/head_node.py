"""The head of a Ray cluster on loopback with dashboard and token, as `ray start` makes it."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from tests.faults.killing import wait_until_gone
from tests.processes import PATIENCE

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Head:
    """A running head.

    Args:
        url: The address of its dashboard.
        token: The token that it accepts.
        home: The home folder of a user without any settings of Ray.
        port: The port at which nodes join.
    """

    url: str
    token: str
    home: Path
    port: int

    @property
    def surroundings(self) -> dict[str, str]:
        """Return the environment of a laptop that may use the cluster."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.home),
            "RAY_API_SERVER_ADDRESS": self.url,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
        }

    def call(
        self, *arguments: str, folder: Path | None = None, **changes: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run `tune-jobs` in a folder as on that laptop, with changed variables. An empty value removes one."""
        variables = {**self.surroundings, **changes}
        return subprocess.run(
            [sys.executable, "-m", "tune_jobs", *arguments],
            cwd=folder or self.home,
            env={name: value for name, value in variables.items() if value},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )


@contextmanager
def head_node(**environment: str) -> Iterator[Head]:
    """Yield a head with two CPUs in an environment, and end all its processes after the block."""
    folder = Path(tempfile.mkdtemp(prefix="tjs"))
    home = folder / "home"
    home.mkdir()
    token = secrets.token_hex(16)
    ports = {name: _free_port() for name in ("port", "dashboard-port", "ray-client-server-port")}
    options = {
        **ports, "node-ip-address": "127.0.0.1", "num-cpus": 2, "dashboard-host": "127.0.0.1",
        "include-dashboard": "true", "dashboard-agent-listen-port": _free_port(),
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
        env={**_cluster_surroundings(folder, home, token), **environment},
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        head = Head(f"http://127.0.0.1:{ports['dashboard-port']}", token, home, ports["port"])
        _wait_for(head, process)
        yield head
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=PATIENCE)
        assert wait_until_gone(folder) == []
        shutil.rmtree(folder, ignore_errors=True)


def _cluster_surroundings(folder: Path, home: Path, token: str) -> Mapping[str, str]:
    """Return environment variables with a PATH on which this Python is not found by its name."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "HOME": str(home),
        "RAY_TMPDIR": str(folder),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
    }


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _wait_for(head: Head, process: "subprocess.Popen[bytes]") -> None:
    """Wait until the Jobs server answers."""
    request = Request(f"{head.url}/api/jobs/", headers={"Authorization": f"Bearer {head.token}"})
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None, "the head node has ended"
        with suppress(URLError, OSError), urlopen(request, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.3)
    raise AssertionError("the head node has not started")
