"""Run loads of sleeping trials, ours and Ray Tune's: `python -m benchmarks.sleeping LOADS.json DIARIES.json`."""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.cluster_utils import Cluster

from benchmarks.scaling import Diary, Load, Sleep
from tune_jobs.cluster.capacity import Capacity
from tune_jobs.driver.followers import following
from tune_jobs.driver.preparation import make_folder, prepare, run_started, trial_task
from tune_jobs.job.job import Job
from tune_jobs.record.codes import Cause
from tune_jobs.record.events import (
    EpochsReported,
    Event,
    TrialEnded,
    TrialStarted,
)
from tune_jobs.record.journal import Journal
from tune_jobs.record.live import LiveRun
from tune_jobs.trainers.settings import ScoreSettings
from tune_jobs.tuning.control import RunControl
from tune_jobs.tuning.loop import SharedTask, tune_trials
from tune_jobs.tuning.ray_session import ray_connection
from tune_jobs.worker.reporting import Reporter

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

OBJECT_STORE = 80_000_000
"""Bytes of each node's object store, which is almost empty."""
SECONDS_TO_GATHER = 900.0
"""Longest time, in seconds, that the first trial of a worker waits for the other workers."""


class Gathering:
    """A barrier: the first trial of each worker waits until all slots have a worker. All are on one machine.

    Args:
        folder: An empty folder.
        slots: The number of workers to wait for.
    """

    def __init__(self, folder: Path, slots: int) -> None:
        self._folder = folder
        self._slots = slots

    def wait(self) -> None:
        """Wait for all workers. Return at once if this worker has waited before."""
        mine = self._folder / str(os.getpid())
        if mine.exists():
            return
        mine.touch()
        end = time.monotonic() + SECONDS_TO_GATHER
        while sum(1 for _ in self._folder.iterdir()) < self._slots and time.monotonic() < end:
            time.sleep(0.2)


def sleep_for_us(
    config: Mapping[str, Any], *, load: Load, gathering: Gathering, score: ScoreSettings
) -> None:
    """Sleep and report after each part, as `train_trial` does after epochs: a trainable of tune-jobs."""
    gathering.wait()
    reporter = Reporter(score, tune.report)
    for epoch in range(1, load.reports + 1):
        time.sleep(load.seconds / load.reports)
        loss = 1.0 / epoch
        row = {"epoch": epoch, "train_loss": loss, "val_loss": loss, "lr": 0.1}
        reporter.add([{**row, "seconds": load.seconds / load.reports}])
        if epoch < load.reports:
            reporter.send()
    reporter.end(Cause.MAX_EPOCHS)


def sleep_for_ray(config: Mapping[str, Any], *, load: Load, gathering: Gathering) -> None:
    """Sleep and report after each part: the trainable for Ray Tune alone."""
    gathering.wait()
    for epoch in range(1, load.reports + 1):
        time.sleep(load.seconds / load.reports)
        tune.report({"val_loss": 1.0 / epoch})


def run_ours(load: Load, folder: Path) -> Diary:
    """Run a load with tune-jobs: search, journal and study are as in any run, and the data are not used."""
    job = Job.from_mapping(
        {
            "name": "sleep",
            "data": {"source": "digits"},
            "model": {"name": "linear"},
            "training": {"max_epochs": load.reports, "loss": "cross_entropy"},
            "search": {
                "space": {"lr": {"low": 1e-4, "high": 1.0, "log": True}},
                "method": "random",
                "trials": load.trials,
            },
            "scheduler": {"method": "none"},
            "storage": str(folder / "runs"),
        }
    )
    prepared = prepare(job)
    diary = Diary(time.time())

    def note(event: Event) -> None:
        if isinstance(event, EpochsReported):
            slept = sum(float(row["seconds"]) for row in event.results)
            diary.sleeps.append(Sleep(time.time(), time.process_time(), event.worker, slept))
        elif isinstance(event, TrialStarted):
            diary.handed.append(time.time())
        elif isinstance(event, TrialEnded):
            diary.ended.append(time.time())

    folder_of_run = make_folder(job, prepared)
    with ray_connection() as view, Journal(folder_of_run.journal) as journal:
        begins = run_started(job, prepared, folder_of_run)
        run = LiveRun.begin(folder_of_run, journal, begins, job.selection)
        trainable = tune.with_parameters(
            sleep_for_us, load=load, gathering=_gathering(folder, load), score=job.selection
        )
        with following(job, run, [note]):
            journal.append(begins)
            task = trial_task(job, run.folder)
            control = RunControl(max_running=Capacity(job.resources, view))
            tune_trials(job, run, SharedTask(task, trainable), control, view)
    return diary


