"""The number of trials that fit, machine by machine, now and after an autoscaler has started machines."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_jobs.cluster import capacity
from tune_jobs.cluster.capacity import Capacity, Cluster, Node, NodeGroup, missing_resource, places_on
from tune_jobs.errors import ResourceError
from tune_jobs.job.settings import ResourceSettings


def cluster_of(*nodes: tuple[float, float], groups: tuple[NodeGroup, ...] = ()) -> Cluster:
    """Return nodes with these CPUs and GPUs."""
    return Cluster(
        [Node(str(n), f"host{n}", {"CPU": cpus, "GPU": gpus}) for n, (cpus, gpus) in enumerate(nodes)], groups
    )


@pytest.mark.parametrize(
    ("cluster", "resources", "trials"),
    [
        (cluster_of((2, 0)), {}, 2),
        (cluster_of((8, 0)), {"cpus_per_trial": 3}, 2),
        (cluster_of((2, 0)), {"cpus_per_trial": 0.25}, 8),
        (cluster_of((8, 0)), {"max_concurrent": 3}, 3),
        (cluster_of((64, 2)), {"gpus_per_trial": 0.4}, 4),
        (cluster_of((64, 3)), {"gpus_per_trial": 2}, 1),
        (cluster_of((2, 8)), {"gpus_per_trial": 0.1}, 2),
        # The free CPUs of two machines together are no room for one more trial.
        (cluster_of((3, 0), (3, 0)), {"cpus_per_trial": 2}, 2),
        # The head has CPUs but no GPU: it takes no trial of this job.
        (cluster_of((16, 0), (4, 1), (4, 1)), {"gpus_per_trial": 1}, 2),
        # The workers of one trial may be on several machines.
        (cluster_of((3, 0), (3, 0)), {"workers_per_trial": 4}, 1),
        (cluster_of((8, 2), (8, 2)), {"workers_per_trial": 2, "gpus_per_trial": 1}, 2),
    ],
)
def test_as_many_trials_as_the_machines_have_room_for(
    cluster: Cluster, resources: dict[str, float], trials: int
) -> None:
    assert cluster.concurrent_trials(ResourceSettings(**resources)) == trials


def test_an_autoscaler_is_shown_the_trials_that_it_is_to_start_machines_for() -> None:
    workers = NodeGroup({"CPU": 8.0, "GPU": 1.0}, most=4)
    cluster = cluster_of((2, 0), groups=(workers,))
    assert cluster.concurrent_trials(ResourceSettings(gpus_per_trial=0.5)) == 8
    assert cluster.concurrent_trials(ResourceSettings(gpus_per_trial=0.5, max_concurrent=5)) == 5


@pytest.mark.parametrize(
    ("cluster", "resources", "message"),
    [
        (
            cluster_of((2, 0)),
            {"cpus_per_trial": 4},
            r"resources\.cpus_per_trial: a trial asks for 4, but this machine has 2; set `--resources\.cpus_per_trial` "
            "to at most 2",
        ),
        (
            cluster_of((2, 0)),
            {"gpus_per_trial": 0.5},
            r"resources\.gpus_per_trial: a trial asks for 0\.5, but this machine has 0",
        ),
        (
            cluster_of((4, 0), (4, 0)),
            {"cpus_per_trial": 8},
            r"a trial asks for 8, but the largest machine of the cluster has 4",
        ),
        (
            replace(cluster_of((2, 0)), joined=True),
            {"gpus_per_trial": 1},
            r"a trial asks for 1, but the largest machine of the cluster has 0; ask for no GPU, or use",
        ),
        (
            cluster_of((16, 0), (1, 4)),
            {"cpus_per_trial": 4, "gpus_per_trial": 1},
            r"asks for 4 CPU and 1 GPU on one machine, but none has both \(host0: 16 CPU; host1: 1 CPU and 4 GPU\)",
        ),
        (
            cluster_of((2, 0), (1, 0)),
            {"workers_per_trial": 4},
            r"asks for 4 workers of 1 CPU each, but there is room for 3; set `--resources\.workers_per_trial`",
        ),
    ],
)
def test_a_resource_that_no_machine_has_is_an_error_that_names_it(
    cluster: Cluster, resources: dict[str, float], message: str
) -> None:
    with pytest.raises(ResourceError, match=message):
        cluster.concurrent_trials(ResourceSettings(**resources))


def test_capacity_follows_the_cluster_and_is_never_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "SECONDS_BETWEEN_VIEWS", -1.0)
    seen = cluster_of((2, 0))
    now = Capacity(ResourceSettings(), lambda: seen)
    assert now.first == now() == 2
    seen = cluster_of((2, 0), (4, 0))
    assert now() == 6
    assert now.first == 2
    seen = cluster_of()
    assert now() == 1


def test_capacity_looks_once_a_second_at_most() -> None:
    looks = []

    def view() -> Cluster:
        looks.append(1)
        return cluster_of((2, 0))

    now = Capacity(ResourceSettings(), view)
    assert [now() for _ in range(1000)] == [2] * 1000
    assert len(looks) < 10


amounts = st.integers(0, 64).map(float)
needs = st.one_of(st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.7]), st.integers(1, 8).map(float))


@given(cpus=amounts, gpus=amounts, cpu=needs, gpu=needs)
def test_so_many_bundles_fit_and_not_one_more(cpus: float, gpus: float, cpu: float, gpu: float) -> None:
    places = places_on({"CPU": cpus, "GPU": gpus}, {"CPU": cpu, "GPU": gpu})
    a_gpu = math.floor(1 / gpu + 1e-9) if gpu < 1 else 1 / gpu
    assert places * cpu <= cpus + 1e-6
    assert places <= gpus * a_gpu + 1e-6
    assert (places + 1) * cpu > cpus - 1e-6 or places + 1 > gpus * a_gpu - 1e-6


@pytest.mark.parametrize(
    ("free", "missing"),
    [
        ([{"CPU": 1.0, "GPU": 1.0}], None),
        ([{"CPU": 4.0}], "GPU"),
        ([{"GPU": 1.0}, {"GPU": 2.0}], "CPU"),
        ([{"CPU": 4.0}, {"GPU": 1.0}], "CPU and GPU"),
        ([], "GPU"),
    ],
)
def test_the_resource_that_is_missing(free: list[dict[str, float]], missing: str | None) -> None:
    assert missing_resource({"CPU": 1.0, "GPU": 0.5}, free) == missing


@pytest.mark.parametrize(
    ("groups", "grows"),
    [
        ((), False),
        ((NodeGroup({"CPU": 2.0}, 1),), False),
        ((NodeGroup({"CPU": 2.0}, 1), NodeGroup({"GPU": 1.0}, 3)), True),
    ],
)
def test_a_cluster_grows_if_it_may_start_more_machines(groups: tuple[NodeGroup, ...], grows: bool) -> None:
    assert Cluster([Node("a", "one", {"CPU": 2.0})], groups).grows == grows
