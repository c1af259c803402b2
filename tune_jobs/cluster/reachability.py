"""Check, before anything else, that a Ray of our version answers at an address and accepts this process.

Ray itself would try for minutes, or end the process if it finds no token. So a separate small process asks Ray's
control service, and has some seconds to do so. This file is also the program of that process.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping

from tune_jobs.cluster.ray_internals import cluster_metadata, require_token, running_head
from tune_jobs.errors import ResourceError
from tune_jobs.versions import differences, versions_here

SECONDS_TO_CONNECT = 5.0
"""Seconds to wait for a connection to the address."""
SECONDS_TO_ANSWER = 20.0
"""Seconds that the process that asks may take; importing Ray takes one or two of them."""
_REFUSED = "refused"
_HOW_TO_BE_LET_IN = (
    "export RAY_AUTH_MODE=token, and give the cluster's token as RAY_AUTH_TOKEN or in ~/.ray/auth_token "
    "(`ray get-auth-token` on its head prints it)"
)


def token_problem(*, sent: bool) -> str:
    """Return why a cluster refuses this process, and what to do; `sent` says whether it was given a token."""
    kept = next((name for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH") if os.environ.get(name)), None)
    if sent:
        why = f"the one in {kept or '~/.ray/auth_token'} is wrong"
    elif kept and os.environ.get("RAY_AUTH_MODE") != "token":
        why = f"{kept} is not sent because RAY_AUTH_MODE is not token"
    else:
        why = "none was given"
    return f"the cluster requires its token, and {why}; {_HOW_TO_BE_LET_IN}"


def check_address(address: str) -> str:
    """Check that a Ray of our version answers at `address` and accepts this process.

    Args:
        address: `HOST:PORT` of a head node, or `auto` for the cluster that this machine belongs to.

    Returns:
        The address as `HOST:PORT`.

    Raises:
        ResourceError: Nothing answers, or not as a Ray does; the token is missing or wrong; the versions differ.
    """
    address = _resolve(address)
    try:
        _connect(address)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise _no_ray(address, reason) from error
    outcome = _ask(address)
    if outcome is None:
        raise _no_ray(address, "something listens there, but does not answer like a head node")
    if _REFUSED in outcome:
        raise ResourceError(f"--address {address}: {outcome[_REFUSED]}")
    cluster = {name: outcome[f"{name}_version"] for name in ("ray", "python") if f"{name}_version" in outcome}
    if differing := differences(versions_here(["ray"]), cluster):
        raise ResourceError(
            f"--address {address}: the versions differ: {differing}; install the same on both sides, with the "
            "project's constraints.txt"
        )
    return address


def _resolve(address: str) -> str:
    if address != "auto":
        return address
    found = running_head()
    if found is None:
        raise ResourceError(
            "--address auto: no Ray was started on this machine; start one with `ray start`, or give HOST:PORT of a "
            "running head node"
        )
    return found


def _connect(address: str) -> None:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError("it is not of the form HOST:PORT")
    socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS_TO_CONNECT).close()


def _ask(address: str) -> Mapping[str, str] | None:
    """Return what the control service says about its cluster; None if the answer cannot be understood."""
    quiet = {"RAY_BACKEND_LOG_LEVEL": "fatal"}
    try:
        answer = subprocess.run(  # noqa: S603 (this file, by this Python)
            [sys.executable, "-c", f"from {__name__} import main; main({address!r})"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **quiet, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            timeout=SECONDS_TO_ANSWER,
            check=False,
        ).stdout
        said: Mapping[str, str] = json.loads(answer.splitlines()[-1])
    except (subprocess.TimeoutExpired, IndexError, ValueError):
        return None
    return said


def main(address: str) -> None:
    """Ask the control service, and print the answer as JSON."""
    from ray.exceptions import AuthenticationError  # noqa: PLC0415 (imports Ray)

    try:
        require_token()
    except AuthenticationError:
        refused = f"RAY_AUTH_MODE is token, but there is no token; {_HOW_TO_BE_LET_IN}"
        print(json.dumps({_REFUSED: refused}))  # noqa: T201 (to the asker)
        return
    try:
        answer = json.loads(cluster_metadata(address, SECONDS_TO_CONNECT))
    except AuthenticationError:
        answer = {_REFUSED: token_problem(sent=os.environ.get("RAY_AUTH_MODE") == "token")}
    print(json.dumps(answer))  # noqa: T201 (to the asker)


def _no_ray(address: str, reason: str) -> ResourceError:
    return ResourceError(
        f"--address {address}: no Ray answers there ({reason}); give HOST:PORT of a running head node"
    )
