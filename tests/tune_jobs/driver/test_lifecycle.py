"""Messages about machines that a cluster may start later."""

from pathlib import Path

import pytest

from tune_jobs.cluster.capacity import Cluster, Node, NodeGroup
from tune_jobs.driver.lifecycle import notices_on
from tune_jobs.location import Location

HEAD = Node("a", "head", {"CPU": 2.0})
GROWS = Cluster([HEAD], [NodeGroup({"CPU": 2.0}, 1), NodeGroup({"GPU": 1.0}, 3)])
FOLDER = Path("/shared/runs/20260101-demo/checkpoints")


def test_machines_to_come_must_mount_the_folder() -> None:
    (text,) = notices_on(GROWS, FOLDER)
    assert text == (
        "machines that the cluster starts from now on must mount /shared/runs at that path; a trial that cannot "
        "save its checkpoints there ends the run"
    )


@pytest.mark.parametrize(
    ("cluster", "place"),
    [(Cluster([HEAD]), FOLDER), (GROWS, Location.parse("s3://bucket/runs/demo/checkpoints"))],
)
def test_nothing_is_said_if_no_machine_joins_or_all_reach_the_store(
    cluster: Cluster, place: Path | Location
) -> None:
    assert notices_on(cluster, place) == []
