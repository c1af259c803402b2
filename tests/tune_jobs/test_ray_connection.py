"""What is said where Ray cannot be reached."""

import os

import pytest

from tune_jobs.errors import ResourceError
from tune_jobs.ray_connection import ray_connection


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "no.such.host.invalid:6379"])
def test_an_address_without_ray_is_one_message_and_the_environment_is_as_before(address: str) -> None:
    import ray  # noqa: F401 (it sets variables of its own)

    before = dict(os.environ)
    with (
        pytest.raises(ResourceError, match=f"--address {address}: no Ray answers there .*HOST:PORT"),
        ray_connection(address),
    ):
        pass
    assert dict(os.environ) == before
