"""A Ray cluster on hosts of ours, made as its users would make it: `ray up` over ssh, from a laptop."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import yaml

from tests.cluster.hosts import Command, Host

HEAD_PORT = 6379
DASHBOARD_PORT = 8265
"""On the head's loopback, and at the laptop's end of the tunnel."""
URL = f"http://127.0.0.1:{DASHBOARD_PORT}"
KEY = "~/.ssh/cluster"
TOKEN = "~/.ray/auth_token"
CONFIG = "cluster.yaml"
START = "ray start --num-cpus={cpus} --object-store-memory={object_store} --disable-usage-stats"
IN_HASTE = {
    "RAY_health_check_period_ms": 1000,
    "RAY_health_check_timeout_ms": 2000,
    "RAY_health_check_failure_threshold": 5,
    "AUTOSCALER_UPDATE_INTERVAL_S": 1,
}
"""By its own settings Ray takes a minute to miss a host that is cut off, and looks every 5 s for hosts to start."""
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
        self.address = f"{self.head.address}:{HEAD_PORT}"
        self._start = START.format(cpus=cpus, object_store=object_store)
        self._prepare_laptop()

    def up(self, *workers: str) -> None:
        """`ray up` with these hosts as workers; they join some seconds after it returns, which is waited for."""
        (self.laptop.home / CONFIG).write_text(yaml.safe_dump(self._configuration(workers)))
        self.laptop.run("ray", "up", "--yes", CONFIG, seconds=300)
        self.wait_for_nodes(1 + len(workers))

    def down(self) -> None:
        """`ray down`, which with this provider is of no concern to workers; and `ray stop` on these."""
        self.laptop.run("ray", "down", "--yes", CONFIG, seconds=300)
        workers = [
            host for host in self.hosts.values() if host.is_up and host not in {self.laptop, self.head}
        ]
        for stop in [self.on(worker.name, "ray stop") for worker in workers]:
            stop.succeed(120)

    def join(self, worker: str) -> None:
        """Starts one more worker by hand, as root of that host would."""
        folder = self.hosts[worker].home / ".ray"
        folder.mkdir(mode=0o700, exist_ok=True)
        token = folder / "auth_token"
        token.touch(0o600)
        token.write_bytes((self.laptop.home / ".ray" / "auth_token").read_bytes())
        self.on(worker, f"RAY_AUTH_MODE=token {self._start} --address={self.address}").succeed(120)

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
            knock = ["bash", "-c", f"</dev/tcp/127.0.0.1/{DASHBOARD_PORT}"]
            wait_until(lambda: self.laptop.start(*knock).wait(60) == 0, "the tunnel", seconds=60)
            yield URL
        finally:
            ssh.end()

    def wait_for_nodes(self, number: int, *, seconds: float = 180) -> None:
        """Waits until the head knows of so many nodes that live."""

        def there() -> bool:
            count = self.on("head", f"python -W ignore -c '{_COUNT_NODES}'")
            count.wait(60)
            return f"nodes: {number}\n" in count.said

        wait_until(there, f"{number} nodes", seconds=seconds)

    def ray_processes(self) -> list[str]:
        """Command lines of Ray's processes on all hosts that are up."""
        up = [host for host in self.hosts.values() if host.is_up]
        return [f"{host.name}: {line}" for host in up for line in host.processes(word="/ray/")]

    def _configuration(self, workers: Sequence[str]) -> dict[str, Any]:
        mode = "grep -q RAY_AUTH_MODE ~/.bashrc || echo 'export RAY_AUTH_MODE=token' >> ~/.bashrc"
        haste = " ".join(f"{name}={value}" for name, value in IN_HASTE.items())
        head = f"{haste} {self._start} --head --port={HEAD_PORT} --dashboard-host=127.0.0.1"
        return {
            "cluster_name": "rig",
            "provider": {
                "type": "local",
                "head_ip": self.head.address,
                "worker_ips": [self.hosts[worker].address for worker in workers],
            },
            "auth": {"ssh_user": "root", "ssh_private_key": KEY},
            "file_mounts": {TOKEN: TOKEN},
            "setup_commands": [mode],
            "head_start_ray_commands": [
                "ray stop",
                f"{head} --autoscaling-config=~/ray_bootstrap_config.yaml",
            ],
            "worker_start_ray_commands": [
                "ray stop",
                f"{self._start} --address=$RAY_HEAD_IP:{HEAD_PORT}",
            ],
        }

    def _prepare_laptop(self) -> None:
        key = self.laptop.home / ".ssh" / "cluster"
        key.touch(0o600)
        key.write_bytes(self.laptop.network.key.read_bytes())
        self.laptop.run("bash", "-c", "umask 077; ray get-auth-token --generate")
        # Ray's newer autoscaler counts the head among the workers of this provider, so that one would be missing.
        self.laptop.variables.update(RAY_AUTH_MODE="token", RAY_UP_enable_autoscaler_v2="0")


def wait_until(true: Callable[[], bool], what: str, *, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.2)
