"""What is said of clusters: of their machines, of submissions, of workers that died, and of disks and stores."""

import errno
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError, OutOfMemoryError

from tests.messages import cluster_parts as parts
from tests.messages.conftest import Say
from tests.messages.jobs import write_job
from tests.messages.jobs_server import job, serving
from tests.messages.product import run_errors
from tests.messages.snapshots import check


def complaint(call: Callable[[], Any]) -> str:
    try:
        given = call()
    except (run_errors.TuneJobsError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return "\n".join(given) if isinstance(given, list | tuple) else str(given)


BOTH = {"cpus_per_trial": 4, "gpus_per_trial": 1}


def test_machines_that_do_not_fit() -> None:
    small, large = {"CPU": 2.0}, {"CPU": 8.0, "GPU": 1.0}
    said = {}
    for name, machines, joined, settings in (
        ("too many CPUs here", [small], False, {"cpus_per_trial": 4}),
        ("too many CPUs in a cluster", [small, small], True, {"cpus_per_trial": 4}),
        ("a GPU without any", [small], False, {"gpus_per_trial": 1}),
        ("more workers than there is room for", [small], True, {"workers_per_trial": 5}),
        ("a worker that is too large", [small], True, {"workers_per_trial": 2, "cpus_per_trial": 3}),
        ("both on one machine", [{"CPU": 8.0}, {"CPU": 1.0, "GPU": 1.0}], True, BOTH),
        ("enough", [large], True, {"cpus_per_trial": 4}),
    ):  # fmt: skip
        nodes = [parts.Node(f"id{n}", f"node-{n}", amounts) for n, amounts in enumerate(machines)]
        cluster = parts.Cluster(nodes, joined=joined)
        resources = parts.ResourceSettings.model_validate(settings)
        said[name] = complaint(
            lambda cluster=cluster, resources=resources: cluster.concurrent_trials(resources)
        )  # type: ignore[misc]
    two = [{"CPU": 2.0}, {"CPU": 2.0}]
    said |= {
        "room that is not used": parts.why_unplaced([small], [large], 30),
        "room for some": parts.why_unplaced([small] * 3, [large], 30),
        "not together": parts.why_unplaced([large], [{"CPU": 8.0}, {"GPU": 1.0}], 30),
        "too little": parts.why_unplaced([large], two, 30),
    }
    check("machines", said, {})


def test_nodes_that_are_unfit(place: Path) -> None:
    (file := place / "rows.csv").touch()
    storage = parts.StorageCheck.put(place)
    said = {
        "all fit": complaint(lambda: parts.refuse_unfit({"node-0": None})),
        "two unfit": complaint(lambda: parts.refuse_unfit({"a": None, "b": "has no disk", "c": "is late"})),
        "other versions": str(
            parts.problem_of(parts.Answer({"python": "3.9.1", "ray": "2.0"}, None), {"python": "3.11.1", "ray": "2.60"})
        ),
        "another place of the name": str(parts.StorageCheck(place, ".other").answer("node-0")),
        "storage that is not seen": complaint(lambda: storage.raise_unless_shared({"a": None, "b": "no such path"})),
        "storage that is no folder": complaint(lambda: parts.StorageCheck.put(file)),
    }  # fmt: skip
    storage.remove()
    check("nodes", said, {place: "FOLDER"})


def test_addresses(place: Path, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    write_job(place)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    said = {
        line: say(line)
        for line in (
            "run job.yaml --address nowhere",
            "run job.yaml --address 127.0.0.1:1",
            "status --address ftp://127.0.0.1",
            "status --address http://127.0.0.1:1",
        )
    }
    said["another version of Ray"] = complaint(lambda: parts.check_version("1.0.0"))
    parts.PROCESSES_WITH_RAY.add(1)
    said["a process forked from one that has used Ray"] = complaint(parts.refuse_forked)
    parts.PROCESSES_WITH_RAY.remove(1)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x")
    said["a token that is not sent"] = parts.token_problem(sent=False)
    said["a token that is wrong"] = parts.token_problem(sent=True)
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    said["no token"] = parts.token_problem(sent=False)
    said["a token of a file that is wrong"] = parts.token_problem(sent=True)
    check("addresses", said, {place: "FOLDER"})


@pytest.mark.slow
def test_submissions(place: Path, say: Say) -> None:
    write_job(place)
    jobs = {
        one["submission_id"]: one
        for one in (
            job("waiting", "PENDING", None, ""),
            job("running", "RUNNING", None, "begun: running\n5 s: 1 of 4 trials ended\n"),
            job("done", "SUCCEEDED", 0, "begun: done\nwinner: trial 0001\nrun: x\n"),
            job("refused", "FAILED", 2, "tune-jobs: job.yaml: 1 problem\n  storage  is full\n"),
            job("failed", "FAILED", 1, "begun: failed\ntune-jobs: no trial succeeded\n"),
            job("cut", "FAILED", 130, "begun: cut\ntune-jobs: interrupted; `tune-jobs resume /shared/cut` goes on\n"),
            job("cut-again", "RUNNING", None, "begun: cut\n", run="/shared/cut"),
            job("lost", "FAILED", -9, "begun: lost\n"),
            job("silent", "FAILED", 1, ""),
            job("absent", "FAILED", 1, "python3: No module named 'tune_jobs'\n"),
            job("foreign", "RUNNING", None, "", ours=False),
        )
    }  # fmt: skip
    said = {}
    with serving(jobs) as server:
        at = f"--address http://{server}"
        for line in (
            "status",
            *(f"status {name}" for name in jobs),
            "logs done",
            "logs cut",
            "stop done",
            "stop waiting",
            "stop running",
            "resume running --seed 3",
            "resume nowhere",
            "resume cut-again",
            "fetch nowhere",
        ):
            said[line] = say(f"{line} {at}").replace(server.rpartition(":")[2], "PORT")
    with serving({}) as server:
        said["status, without any"] = say(f"status --address http://{server}").replace(
            server.rpartition(":")[2], "PORT"
        )
    with serving({}, version="1.0.0") as server:
        said["status, of another Ray"] = say(f"status --address http://{server}").replace(
            server.rpartition(":")[2], "PORT"
        )
    with serving({}, status=404) as server:
        said["status, of another server"] = say(f"status --address http://{server}").replace(
            server.rpartition(":")[2], "PORT"
        )
    with serving({}, status=500) as server:
        said["status, of a server that fails"] = say(f"status --address http://{server}").replace(
            server.rpartition(":")[2], "PORT"
        )
    said = {
        name: re.sub(r" {2,}", "  ", re.sub(r"\bfor \d+ h \d+ min|\b\d{3,} h \d+ min", "for TIME", text))
        for name, text in said.items()
    }
    check("submissions", said, {place: "FOLDER"})


def test_jobs_that_cannot_be_sent(place: Path, say: Say) -> None:
    write_job(place)
    cases = {
        "a storage of this machine": "",
        "a storage without data": "--storage /shared/runs --data.source missing.csv",
        "data of the cluster": "--storage /shared/runs --data.source /shared/rows.csv",
        "a valid job": "--storage /shared/runs",
        "something that is missing": "--storage /shared/runs --include missing",
    }
    address = "--address http://127.0.0.1:1"
    said = {name: say(f"submit job.yaml {overrides} {address}") for name, overrides in cases.items()}
    check("submit", said, {place: "FOLDER"})


def test_workers_that_died() -> None:
    causes: dict[str, Exception | str | None] = {
        "nothing known": None,
        "another reason": "ValueError: of the trial\nmore",
        "the process": "The actor died unexpectedly: its worker process has died.",
        "the machine": "its node has died. The node was terminated unexpectedly: health check failed",
        "memory": OutOfMemoryError("7.60GB used / 8.00GB limit"),
        "unreachable": ActorUnavailableError("away", None),
    }
    said = {}
    for name, cause in causes.items():
        loss = parts.loss_by(cause)
        said[name] = loss.reason
        for retries in (0, 1, 2):
            failure = parts.failure_after(loss, workers_lost=2, machines_lost=99, retries=retries)
            said[f"{name}, after {retries} retries"] = str(failure)
    check("workers", said, {})


def test_disks_that_are_full(place: Path) -> None:
    def fail(error: Exception) -> Callable[[], None]:
        def call() -> None:
            with parts.storage_failures(place / "runs" / "a"):
                raise error

        return call

    full = OSError(errno.ENOSPC, "No space left on device", str(place / "runs" / "a" / "file"))
    said = {
        "full": complaint(fail(full)),
        "read-only": complaint(fail(OSError(errno.EROFS, "Read-only file system"))),
        "in the words of Ray": complaint(fail(RuntimeError("x: [Errno 28] No space left: '/runs/a/b'"))),
    }
    check("disks", said, {place: "FOLDER"})
