"""The ports of a host, and their answers to a host without a token. They must agree with docs/security.md."""

import json
from collections.abc import Mapping, Sequence

from tests.cluster.cluster import Cluster

SSH = 22
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

Answers = Mapping[int, Mapping[str, Sequence[str]]]
"""What each port answers by the token, `none` or `wrong`."""


def ask_ports(cluster: Cluster) -> tuple[Mapping[int, set[str]], Answers]:
    """Return the head's ports with their addresses, and the answer to the laptop of each that it can reach."""
    ports = listening(cluster.on("head", "ss -Hltn").succeed())
    outside = [port for port in ports if port != SSH and not all(map(is_loopback, ports[port]))]
    (cluster.laptop.home / "ask_ports.py").write_text(ASK_PORTS)
    ask = ["python", "-W", "ignore", "ask_ports.py", cluster.head.address, *map(str, outside)]
    answers = json.loads(cluster.laptop.run(*ask).partition("answers:")[2])
    return ports, {int(port): by_token for port, by_token in answers.items()}


def listening(sockets: str) -> dict[int, set[str]]:
    """Return the ports and their addresses from the output of `ss -Hltn`."""
    found: dict[int, set[str]] = {}
    for line in sockets.splitlines():
        address, _, port = line.split()[3].rpartition(":")
        found.setdefault(int(port), set()).add(address.strip("[]"))
    return found


def is_loopback(address: str) -> bool:
    return address.removeprefix("::ffff:").startswith("127.") or address == "::1"
