"""A run on a Ray cluster, from `ray up` to `ray down`, with the losses that a cluster sees on the way."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster, wait_until
from tests.cluster.hosts import SHARED, hosts
from tests.cluster.jobs import RATES, Watch, beyond_a_checkpoint, hosts_of, write_job
from tune_jobs import Job, Run, open_run
from tune_jobs.events import Event, WorkerLost
from tune_jobs.single import train_one

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SLOW, SLOWER = 1.0, 3.0
"""Seconds an epoch, for as long as something is still to happen."""


@dataclass(frozen=True)
class Story:
    """What was seen on the way.

    Attributes:
        lost: trials that were past a checkpoint on the worker that lost its power.
        before: events up to then.
        after: events when the last of them went on, and a host that joined later had reported.
        made: the run, in the end.
        beginnings: of trainings up to then, see `Watch`.
        left: Ray's processes behind `ray down`.
    """

    lost: Sequence[str]
    before: Sequence[Event]
    after: Sequence[Event]
    made: Run
    beginnings: Sequence[str]
    left: Sequence[str]


@pytest.fixture(scope="module")
def story(disks: Path) -> Iterator[Story]:
    with hosts(disks, ["laptop", "head", "worker1", "worker2", "worker3"]) as made:
        cluster = Cluster(made)
        watch = Watch(disks / "shared")
        cluster.up("worker1", "worker2")
        write_job(disks / "shared" / "work")
        watch.pace(SLOW)
        run = f"tune-jobs run job.yaml --address {cluster.address}"
        driver = cluster.on("head", f"cd {SHARED}/work && {run}")
        wait_until(lambda: len(hosts_of(watch.events())) == 3, "a report of each host")
        wait_until(
            lambda: beyond_a_checkpoint(watch.events(), "worker1") != [], "a trial past its first rung"
        )
        watch.pace(SLOWER)
        made["worker1"].kill()
        before = watch.events()
        lost = beyond_a_checkpoint(before, "worker1")
        wait_until(
            lambda: set(lost) <= {e.trial_id for e in watch.events() if isinstance(e, WorkerLost)},
            "their loss",
        )
        cluster.join("worker3")
        wait_until(lambda: "worker3" in hosts_of(watch.events()), "a report of the new host")
        after, beginnings = watch.events(), watch.beginnings
        made["head"].kill()
        driver.end()
        made["head"].boot()
        watch.pace(0)
        cluster.up("worker2", "worker3")
        cluster.on("head", f"tune-jobs resume {SHARED}/runs/* --address {cluster.address}").succeed(300)
        cluster.down()
        left = cluster.ray_processes()
        yield Story(lost, before, after, open_run(watch.path), beginnings, left)


def test_trials_of_a_lost_host_go_on_elsewhere_from_their_checkpoints(story: Story) -> None:
    losses = [event for event in story.after if isinstance(event, WorkerLost)]
    assert {event.trial_id for event in losses} >= set(story.lost) != set()
    assert all(event.node_lost for event in losses)
    without_checkpoint = len(RATES) + len(losses) - len(story.lost)
    assert sum("fresh" in line for line in story.beginnings) <= without_checkpoint


def test_a_host_that_joins_gets_trials(story: Story) -> None:
    assert "worker3" in hosts_of(story.after) - hosts_of(story.before)


def test_no_trial_is_lost_or_fails(story: Story) -> None:
    assert len(story.made.trials) == len(RATES)
    assert set(story.made.trials["status"]) <= {"completed", "stopped_early"}


def test_curves_are_those_of_one_machine(story: Story, disks: Path) -> None:
    job = Job.from_file(disks / "shared" / "work" / "job.yaml")
    for trial_id, record in story.made.record.trials.items():
        alone = [result.val_loss for result in train_one(job, record.configuration)]
        rows = story.made.epochs[story.made.epochs["trial_id"] == trial_id]
        assert list(rows["val_loss"]) == alone[: len(rows)]


def test_the_winner_is_the_same(story: Story) -> None:
    assert story.made.winner.configuration == {"lr": max(RATES)}


def test_ray_down_leaves_nothing(story: Story) -> None:
    assert story.left == []
