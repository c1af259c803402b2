"""Runs on a Ray cluster, from `ray up` to `ray down`: what its hosts share, and hosts that join and die during a run.

One cluster serves all tests: to bring it up takes longer than a run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest

from tests.cluster.cluster import DASHBOARD_PORT, Cluster, wait_until
from tests.cluster.hosts import PRIVATE, SHARED, hosts
from tests.cluster.jobs import (
    RATES,
    Watch,
    came_back,
    host_of,
    hosts_of,
    lost_workers,
    past_a_checkpoint,
    record_of,
    write_job,
)
from tests.cluster.ports import is_loopback
from tests.cluster.sharing import MEGABYTES, SHARES, Sharing, observe_sharing
from tune_jobs import Job, Run, open_run
from tune_jobs.driver.train_alone import train_one
from tune_jobs.record.codes import Status
from tune_jobs.record.events import (
    Event,
    WorkerLost,
)

pytestmark = pytest.mark.slow

SECONDS_OF_AN_EPOCH = 1.0
METRICS = "metrics"
REFUSED = {"401", "UNAUTHENTICATED"}


@dataclass(frozen=True)
class Losses:
    """Observations of a run until its head died.

    Attributes:
        run: The name of the run.
        first: Events when each of the first hosts had reported.
        status, logs, watched: Outputs of commands at this time, the last one from the head, the others from the laptop.
        joined: events when a host that was switched on later had reported, and all had as many trials as they have
            room for.
        lost: Trials with reports after a checkpoint on a worker that was killed then.
        noticed: Events when these trials had reported again.
        beginnings: The starts of trainings up to then, see `Watch`.
    """

    run: str
    first: Sequence[Event]
    status: str
    logs: str
    watched: str
    joined: Sequence[Event]
    lost: set[str]
    noticed: Sequence[Event]
    beginnings: Sequence[str]


@dataclass(frozen=True)
class Observations:
    """All observations of the test.

    Attributes:
        job: The job as it is in its file.
        losses: The observations until the head died.
        made: The finished run.
        fetched: The finished run on the laptop.
        left: Ray's processes at the end.
    """

    job: Job
    losses: Losses
    made: Run
    fetched: Run
    left: Sequence[str]


@pytest.fixture(scope="module")
def watch(disks: Path) -> Watch:
    return Watch(disks / "shared")


@pytest.fixture(scope="module")
def cluster(disks: Path) -> Iterator[Cluster]:
    """Yield a cluster of two hosts beside the laptop. A third one is switched off."""
    with hosts(disks, ["laptop", "head", "worker1", "worker2"], off=["worker2"]) as made:
        up = Cluster(made, cpus=1, object_store=2 * MEGABYTES * 10**6)
        up.up()
        yield up


@pytest.fixture(scope="module")
def sharing(cluster: Cluster, watch: Watch) -> Sharing:
    with cluster.tunnel():
        return observe_sharing(cluster, watch)


@pytest.fixture(scope="module")
def observed(cluster: Cluster, watch: Watch, sharing: Sharing) -> Observations:
    """Return the observations of a run. They come last: the cluster is down after them."""
    laptop = cluster.laptop
    job = write_job(laptop.home / "work")
    with cluster.tunnel():
        losses = run_with_losses(cluster, watch)
    cluster.head.boot()
    watch.pace(0)
    watch.release()
    cluster.up()
    run = f"{SHARED}/runs/{losses.run}"
    with cluster.tunnel() as url:
        again = laptop.run("tune-jobs", "resume", run, "--address", url, "--resources.max_concurrent", "1")
        laptop.run("tune-jobs", "logs", "--follow", last_word(again))
        laptop.run("tune-jobs", "fetch", run)
    cluster.down()
    fetched = open_run(laptop.home / "runs" / losses.run)
    return Observations(job, losses, open_run(watch.path), fetched, cluster.ray_processes())


def run_with_losses(cluster: Cluster, watch: Watch) -> Losses:
    """Submit the job. Then one host joins, one host dies, and at last the head dies. Trials are held meanwhile."""
    laptop, made = cluster.laptop, cluster.hosts
    watch.pace(SECONDS_OF_AN_EPOCH)
    run = last_word(laptop.run("tune-jobs", "submit", "work/job.yaml"))
    watching = cluster.on("head", f"tune-jobs watch {SHARED}/runs/{run}")
    wait_until(lambda: len(hosts_of(watch.events())) == 2, "a report of each host")
    first = watch.events()
    watch.hold()
    made["worker2"].boot()
    status = laptop.run("tune-jobs", "status", run)
    logs = laptop.run("tune-jobs", "logs", run)
    wait_until(lambda: any("worker2" in line for line in watch.beginnings), "a trial on the new host")
    watch.release()
    wait_until(lambda: "worker2" in hosts_of(watch.events()), "a report of the new host")
    watch.hold()
    wait_until(lambda: running(watch.events()) == 3, "as many trials as there is room for")
    joined = watch.events()
    watch.release()
    wait_until(lambda: past_a_checkpoint(watch.events(), "worker1") != set(), "a trial past a rung")
    watch.hold()
    made["worker1"].kill()
    lost = past_a_checkpoint(watch.events(), "worker1")
    wait_until(lambda: lost <= lost_workers(watch.events()), "the news of its death")
    watch.release()
    wait_until(lambda: lost <= came_back(watch.events()), "their return")
    watch.hold()
    noticed, beginnings = watch.events(), watch.beginnings
    made["head"].lose_power()
    watching.end()
    return Losses(run, first, status, logs, watching.said, joined, lost, noticed, beginnings)


def last_word(text: str) -> str:
    """Return the submission, which is the last word of the command's output."""
    return text.rsplit(maxsplit=1)[-1]


