"""A Ray cluster on hosts of ours, made as its users would make it: `ray up` over ssh, from a laptop."""

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
"""On the head's loopback, and at the laptop's end of the tunnel."""
URL = f"http://127.0.0.1:{DASHBOARD_PORT}"
KEY = "~/.ssh/cluster"
CONFIG = "cluster.yaml"
IN_HASTE = {
    "RAY_health_check_period_ms": 1000,
    "RAY_health_check_timeout_ms": 2000,
    "RAY_health_check_failure_threshold": 5,
    "AUTOSCALER_UPDATE_INTERVAL_S": 1,
    "AUTOSCALER_NODE_SSH_INTERVAL_S": 1,
}
"""By its own settings Ray takes a minute to miss a host that is cut off, and looks every 5 s for hosts to start."""
FROM_OUTSIDE = ("curl ", "apt-get ", "/uv ")
"""What commands have in them that fetch something over a network that the hosts have not."""
OUR_CODE = "export PYTHONPATH=$HOME/tune-jobs${PYTHONPATH:+:$PYTHONPATH}"
"""What the launcher copied to a host; Debian's bash runs `.bashrc` for Ray's workers too, which have more in it."""
_COUNT_NODES = """
import ray
ray.init(address="auto", log_to_driver=False)
print("nodes:", sum(node["Alive"] for node in ray.nodes()))
"""


class Cluster:
    """Ray on hosts; its commands are those of the laptop's user.

    Args:
        hosts: all of them, by name: `laptop`, which is no part of the cluster, `head` and any others.
        cpus: trials' room on each host: what Ray is told, since all hosts share the processors of one machine.
        object_store: bytes for the data of a host.
    """

    def __init__(self, hosts: Mapping[str, Host], *, cpus: int = 2, object_store: int = 300_000_000) -> None:
        self.hosts = hosts
        self.laptop = hosts["laptop"]
        self.head = hosts["head"]
        self.workers = [host for host in hosts.values() if host not in {self.laptop, self.head}]
        self.address = f"{self.head.address}:6379"
        self._room = f"--num-cpus={cpus} --object-store-memory={object_store}"
        self._prepare_laptop()

    def up(self) -> None:
        """`ray up`; returns when all hosts that are switched on have joined. Others do when they are."""
        self.laptop.run("bash", "-c", f"cd {REPOSITORY} && ray up --yes ~/{CONFIG}")
        self.wait_for_nodes(1 + sum(worker.is_up for worker in self.workers))

    def down(self) -> None:
        """`ray down`, by which this provider ends Ray on the head alone; and `ray stop` on the workers."""
        self.laptop.run("ray", "down", "--yes", CONFIG)
        stop = "bash -ic 'ray stop'"  # as the documented file has it
        up = [worker.name for worker in self.workers if worker.is_up]
        for stopping in [self.laptop.start("ssh", "-i", KEY, worker, stop) for worker in up]:
            stopping.succeed()

    def on(self, host: str, command: str) -> Command:
        """A command that the laptop's user runs on a host, over ssh."""
        return self.laptop.start("ssh", "-i", KEY, host, f"source ~/.bashrc; {command}")

    @contextmanager
    def tunnel(self) -> Iterator[str]:
        """The dashboard, which listens on the head's loopback, on the laptop's; gives its address there."""
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
        """Waits until the head knows of so many nodes that live."""

        def there() -> bool:
            count = self.on("head", f"python -W ignore -c '{_COUNT_NODES}'")
            count.wait(PATIENCE)
            return f"nodes: {number}\n" in count.said

        wait_until(there, f"{number} nodes")

    def ray_processes(self) -> list[str]:
        """Command lines of Ray's processes on all hosts that are up."""
        up = [host for host in self.hosts.values() if host.is_up]
        return [f"{host.name}: {line}" for host in up for line in host.processes(word="/ray/")]

    def _configuration(self) -> Mapping[str, Any]:
        """The documented file, changed in what it tells its readers to change, and in what takes long or a network."""
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
        for role in ("head", "worker"):
            key = f"{role}_start_ray_commands"
            started = f"{haste} ray start {self._room}"
            file[key] = [line.replace("ray start", started) for line in file[key]]
        return file

    def _prepare_laptop(self) -> None:
        key = self.laptop.home / ".ssh" / "cluster"
        key.touch(0o600)
        key.write_bytes(self.laptop.network.key.read_bytes())
        self.laptop.run("bash", "-c", "umask 077; ray get-auth-token --generate")
        # Ray's newer autoscaler counts the head among the workers of this provider, so that one would be missing.
        self.laptop.variables.update(RAY_AUTH_MODE="token", RAY_UP_enable_autoscaler_v2="0")
        (self.laptop.home / CONFIG).write_text(yaml.safe_dump(self._configuration()))


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Wait for what takes seconds, and costs more than a moment to ask for."""
    processes.wait_until(true, what, every=0.2)
