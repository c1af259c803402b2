"""A Ray cluster on our hosts, started as users start it: with `ray up` over ssh from a laptop."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import yaml

from tests import processes
from tests.cluster.hosts import REPOSITORY, Command, Host
from tests.processes import PATIENCE

DOCUMENTED = REPOSITORY / "docs" / "cluster" / "local.yaml"
DASHBOARD_PORT = 8265
"""Port of the dashboard on the head's loopback and at the laptop's end of the tunnel."""
URL = f"http://127.0.0.1:{DASHBOARD_PORT}"
KEY = "~/.ssh/cluster"
CONFIG = "cluster.yaml"
IN_HASTE = {
    "RAY_health_check_period_ms": 1000,
    "RAY_health_check_timeout_ms": 2000,
    "RAY_health_check_failure_threshold": 5,
    "AUTOSCALER_UPDATE_INTERVAL_S": 1,
    "AUTOSCALER_NODE_SSH_INTERVAL_S": 1,
    "RAY_prestart_worker_first_driver": 0,
}
"""Shorter intervals for Ray: by default it notices a lost host after a minute and starts hosts every 5 s. No worker
is started before one is asked for."""
FROM_OUTSIDE = ("curl ", "apt-get ", "/uv ")
"""Marks of commands that download something: the hosts have no network for that."""
OUR_CODE = "export PYTHONPATH=$HOME/tune-jobs${PYTHONPATH:+:$PYTHONPATH}"
"""Import path of the files that the launcher copied to a host. Debian's bash runs `.bashrc` for Ray's workers, too."""
_WAIT_FOR_NODES = """
import ray, sys, time
ray.init(address="auto", log_to_driver=False)
while sum(node["Alive"] for node in ray.nodes()) != int(sys.argv[1]):
    time.sleep(0.3)
"""


class Cluster:
    """Ray on hosts. Its commands run as the user of the laptop.

    Args:
        hosts: All hosts by name: `laptop`, which is not part of the cluster, `head` and any others.
        cpus: The CPUs that each host declares to Ray, since all hosts share the processors of one machine.
        object_store: The bytes of a host's object store.
    """

    def __init__(
        self,
        hosts: Mapping[str, Host],
        *,
        cpus: int,
        object_store: int = 300_000_000,
    ) -> None:
        self.hosts = hosts
        self.laptop = hosts["laptop"]
        self.head = hosts["head"]
        self.workers = [host for host in hosts.values() if host not in {self.laptop, self.head}]
        self.address = f"{self.head.address}:6379"
        self._cpus = cpus
        self._object_store = object_store
        self._prepare_laptop()

    def up(self) -> None:
        """Run `ray up` and return when all running hosts have joined. Other hosts join when they are switched on."""
        self.laptop.run("bash", "-c", f"cd {REPOSITORY} && ray up --yes ~/{CONFIG}")
        self.wait_for_nodes(1 + sum(worker.is_up for worker in self.workers))

    def down(self) -> None:
        """Run `ray down`, which ends Ray on the head alone with this provider, and `ray stop` on the workers."""
        self.laptop.run("ray", "down", "--yes", CONFIG)
        stop = "bash -ic 'ray stop'"  # as the documented file has it
        up = [worker.name for worker in self.workers if worker.is_up]
        for stopping in [self.laptop.start("ssh", "-i", KEY, worker, stop) for worker in up]:
            stopping.succeed()

    def on(self, host: str, command: str) -> Command:
        """Start a command on a host over ssh, as the user of the laptop."""
        return self.laptop.start("ssh", "-i", KEY, host, f"source ~/.bashrc; {command}")

    @contextmanager
    def tunnel(self) -> Iterator[str]:
        """Forward the dashboard on the head's loopback to the laptop's loopback and yield its address there."""
        forward = f"{DASHBOARD_PORT}:127.0.0.1:{DASHBOARD_PORT}"
        ssh = self.laptop.start(
            "ssh", "-i", KEY, "-N", "-o", "ExitOnForwardFailure=yes", "-L", forward, "head"
        )
        try:
            connect = ["bash", "-c", f"</dev/tcp/127.0.0.1/{DASHBOARD_PORT}"]
            wait_until(lambda: self.laptop.start(*connect).wait(PATIENCE) == 0, "the tunnel")
            yield URL
        finally:
            ssh.end()

    def wait_for_nodes(self, number: int) -> None:
        """Wait until the head knows `number` live nodes."""
        wait = f"python -W ignore -c '{_WAIT_FOR_NODES}' {number}"
        wait_until(lambda: self.on("head", wait).wait(PATIENCE) == 0, f"{number} nodes")

    def ray_processes(self) -> list[str]:
        """Return the command lines of Ray's processes on all running hosts."""
        up = [host for host in self.hosts.values() if host.is_up]
        return [f"{host.name}: {line}" for host in up for line in host.processes(word="/ray/")]

    def _configuration(self) -> Mapping[str, Any]:
        """Return the documented file with the values that users must set, and without slow steps and downloads."""
        file: dict[str, Any] = yaml.safe_load(DOCUMENTED.read_text())
        file["provider"]["head_ip"] = self.head.address
        file["provider"]["worker_ips"] = [worker.address for worker in self.workers]
        file["auth"] = {"ssh_user": "root", "ssh_private_key": KEY}
        commands = [line for line in file["setup_commands"] if not any(word in line for word in FROM_OUTSIDE)]
        file["setup_commands"] = [
            *commands,
            f"ln -sfn {sys.prefix} ~/tune-jobs/.venv",
            f"grep -qs PYTHONPATH ~/.bashrc || echo '{OUR_CODE}' >> ~/.bashrc",
        ]
        haste = " ".join(f"{name}={value}" for name, value in IN_HASTE.items())
        started = f"{haste} ray start --num-cpus={self._cpus} --object-store-memory={self._object_store}"
        for role in ("head", "worker"):
            key = f"{role}_start_ray_commands"
            file[key] = [line.replace("ray start", started) for line in file[key]]
        return file

    def _prepare_laptop(self) -> None:
        key = self.laptop.home / ".ssh" / "cluster"
        key.touch(0o600)
        key.write_bytes(self.laptop.network.key.read_bytes())
        self.laptop.run("bash", "-c", "umask 077; ray get-auth-token --generate")
        # Ray's newer autoscaler counts the head among the workers of this provider: one worker would be missing.
        self.laptop.variables.update(RAY_AUTH_MODE="token", RAY_UP_enable_autoscaler_v2="0")
        (self.laptop.home / CONFIG).write_text(yaml.safe_dump(self._configuration()))


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Wait for a condition that takes seconds and whose check is slow."""
    processes.wait_until(true, what, every=0.2)
