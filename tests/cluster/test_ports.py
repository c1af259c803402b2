"""Answers of a cluster to a foreign host without a token. They must agree with docs/security.md."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.hosts import hosts

pytestmark = pytest.mark.slow

DASHBOARD, SSH = 8265, 22
METRICS = "metrics"
REFUSED = {"401", "UNAUTHENTICATED"}
ASK_PORTS = """
import json, sys, urllib.error, urllib.request
import grpc
SERVICES = ["JobInfoGcsService/GetAllJobInfo", "NodeManagerService/GetNodeStats", "ObjectManagerService/Pull",
            "ObjectManagerService/Push", "CoreWorkerService/GetCoreWorkerStats", "RayletDriver/ClusterInfo",
            "ReporterService/GetTraceback"]
def http(place, header):
    try:
        asked = urllib.request.Request(f"http://{place}/api/jobs/", headers=header)
        body = urllib.request.urlopen(asked, timeout=10).read()
        return "metrics" if body.startswith(b"# HELP") else "open"
    except urllib.error.HTTPError as error:
        return str(error.code)
    except OSError:
        return None
    except Exception:  # it speaks something else
        return None
def call(place, method, header):
    try:
        grpc.insecure_channel(place).unary_unary(f"/ray.rpc.{method}")(b"", timeout=10, metadata=header)
        return "open"
    except grpc.RpcError as error:
        return error.code().name
answers = {}
for port in map(int, sys.argv[2:]):
    place = f"{sys.argv[1]}:{port}"
    answers[port] = {}
    for token in ("none", "wrong"):
        header = {} if token == "none" else {"authorization": "Bearer " + 64 * "0"}
        said = http(place, header)
        said = [said] if said else [call(place, name, list(header.items())) for name in SERVICES]
        answers[port][token] = sorted(set(said) - {"UNIMPLEMENTED"})
print("answers:", json.dumps(answers))
"""
"""Program that asks each port for the list of jobs over HTTP, and if it has no HTTP, each service of Ray over gRPC."""
BUSY = """
import time, ray
ray.init(address="auto", log_to_driver=False)
@ray.remote
class Worker:
    def stay(self):
        return True
workers = [Worker.remote() for _ in range(2)]
assert all(ray.get([worker.stay.remote() for worker in workers]))
print("busy", flush=True)
time.sleep(600)
"""

Answers = Mapping[int, Mapping[str, Sequence[str]]]


@pytest.fixture(scope="module")
def seen(disks: Path) -> Iterator[tuple[Mapping[int, set[str]], Answers]]:
    """Yield the head's ports with their addresses, and the answer of each port to the laptop."""
    with hosts(disks, ["laptop", "head"]) as made:
        cluster = Cluster(made)
        cluster.up()
        (made["head"].home / "busy.py").write_text(BUSY)
        busy = cluster.on("head", "python -W ignore busy.py")
        _wait_for(busy, "busy")
        ports = listening(cluster.on("head", "ss -Hltn").succeed())
        outside = [port for port in ports if port != SSH and not all(map(is_loopback, ports[port]))]
        (made["laptop"].home / "ask_ports.py").write_text(ASK_PORTS)
        said = made["laptop"].run(
            "python", "-W", "ignore", "ask_ports.py", made["head"].address, *map(str, outside)
        )
        answers: dict[str, Any] = json.loads(said.partition("answers:")[2])
        busy.end()
        cluster.down()
        yield ports, {int(port): by_token for port, by_token in answers.items()}


def _wait_for(command: Any, word: str) -> None:
    from tests.cluster.cluster import wait_until

    wait_until(lambda: word in command.said, f"{word!r} of a command")


def listening(sockets: str) -> dict[int, set[str]]:
    """Return the ports and their addresses from the output of `ss -Hltn`."""
    found: dict[int, set[str]] = {}
    for line in sockets.splitlines():
        address, _, port = line.split()[3].rpartition(":")
        found.setdefault(int(port), set()).add(address.strip("[]"))
    return found


def is_loopback(address: str) -> bool:
    return address.removeprefix("::ffff:").startswith("127.") or address == "::1"


def test_the_dashboard_listens_on_loopback_alone(
    seen: tuple[Mapping[int, set[str]], Answers],
) -> None:
    ports, _ = seen
    assert all(map(is_loopback, ports[DASHBOARD]))


def test_nothing_but_metrics_is_open(seen: tuple[Mapping[int, set[str]], Answers]) -> None:
    _, answers = seen
    metrics = {port for port, said in answers.items() if METRICS in said["none"]}
    assert len(metrics) == 3  # of the dashboard, the autoscaler and the node's agent
    for port, by_token in answers.items():
        if port in metrics:
            continue
        for token, said in by_token.items():
            refused = REFUSED | {"403"} if token == "wrong" else REFUSED
            assert said, f"{port}: no service was recognised"
            assert set(said) <= refused, f"{port}, {token} token: {said}"
