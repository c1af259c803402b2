"""How many trials run at a time, and what is said where Ray cannot be reached or has too little."""

import os

import pytest

from tune_jobs.errors import ResourceError
from tune_jobs.job_sections import ResourceSettings
from tune_jobs.ray_connection import Cluster, ray_connection


@pytest.mark.parametrize(
    ("cluster", "resources", "trials"),
    [
        (Cluster(cpus=2, gpus=0), ResourceSettings(), 2),
        (Cluster(cpus=8, gpus=0), ResourceSettings(cpus_per_trial=3), 2),
        (Cluster(cpus=2, gpus=0), ResourceSettings(cpus_per_trial=0.25), 8),
        (Cluster(cpus=8, gpus=0), ResourceSettings(max_concurrent=3), 3),
        (Cluster(cpus=64, gpus=2), ResourceSettings(gpus_per_trial=0.4), 4),
        (Cluster(cpus=64, gpus=3), ResourceSettings(gpus_per_trial=2), 1),
        (Cluster(cpus=2, gpus=8), ResourceSettings(gpus_per_trial=0.1), 2),
    ],
)
def test_as_many_trials_as_there_is_room_for(
    cluster: Cluster, resources: ResourceSettings, trials: int
) -> None:
    assert cluster.concurrent_trials(resources) == trials


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (
            ResourceSettings(cpus_per_trial=4),
            r"resources\.cpus_per_trial: a trial asks for 4, and there are 2",
        ),
        (
            ResourceSettings(gpus_per_trial=0.5),
            r"resources\.gpus_per_trial: a trial asks for 0\.5, and there are 0",
        ),
    ],
)
def test_no_room_for_a_single_trial_is_an_error(resources: ResourceSettings, message: str) -> None:
    with pytest.raises(ResourceError, match=message):
        Cluster(cpus=2, gpus=0).concurrent_trials(resources)


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
