"""A trial that several workers train together: the messages between its process, the workers and Ray Tune.

The trial's process starts the workers under Ray Train and keeps them from trial to trial. The first worker does
what a trial's only worker does, with one difference: its reports reach Ray Tune through the trial's process, and it
waits for the answer. No worker begins an epoch before Ray Tune has decided that the trial continues. The other
workers follow the first one.
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
"""Seconds in which the workers must start and import torch."""
SECONDS_TO_FAIL_ALIKE = 5.0
"""Seconds in which a failure that the configuration causes reaches all workers."""
SECONDS_TO_LEAVE = 60.0
"""Seconds in which workers must end their current epoch after a trial was stopped."""
SECONDS_TO_NOTICE = 40.0
"""Seconds that Ray may need to find out whether an actor is alive."""
SECONDS_BETWEEN_GROUP_CHECKS = 0.5
"""Seconds between two checks of whether Ray Train has ended."""

Result = dict[str, Any]


@dataclass(frozen=True)
class Reported:
    """A report of a worker; the first worker waits for an answer."""

    rank: int
    result: Result

    @property
    def failed(self) -> bool:
        report = Report.of_result(self.result)
        return report is not None and report.failed


@dataclass(frozen=True)
class Idle:
    """The message of a worker that waits for a trial."""

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
        """Give a trial to all workers."""
        for trials in self._trials:
            trials.put_nowait(trial)

    async def take(self, rank: int) -> Mapping[str, Any]:
        """Return a worker's next trial; wait until there is one."""
        return await self._trials[rank].get()

    async def send(self, message: Reported | Idle) -> None:
        """Send a message to the trial's process."""
        self._messages.put_nowait(message)

    async def ask(self, message: Reported) -> bool:
        """Send a report to the trial's process, and return whether the trial continues."""
        self._messages.put_nowait(message)
        return await self._answers.get()

    async def receive(self) -> Reported | Idle:
        """Return the next message; wait until there is one."""
        return await self._messages.get()

    async def answer(self, continues: bool) -> None:
        """Answer the report of the first worker."""
        self._answers.put_nowait(continues)


# In a worker


def worker_loop(config: Mapping[str, Any]) -> None:
    """Train this worker's part of one trial after the other, until the process ends."""
    import torch.distributed as dist  # noqa: PLC0415 (workers alone need it)
    from ray.train.torch import get_device  # noqa: PLC0415 (workers alone need it)

    mailbox, task = config["mailbox"], config["task"]
    data: TrainingData | None = ray.get(config["rows"][0])
    device = get_device()
    rank = dist.get_rank()
    worker = WorkerRank(
        rank=rank, workers=dist.get_world_size(), device=str(device) if device.type == "cuda" else None
    )

    def ask(result: Result) -> None:
        if not ray.get(mailbox.ask.remote(Reported(rank, result))):
            raise SystemExit

    def send(result: Result) -> None:
        ray.get(mailbox.send.remote(Reported(rank, result)))

    idle = Idle(rank, ray.get_runtime_context().current_actor)
    while True:
        ray.get(mailbox.send.remote(idle))
        trial = Assignment(**ray.get(mailbox.take.remote(rank)))
        try:
            if rank == 0:
                train(trial, task, data, ask, worker)
            else:
                follow(trial, task, data, send, worker)
        except SystemExit:
            pass


# In the trial's process


