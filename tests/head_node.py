"""The head of a Ray cluster on loopback with dashboard and token, as `ray start` makes it."""

import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from tests.faults.killing import wait_until_gone
from tests.processes import PATIENCE, running, wait_until

ROOT = Path(__file__).resolve().parents[1]

_COMMANDS = """
import atexit, json, os, sys, traceback
sys.path.remove("")
import torch, tune_jobs.cli.main, tune_jobs.submission.client
from tune_jobs.__main__ import main

for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if child == 0:
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()
for number, name in enumerate((os.devnull, asked["stdout"], asked["stderr"])):
    file = os.open(name, os.O_RDWR | os.O_CREAT)
    os.dup2(file, number)
    os.close(file)
os.environ.clear()
os.environ.update(asked["variables"])
os.chdir(asked["folder"])
sys.argv = ["tune-jobs", *asked["arguments"]]
code = 1
try:
    code = main()
except SystemExit as ended:
    code = ended.code
except BaseException:
    traceback.print_exc()
atexit._run_exitfuncs()
sys.stdout.flush()
sys.stderr.flush()
os._exit(code)  # to take all modules down would take longer than the command
"""
"""Program that runs each command in a new process, which has the imports of `tune-jobs` already. They include Ray,
which takes its settings from the environment when it is imported."""


@dataclass(frozen=True)
class Head:
    """A running head.

    Args:
        url: The address of its dashboard.
        token: The token that it accepts.
        home: The home folder of a user without any settings of Ray.
        port: The port at which nodes join.
        commands: The process that runs commands of the laptop; None without a dashboard.
    """

    url: str
    token: str
    home: Path
    port: int
    commands: "subprocess.Popen[str] | None"

    @property
    def surroundings(self) -> dict[str, str]:
        """Return the environment of a laptop that may use the cluster."""
        return _surroundings(self.home, self.url, self.token)

    def call(
        self, *arguments: str, folder: Path | None = None, **changes: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run `tune-jobs` in a folder as on that laptop, with changed variables. An empty value removes one."""
        variables = {name: value for name, value in {**self.surroundings, **changes}.items() if value}
        if any(name.startswith("RAY_") for name in changes):
            return subprocess.run(
                [sys.executable, "-m", "tune_jobs", *arguments], cwd=folder or self.home, env=variables,
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False,
            )  # fmt: skip
        outputs = {
            name: Path(tempfile.mkstemp(dir=self.home, prefix=name)[1]) for name in ("stdout", "stderr")
        }
        asked = {
            **{name: str(path) for name, path in outputs.items()},
            "variables": variables,
            "folder": str(folder or self.home),
            "arguments": arguments,
        }
        assert self.commands is not None
        assert self.commands.stdin is not None
        assert self.commands.stdout is not None
        print(json.dumps(asked), file=self.commands.stdin, flush=True)
        assert select.select([self.commands.stdout], [], [], PATIENCE)[0], f"{arguments} does not end"
        code = int(self.commands.stdout.readline())
        stdout, stderr = (path.read_text() for path in outputs.values())
        for path in outputs.values():
            path.unlink()
        return subprocess.CompletedProcess(arguments, code, stdout, stderr)


@contextmanager
def head_node(*, dashboard: bool = True, **environment: str) -> Iterator[Head]:
    """Yield a head with two CPUs, and end all its processes after the block.

    Args:
        dashboard: Whether it has a dashboard, where jobs are submitted.
        environment: Further environment variables of its processes.
    """
    folder = Path(tempfile.mkdtemp(prefix="tjs"))
    home = folder / "home"
    home.mkdir()
    token = secrets.token_hex(16)
    ports = {name: _free_port() for name in ("port", "dashboard-port", "ray-client-server-port")}
    options = {
        **ports, "node-ip-address": "127.0.0.1", "num-cpus": 2, "dashboard-host": "127.0.0.1",
        "include-dashboard": str(dashboard).lower(), "dashboard-agent-listen-port": _free_port(),
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
    url = f"http://127.0.0.1:{ports['dashboard-port']}"
    try:
        with _commands(_surroundings(home, url, token)) if dashboard else nullcontext() as commands:
            head = Head(url, token, home, ports["port"], commands)
            _wait_for(head, process)
            yield head
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=PATIENCE)
        assert wait_until_gone(folder) == []
        shutil.rmtree(folder, ignore_errors=True)


def _commands(surroundings: Mapping[str, str]) -> AbstractContextManager["subprocess.Popen[str]"]:
    """Run the process that runs commands in these surroundings."""
    pipe = subprocess.PIPE
    return running([sys.executable, "-c", _COMMANDS], env=surroundings, stdin=pipe, stdout=pipe, text=True)


def _surroundings(home: Path, url: str, token: str) -> dict[str, str]:
    ray = {"RAY_API_SERVER_ADDRESS": url, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    return {**_laptop(home), **ray}


def _laptop(home: Path) -> Mapping[str, str]:
    """Return environment variables without a setting of Ray."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**ours, "PYTHONPATH": str(ROOT), "HOME": str(home)}


def _cluster_surroundings(folder: Path, home: Path, token: str) -> Mapping[str, str]:
    """Return environment variables with a PATH on which this Python is not found by its name."""
    return {
        **_laptop(home),
        "PATH": "/usr/bin:/bin",
        "RAY_TMPDIR": str(folder),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_prestart_worker_first_driver": "0",  # a Python worker for each CPU, which takes nothing
    }


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _wait_for(head: Head, process: "subprocess.Popen[bytes]") -> None:
    """Wait until the Jobs server answers, or the control service if there is no dashboard."""

    def answers() -> bool:
        with suppress(URLError, OSError):
            if head.commands is None:
                socket.create_connection(("127.0.0.1", head.port), timeout=5).close()
                return True
            with urlopen(request, timeout=5) as answer:
                return bool(answer.status == 200)
        return False

    request = Request(f"{head.url}/api/jobs/", headers={"Authorization": f"Bearer {head.token}"})
    wait_until(answers, "the head", process=process, every=0.3)
