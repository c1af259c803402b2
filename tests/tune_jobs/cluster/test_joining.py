"""Access to a cluster with a token, and early error messages: against a real head node."""

import platform
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.head_node import Head, head_node
from tune_jobs.cluster import reachability
from tune_jobs.cluster.reachability import check_address
from tune_jobs.errors import ResourceError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with head_node(dashboard=False) as made:
        yield made


@pytest.fixture
def no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "and none was given; export RAY_AUTH_MODE=token"),
        ({"RAY_AUTH_MODE": "token"}, "RAY_AUTH_MODE is token, but there is no token; export"),
        (
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)},
            "and the one in RAY_AUTH_TOKEN is wrong; export RAY_AUTH_MODE",
        ),
    ],
)
def test_a_missing_token_is_an_error_with_its_cure(
    head: Head, environment: dict[str, str], words: str, no_token: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ResourceError, match=words) as error:
        check_address(address_of(head))
    assert not any(value in str(error.value) for value in environment.values() if value != "token")


@pytest.fixture
def let_in(head: Head, no_token: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the address of a head whose token this process has."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", head.token)
    return address_of(head)


def test_the_holder_of_the_token_may_connect(let_in: str) -> None:
    assert check_address(let_in) == let_in


def test_other_versions_are_named(let_in: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "python_version", lambda: "3.12.1")
    with pytest.raises(
        ResourceError, match=r"the versions differ: Python 3\.12\.1 here and 3\.11\.\d+ there; install"
    ):
        check_address(let_in)


def test_an_address_without_ray_is_an_error(no_token: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reachability, "SECONDS_TO_ANSWER", 6.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(
            ResourceError, match="something listens there, but does not answer like a head node"
        ):
            check_address(address)


def address_of(head: Head) -> str:
    return f"127.0.0.1:{head.port}"