def train_data_parallel(config: Mapping[str, Any], *, task: TrialTask, rows: list[Any]) -> None:
    """Train one configuration with the workers of this process, and report to Ray Tune.

    Args:
        config: Trial id and configuration.
        task: The task that all trials share.
        rows: Training and validation rows, which workers fetch.

    Raises:
        RayActorError, OutOfMemoryError: A worker has died; the trial continues from its last checkpoint.
    """
    from ray import tune  # noqa: PLC0415 (workers import this module, and need no Ray Tune)

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
    """The workers of a process, which train one trial after the other.

    Args:
        task: The task that all trials share.
        rows: Training and validation rows.
    """

    def __init__(self, task: TrialTask, rows: list[Any]) -> None:
        from tune_jobs.worker.train_group import TrainGroup  # noqa: PLC0415 (imports torch)

        self.broken = False
        """Whether the workers cannot take another trial."""
        self._workers = task.resources.workers_per_trial
        self._mailbox: Any = Mailbox.remote(self._workers)  # type: ignore[attr-defined]  # added by Ray
        config = {"mailbox": self._mailbox, "task": task, "rows": rows}
        self._group = TrainGroup(task.resources, worker_loop, config)
        self._actors: dict[int, Any] = {}
        self._idle: set[int] = set()
        self._receiving: Any = None

    def train(self, config: Mapping[str, Any], report: Callable[[Result], None]) -> None:
        """Train one configuration; `report` takes the results, and ends the trial by raising `SystemExit`.

        Raises:
            RayActorError, OutOfMemoryError: A worker has died.
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
        """Return whether all workers wait for a trial, or do so within `SECONDS_TO_LEAVE`.

        Any other failure of theirs, including errors of Ray Train, is not the fault of a trial: new workers take
        the next trial.
        """
        try:
            self._wait_until_idle(SECONDS_TO_LEAVE)
        except Exception:
            return False
        return True

    def end(self) -> None:
        """End all workers."""
        self._group.end()
        for actor in (*self._actors.values(), self._mailbox):
            ray.kill(actor)

    def _pass_on(self, report: Callable[[Result], None]) -> None:
        while len(self._idle) < self._workers:
            message = self._receive()
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
                    self._answer(continues=False)
                    raise
                self._answer(continues=True)
                if message.result["done"]:
                    return

    def _failure(self, first: Reported) -> Result:
        """Return the report of a trial that failed; `first` is the first failure that was reported.

        A failure that the configuration causes reaches all workers. If it does not reach all, some workers would
        wait for others forever and must be ended. The failure may also be a mere consequence of another worker's
        death.

        Raises:
            RayActorError, OutOfMemoryError: A worker has died.
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
                    self._answer(continues=True)
            message = self._receive(until) if len(self._idle) < self._workers else None
        if len(failures) < self._workers:
            self._raise_if_dead()
            self.broken = True
        return failures[min(failures)].result

    def _wait_until_idle(self, seconds: float) -> None:
        """Wait until all workers wait for a trial.

        Raises:
            TimeoutError: The workers are not ready in time.
            RuntimeError: A worker has failed too late to be reported.
            RayActorError, OutOfMemoryError: A worker has died.
        """
        until = time.monotonic() + seconds
        while len(self._idle) < self._workers:
            match self._receive(until):
                case Idle(rank, actor):
                    self._idle.add(rank)
                    self._actors[rank] = actor
                case None:
                    raise TimeoutError(f"the workers of the trial were not ready within {seconds:g} s")
                case _:
                    raise RuntimeError("a worker failed while the trial was being stopped")

    def _receive(self, until: float = math.inf) -> Reported | Idle | None:
        """Return the next message; None if none comes until `until`.

        Raises:
            RayActorError, OutOfMemoryError: A worker has died.
        """
        self._receiving = self._receiving or self._mailbox.receive.remote()
        while True:
            left = max(0.0, min(SECONDS_BETWEEN_GROUP_CHECKS, until - time.monotonic()))
            ready, _ = ray.wait([self._receiving], timeout=left)
            if ready:
                received, self._receiving = self._receiving, None
                message: Reported | Idle = ray.get(received)
                return message
            if self._group.over:
                raise self._group.failure or RuntimeError("Ray Train has ended")
            if time.monotonic() >= until:
                return None

    def _answer(self, *, continues: bool) -> None:
        ray.get(self._mailbox.answer.remote(continues))

    def _raise_if_dead(self) -> None:
        deaths = [death for actor in self._actors.values() if (death := _death_of(actor)) is not None]
        if deaths:  # a worker that Ray Train ended died of the death of another
            raise min(deaths, key=lambda death: "ray.kill" in str(death))


def _death_of(actor: Any) -> Exception | None:
    """Return why the actor is dead; None if it is alive, as far as is known."""
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
