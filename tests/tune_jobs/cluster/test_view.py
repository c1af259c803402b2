"""Machines that an autoscaler may start, read from the file that Ray's launcher leaves on the head."""

from pathlib import Path

import pytest

from tune_jobs.cluster.capacity import NodeGroup
from tune_jobs.cluster.view import LAUNCHED, groups_at, node_groups

LAUNCHER = """
cluster_name: demo
max_workers: 6
head_node_type: head
available_node_types:
  head: {resources: {CPU: 2}, node_config: {}, max_workers: 0}
  spot: {resources: {CPU: 8, GPU: 1}, node_config: {}, min_workers: 0, max_workers: 4}
  on_demand: {resources: {CPU: 8, GPU: 1}, node_config: {}, min_workers: 0, max_workers: 4}
"""


def test_the_kinds_of_machines_and_never_more_than_the_launcher_starts(tmp_path: Path) -> None:
    (tmp_path / LAUNCHED).write_text(LAUNCHER)
    groups = groups_at(tmp_path)
    worker = {"CPU": 8.0, "GPU": 1.0}
    assert groups == (
        NodeGroup({"CPU": 2.0}, 1),
        NodeGroup(worker, 4),
        NodeGroup(worker, 2),
    )


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "[1, 2]",
        "available_node_types: 3",
        "available_node_types: {a: 1}",
        LAUNCHER.replace("6", "many"),
    ],
)
def test_a_file_that_is_none_of_the_launchers_is_no_error(text: str, tmp_path: Path) -> None:
    (tmp_path / LAUNCHED).write_text(text)
    assert groups_at(tmp_path) == ()


def test_without_a_launcher_there_is_nothing_to_start(tmp_path: Path) -> None:
    assert groups_at(tmp_path) == ()


@pytest.mark.parametrize(
    "launcher", [{}, {"available_node_types": None}, {"available_node_types": {"a": {}}}]
)
def test_kinds_whose_resources_are_not_known_are_left_out(launcher: dict[str, object]) -> None:
    assert node_groups(launcher) == ()
