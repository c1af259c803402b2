"""The private parts of Ray (2.60) that the questions to a cluster rest on: Ray has no public way to ask them.

They are here and not in `tuning.ray_patches`, because this package must not import from `tuning`. Each has
one test in `tests/tune_jobs/cluster/test_ray_internals.py` that fails if another version of Ray changes the part. The
functions import Ray: this module is imported before it is known whether Ray is needed.
"""

from collections.abc import Mapping
from typing import Any


def running_head() -> str | None:
    """Return the `HOST:PORT` of the Ray that this machine belongs to; None if no Ray was started here."""
    from ray._private.services import canonicalize_bootstrap_address  # noqa: PLC0415 (see the module)

    found = canonicalize_bootstrap_address("auto")
    return None if found is None else str(found)


def require_token() -> None:
    """Check that there is a token if Ray asks for one; otherwise Ray's client would end the process.

    Raises:
        AuthenticationError: There is no token.
    """
    from ray._private.authentication import authentication_token_setup  # noqa: PLC0415 (see the module)

    authentication_token_setup.ensure_token_if_auth_enabled(create_token_if_missing=False)


def cluster_metadata(address: str, seconds: float) -> bytes:
    """Return what the control service at `address` stores about its cluster, as JSON.

    Args:
        address: `HOST:PORT` of the head.
        seconds: Seconds to wait for the answer.

    Raises:
        AuthenticationError: The token is missing or wrong.
    """
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # noqa: PLC0415 (it is compiled)

    client = GcsClient(address=address)
    said: bytes = client.internal_kv_get(b"CLUSTER_METADATA", b"cluster", timeout=seconds)
    return said


def free_resources_of_nodes() -> Mapping[str, Any]:
    """Return the free amounts of each resource on each node that is alive, by the node's id."""
    from ray._private.state import available_resources_per_node  # noqa: PLC0415 (see the module)

    per_node: Mapping[str, Any] = available_resources_per_node()  # type: ignore[no-untyped-call]
    return per_node
