"""A trial that several workers train together: what its own process, the workers, and Ray Tune tell each other.

The trial's process starts the workers under Ray Train and keeps them from trial to trial. The first worker does
what a trial's only worker does, but that its reports go by way of the trial's process to Ray Tune, and it waits
for the answer: no worker begins an epoch before Ray Tune has said that the trial goes on. The other workers
follow the first one.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, OutOfMemoryError, RayActorError

from tune_jobs.trainers.interface import WorkerRank
from tune_jobs.worker.reporting import Report
from tune_jobs.worker.trial import Assignment, TrialTask, follow, train

if TYPE_CHECKING:
    from tune_jobs.trainers.data import TrainingData

SECONDS_TO_START = 300.0
"""Workers may take this long to start and to import torch."""
SECONDS_TO_FAIL_ALIKE = 5.0
"""A failure that is the configuration's own comes to all workers within this time."""
SECONDS_TO_LEAVE = 60.0
"""After a trial was stopped, workers may take this long to end the epoch that they are in."""
SECONDS_TO_NOTICE = 40.0
"""Ray may take this long to know whether an actor lives."""
SECONDS_BETWEEN_GROUP_CHECKS = 0.5

Result = dict[str, Any]


@dataclass(frozen=True)
class Reported:
    """A report of a worker; the first one waits for an answer."""

    rank: int
    result: Result

    @property
    def failed(self) -> bool:
        report = Report.of_result(self.result)
        return report is not None and report.failed


@dataclass(frozen=True)
class Idle:
    """A worker waits for a trial."""

    rank: int
    actor: Any


@ray.remote(num_cpus=0)
class Mailbox:
    """Carries messages between the process of a trial and its workers."""

    def __init__(self, workers: int) -> None:
        self._trials: list[asyncio.Queue[Mapping[str, Any]]] = [asyncio.Queue() for _ in range(workers)]
        self._messages: asyncio.Queue[Reported | Idle] = asyncio.Queue()
        self._answers: asyncio.Queue[bool] = asyncio.Queue()

    async def give(self, trial: Mapping[str, Any]) -> None:
        """A trial for all workers."""
        for trials in self._trials:
            trials.put_nowait(trial)

    async def take(self, rank: int) -> Mapping[str, Any]:
        """A worker's next trial."""
        return await self._trials[rank].get()

    async def tell(self, message: Reported | Idle) -> None:
        """A message for the trial's process."""
        self._messages.put_nowait(message)

    async def ask(self, message: Reported) -> bool:
        """The same, and whether the trial goes on."""
        self._messages.put_nowait(message)
        return await self._answers.get()

    async def hear(self) -> Reported | Idle:
        """The next message."""
        return await self._messages.get()

    async def answer(self, goes_on: bool) -> None:
        self._answers.put_nowait(goes_on)


# In a worker


def worker_loop(config: Mapping[str, Any]) -> None:
    """What a worker does as long as it lives: it trains its part of one trial after the other."""
    import torch.distributed as dist  # noqa: PLC0415 (not where no worker is)
    from ray.train.torch import get_device  # noqa: PLC0415

    mailbox, task = config["mailbox"], config["task"]
    data: TrainingData = ray.get(config["rows"][0])
    device = get_device()
    rank = dist.get_rank()
    worker = WorkerRank(
        rank=rank, workers=dist.get_world_size(), device=str(device) if device.type == "cuda" else None
    )

    def ask(result: Result) -> None:
        if not ray.get(mailbox.ask.remote(Reported(rank, result))):
            raise SystemExit

    def tell(result: Result) -> None:
        ray.get(mailbox.tell.remote(Reported(rank, result)))

    idle = Idle(rank, ray.get_runtime_context().current_actor)
    while True:
        ray.get(mailbox.tell.remote(idle))
        trial = Assignment(**ray.get(mailbox.take.remote(rank)))
        try:
            if rank == 0:
                train(trial, task, data, ask, worker)
            else:
                follow(trial, task, data, tell, worker)
        except SystemExit:
            pass


# In the trial's process


def train_data_parallel(config: Mapping[str, Any], *, task: TrialTask, rows: list[Any]) -> None:
    """Has the workers of this process train one configuration, and reports to Ray Tune.

    Args:
        config: trial id and configuration.
        task: what all trials have in common.
        rows: training and validation rows, which workers fetch.

    Raises:
        RayActorError, OutOfMemoryError: a worker has died; the trial goes on from its last checkpoint.
    """
    from ray import tune  # noqa: PLC0415

    global _group  # noqa: PLW0603 (it outlives the trial)
    if _group is not None and not _group.free():
        _group.end()
        _group = None
    if _group is None:
        _group = WorkerGroup(task, rows)
    try:
        _group.train(config, tune.report)
    finally:
        if _group.broken:
            _group.end()
            _group = None


