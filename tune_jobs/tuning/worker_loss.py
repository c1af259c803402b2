"""Find out why a trial lost its worker, and whether its machine was the reason."""

import re
from dataclasses import dataclass

from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayTaskError

from tune_jobs.record.codes import Cause

MOST_MACHINES_LOST = 5
"""The number of machines that a trial may lose in a row without a new epoch; more are hardly chance."""
_NODE_DIED = "its node has died"
_HOW_NODE_DIED = re.compile(r"node was terminated \w+: ([^\n]+)")
_PROCESS_DIED = "its worker process has died"
_MEMORY_USED = re.compile(r"[\d.]+GB used / [\d.]+GB limit")


@dataclass(frozen=True)
class WorkerLoss:
    """The loss of a worker.

    Attributes:
        reason: One line for the user.
        of_node: Whether the whole machine was lost, which is no fault of the trial.
    """

    reason: str
    of_node: bool = False

    @property
    def cause(self) -> Cause:
        """Return the cause of the end of a trial that fails over the loss."""
        return Cause.MACHINES_LOST if self.of_node else Cause.WORKER_LOST


def loss_by(error: Exception | str | None) -> WorkerLoss:
    """Return the loss that `error` reports, which Ray raised for a trial's actor.

    Args:
        error: The error or its text; None if nothing is known.
    """
    if isinstance(error, RayTaskError):  # it passed through the process of a trial that several workers train
        error = error.cause
    text = str(error or "")
    if isinstance(error, OutOfMemoryError):
        used = _MEMORY_USED.search(text)
        detail = f" ({used[0]})" if used else ""
        return WorkerLoss(f"Ray ended the worker because the machine ran out of memory{detail}")
    if isinstance(error, ActorUnavailableError):
        return WorkerLoss("the worker's machine can no longer be reached", of_node=True)
    if _NODE_DIED in text or getattr(error, "preempted", False):
        how = _HOW_NODE_DIED.search(text)
        detail = f" ({how[1].strip()})" if how else ""
        return WorkerLoss(f"the worker's machine was lost{detail}", of_node=True)
    if _PROCESS_DIED in text:
        return WorkerLoss(
            "the worker died: it crashed, was killed, or the system ended it because memory ran out"
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return WorkerLoss(f"the worker died: {lines[0] if lines else 'the reason is unknown'}")


def failure_after(loss: WorkerLoss, *, workers_lost: int, machines_lost: int, retries: int) -> str | None:
    """Return why a trial fails over a loss; None if it continues in another worker.

    Args:
        loss: The latest loss.
        workers_lost: Workers that the trial had lost before, other than with their machines.
        machines_lost: Machines lost in a row since the trial last completed a new epoch.
        retries: The largest number of workers that it may lose, other than with their machines.
    """
    if loss.of_node:
        if machines_lost < MOST_MACHINES_LOST:
            return None
        return (
            f"{loss.reason}; {machines_lost + 1} machines in a row were lost while running this trial, without a new "
            "epoch. The trial may be the cause, for example by using too much memory"
        )
    if workers_lost < retries:
        return None
    if retries == 0:
        return loss.reason
    times = "1 retry" if retries == 1 else f"{retries} retries"
    return f"{loss.reason}; the trial failed after {times} (`limits.retries_per_trial`)"