def run_rays(load: Load, folder: Path) -> Diary:
    """Run the same load with Ray Tune and its defaults, but with workers that are used again."""
    diary = Diary(time.time())
    trainable = tune.with_parameters(sleep_for_ray, load=load, gathering=_gathering(folder, load))
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={"lr": tune.loguniform(1e-4, 1.0)},
        tune_config=tune.TuneConfig(
            metric="val_loss", mode="min", num_samples=load.trials, reuse_actors=True
        ),
        run_config=tune.RunConfig(
            name="sleep", storage_path=str(folder / "ray"), verbose=0, callbacks=[DiaryCallback(diary, load)]
        ),
    )
    tuner.fit()
    return diary


class DiaryCallback(tune.Callback):
    """Writes the diary of a run of Ray Tune."""

    def __init__(self, diary: Diary, load: Load) -> None:
        self._diary = diary
        self._seconds = load.seconds / load.reports

    def on_trial_start(self, iteration: int, trials: "list[Trial]", trial: "Trial", **info: Any) -> None:
        self._diary.handed.append(time.time())

    def on_trial_result(
        self, iteration: int, trials: "list[Trial]", trial: "Trial", result: dict[str, Any], **info: Any
    ) -> None:
        worker = f"{result['hostname']}:{result['pid']}"
        self._diary.sleeps.append(Sleep(time.time(), time.process_time(), worker, self._seconds))

    def on_trial_complete(self, iteration: int, trials: "list[Trial]", trial: "Trial", **info: Any) -> None:
        self._diary.ended.append(time.time())


RUN = {"tune-jobs": run_ours, "ray tune": run_rays}


def _gathering(folder: Path, load: Load) -> Gathering:
    (place := folder / "gathering").mkdir()
    return Gathering(place, load.slots)


@contextmanager
def declared_nodes() -> Iterator[Cluster]:
    """Start a cluster on this machine whose head has no room for trials, and connect this process to it."""
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE,
        },
    )
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]  # Ray is typed in parts


def grow(cluster: Cluster, load: Load) -> None:
    """Add nodes until there are as many as the load asks for.

    Raises:
        ValueError: There are more nodes already.
    """
    missing = load.nodes - len(cluster.worker_nodes)
    if missing < 0:
        raise ValueError(
            f"{load.nodes} nodes are asked for after {len(cluster.worker_nodes)}; nodes only grow."
        )
    for _ in range(missing):
        cluster.add_node(num_cpus=load.slots_a_node, object_store_memory=OBJECT_STORE, wait=False)
    cluster.wait_for_nodes()


def main() -> None:
    """Run the loads in their order."""
    asked = [Load(**row) for row in json.loads(Path(sys.argv[1]).read_text())]
    diaries = []
    with ExitStack() as open_:
        cluster = open_.enter_context(declared_nodes())
        for load in asked:
            grow(cluster, load)
            with TemporaryDirectory() as folder:
                diaries.append(asdict(RUN[load.contestant](load, Path(folder))))
    Path(sys.argv[2]).write_text(json.dumps(diaries))


if __name__ == "__main__":
    main()
