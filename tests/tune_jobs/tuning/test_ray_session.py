"""Messages if Ray cannot be reached, or has a version that is not supported."""

import os
import tomllib
from pathlib import Path

import pytest

from tune_jobs.errors import ResourceError
from tune_jobs.tuning.ray_session import RAY, ray_connection


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


def test_another_ray_than_runs_are_built_on_is_refused_in_one_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray

    monkeypatch.setattr(ray, "__version__", "2.61.0")
    with (
        pytest.raises(ResourceError, match=r"Ray 2\.61\.0 is installed, but runs need Ray 2\.60; install"),
        ray_connection(),
    ):
        pass


def test_the_installed_ray_is_the_supported_one() -> None:
    project = tomllib.loads(Path(__file__).parents[3].joinpath("pyproject.toml").read_text())["project"]
    major, minor = RAY.split(".")
    assert f"ray[default,tune]>={RAY},<{major}.{int(minor) + 1}" in project["dependencies"]