def running(events: Sequence[Event]) -> int:
    """Return the number of trials that have a worker."""
    return len(record_of(events).with_status(Status.RUNNING))


# What hosts share


def test_data_reach_a_host_once_whatever_the_number_of_trials(sharing: Sharing) -> None:
    """The driver on the head has them already."""
    assert set(sharing.made.trials["status"]) == {"completed"}
    sent = MEGABYTES * (SHARES["train"] + SHARES["validation"])
    trials = {"head": 0, "worker1": 0}
    for trial in sharing.made.record.trials.values():
        trials[host_of(trial.worker)] += 1
    workers = {trial.worker for trial in sharing.made.record.trials.values()}
    print(f"{sharing.arrived} MB for {trials} trials; the arrays have {sent:.0f} MB")
    assert sorted(map(host_of, workers)) == ["head", "head", "worker1", "worker1"]
    assert sent < sharing.arrived["worker1"] < 1.25 * sent
    assert sharing.arrived["head"] < 0.25 * sent


def test_the_dashboard_listens_on_loopback_alone(sharing: Sharing) -> None:
    assert all(map(is_loopback, sharing.ports[DASHBOARD_PORT]))


def test_nothing_but_metrics_is_open(sharing: Sharing) -> None:
    metrics = {port for port, said in sharing.answers.items() if METRICS in said["none"]}
    assert len(metrics) == 3  # of the dashboard, the autoscaler and the node's agent
    for port, by_token in sharing.answers.items():
        if port in metrics:
            continue
        for token, said in by_token.items():
            refused = REFUSED | {"403"} if token == "wrong" else REFUSED
            assert said, f"{port}: no service was recognised"
            assert set(said) <= refused, f"{port}, {token} token: {said}"


def test_storage_of_one_host_alone_is_refused(sharing: Sharing) -> None:
    refused, files = sharing.of_one_host
    assert refused.code == 2
    assert f"storage: {PRIVATE}/runs" in refused.text
    assert "is not shared by all nodes; wrong on 1 of 2 nodes" in refused.text
    assert "worker1" in refused.text
    assert "give a folder that all of them mount at the same path, or an object store" in refused.text
    assert "Traceback" not in refused.text
    assert files == []


def test_the_dashboard_is_reached_through_the_tunnel_alone(sharing: Sharing) -> None:
    through, past = sharing.dashboard
    assert through == 0
    assert past != 0


def test_without_the_token_access_is_refused(sharing: Sharing) -> None:
    refused, mode = sharing.without_token
    assert oct(mode) == "0o600"
    assert refused.code == 2
    assert "token" in refused.text
    assert "Traceback" not in refused.text


# Hosts that join and die


def test_all_hosts_take_trials(observed: Observations) -> None:
    assert hosts_of(observed.losses.first) == {"head", "worker1"}
    assert running(observed.losses.first) <= 2


def test_the_run_is_shown_on_the_laptop_and_on_the_head(observed: Observations) -> None:
    assert "state: running" in observed.losses.status
    assert f"{len(RATES)} trials" in observed.losses.logs
    assert f"of {len(RATES)} trials ended" in observed.losses.watched


def test_a_host_that_joins_gets_trials_beside_those_that_run(observed: Observations) -> None:
    assert "worker2" in hosts_of(observed.losses.joined)
    assert running(observed.losses.joined) == 3


def test_trials_of_a_lost_host_continue_elsewhere_from_their_checkpoints(observed: Observations) -> None:
    losses = [event for event in observed.losses.noticed if isinstance(event, WorkerLost)]
    assert {event.trial_id for event in losses} >= observed.losses.lost != set()
    assert all(event.node_lost and "worker's machine" in event.reason for event in losses)
    without_checkpoint = len(losses) - len(observed.losses.lost)
    assert sum("fresh" in line for line in observed.losses.beginnings) <= len(RATES) + without_checkpoint


def test_no_trial_is_lost_or_fails_though_none_is_tried_again_after_a_fault_of_its_own(
    observed: Observations,
) -> None:
    assert observed.job.limits.retries_per_trial == 0
    assert len(observed.made.trials) == len(RATES)
    assert set(observed.made.trials["status"]) <= {"completed", "stopped_early"}


def test_the_check_of_the_storage_leaves_nothing(observed: Observations) -> None:
    assert not list((observed.made.path / "checkpoints").glob(".*"))


def test_curves_are_those_of_one_machine(observed: Observations) -> None:
    for trial_id, record in observed.made.record.trials.items():
        rows = observed.made.epochs[observed.made.epochs["trial_id"] == trial_id]
        alone = islice(train_one(observed.job, record.configuration), len(rows))
        assert [result.metrics["val_loss"] for result in alone] == list(rows["val_loss"])


def test_the_winner_is_the_same_although_the_head_died(observed: Observations) -> None:
    assert observed.made.winner.configuration == {"lr": max(RATES)}


def test_what_was_fetched_is_the_run(observed: Observations) -> None:
    assert observed.fetched.trials.equals(observed.made.trials)
    assert observed.fetched.epochs.equals(observed.made.epochs)
    assert observed.fetched.winner.checkpoint.read_bytes() == observed.made.winner.checkpoint.read_bytes()


def test_nothing_is_left_of_ray(observed: Observations) -> None:
    assert observed.left == []