class WorkerGroup:
    """The workers of a process, for one trial after the other.

    Args:
        task: what all trials have in common.
        rows: training and validation rows.
    """

    def __init__(self, task: TrialTask, rows: list[Any]) -> None:
        from tune_jobs.worker.train_group import TrainGroup  # noqa: PLC0415 (imports torch)

        self.broken = False
        """Its workers are no good for another trial."""
        self._workers = task.resources.workers_per_trial
        self._mailbox: Any = Mailbox.remote(self._workers)  # type: ignore[attr-defined]  # added by Ray
        config = {"mailbox": self._mailbox, "task": task, "rows": rows}
        self._group = TrainGroup(task.resources, worker_loop, config)
        self._actors: dict[int, Any] = {}
        self._idle: set[int] = set()
        self._hearing: Any = None

    def train(self, config: Mapping[str, Any], report: Callable[[Result], None]) -> None:
        """Trains one configuration; `report` takes the results, and ends the trial by `SystemExit`.

        Raises:
            RayActorError, OutOfMemoryError: a worker has died.
        """
        try:
            self._wait_until_idle(SECONDS_TO_START)
            self._idle.clear()
            ray.get(self._mailbox.give.remote(dict(config)))
            self._pass_on(report)
        except SystemExit:
            raise
        except BaseException:
            self.broken = True
            raise

    def free(self) -> bool:
        """Whether all workers wait for a trial, or do so within a while.

        Whatever else is wrong with them, in Ray Train's own words too, is no trial's fault: others take the next one.
        """
        try:
            self._wait_until_idle(SECONDS_TO_LEAVE)
        except Exception:
            return False
        return True

    def end(self) -> None:
        """Ends all workers."""
        self._group.end()
        for actor in (*self._actors.values(), self._mailbox):
            ray.kill(actor)

    def _pass_on(self, report: Callable[[Result], None]) -> None:
        while len(self._idle) < self._workers:
            message = self._hear()
            assert message is not None
            if isinstance(message, Idle):
                self._idle.add(message.rank)
            elif message.failed:
                report(self._failure(message))
                return
            else:
                try:
                    report(message.result)
                except SystemExit:
                    self._answer(goes_on=False)
                    raise
                self._answer(goes_on=True)
                if message.result["done"]:
                    return

    def _failure(self, first: Reported) -> Result:
        """The report of a trial that failed, of which this worker was the first to tell.

        A failure that is the configuration's own comes to all workers. Where it does not, some wait for others in
        vain, and have to be ended. It may also be the mere echo of another worker's death.

        Raises:
            RayActorError, OutOfMemoryError: a worker has died.
        """
        failures = {first.rank: first}
        until = time.monotonic() + SECONDS_TO_FAIL_ALIKE
        message: Reported | Idle | None = first
        while message is not None and len(self._idle) < self._workers:
            if isinstance(message, Idle):
                self._idle.add(message.rank)
            else:
                if message.failed:
                    failures[message.rank] = message
                if message.rank == 0:
                    self._answer(goes_on=True)
            message = self._hear(until) if len(self._idle) < self._workers else None
        if len(failures) < self._workers:
            self._raise_if_dead()
            self.broken = True
        return failures[min(failures)].result

    def _wait_until_idle(self, seconds: float) -> None:
        """Hears of all workers that they wait for a trial.

        Raises:
            TimeoutError: they do not get there in time.
            RuntimeError: one has failed of which it is too late to report.
            RayActorError, OutOfMemoryError: a worker has died.
        """
        until = time.monotonic() + seconds
        while len(self._idle) < self._workers:
            match self._hear(until):
                case Idle(rank, actor):
                    self._idle.add(rank)
                    self._actors[rank] = actor
                case None:
                    raise TimeoutError(f"the workers of the trial were not ready within {seconds:g} s")
                case _:
                    raise RuntimeError("a worker failed as the trial was stopped")

    def _hear(self, until: float = math.inf) -> Reported | Idle | None:
        """The next message; None where none comes until then.

        Raises:
            RayActorError, OutOfMemoryError: a worker has died.
        """
        self._hearing = self._hearing or self._mailbox.hear.remote()
        while True:
            left = max(0.0, min(SECONDS_BETWEEN_GROUP_CHECKS, until - time.monotonic()))
            ready, _ = ray.wait([self._hearing], timeout=left)
            if ready:
                heard, self._hearing = self._hearing, None
                message: Reported | Idle = ray.get(heard)
                return message
            if self._group.over:
                raise self._group.failure or RuntimeError("Ray Train has ended")
            if time.monotonic() >= until:
                return None

    def _answer(self, *, goes_on: bool) -> None:
        ray.get(self._mailbox.answer.remote(goes_on))

    def _raise_if_dead(self) -> None:
        deaths = [death for actor in self._actors.values() if (death := _death_of(actor)) is not None]
        if deaths:  # those that Ray Train has ended have only followed
            raise min(deaths, key=lambda death: "ray.kill" in str(death))


def _death_of(actor: Any) -> Exception | None:
    """Why the actor is dead; None where it lives, as far as is known."""
    until = time.monotonic() + SECONDS_TO_NOTICE
    while True:
        try:
            ray.get(actor.get_metadata.remote(), timeout=max(0.0, until - time.monotonic()))
        except ActorUnavailableError as error:
            if time.monotonic() > until:
                return error
            time.sleep(SECONDS_BETWEEN_GROUP_CHECKS)
        except (RayActorError, OutOfMemoryError) as error:
            return error
        except GetTimeoutError:
            return None
        else:
            return None


_group: WorkerGroup | None = None
