"""One training by several processes: their shares of a batch, and the messages between them.

All of them, the workers, hold the whole model and all rows. They draw the same order of rows, each computes its
share of every batch, and DistributedDataParallel joins the gradients: N workers take the steps that one would
take, up to the rounding of sums. The first worker speaks for all: it measures, decides and is saved.
"""

import io
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, NamedTuple, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tune_jobs.trainers.errors import DeviceError
from tune_jobs.trainers.pytorch.tensors import choose_device


class Share(NamedTuple):
    """A worker's part of a batch, or of any consecutive rows."""

    start: int
    rows: int


def share_of(rows: int, rank: int, workers: int) -> Share:
    """Return which of `rows` belong to worker `rank`: consecutive ones, as many as others have or one more.

    If the rows do not divide, the first workers have one more. If there are too few rows, the last workers have none.
    """
    least, left = divmod(rows, workers)
    return Share(rank * least + min(rank, left), least + (rank < left))


def window_of(rows: int, rank: int, workers: int) -> Share:
    """Return the rows that worker `rank` evaluates.

    All workers get slices of equal length that together cover all rows; slices may overlap.
    """
    size = -(-rows // workers)
    return Share(min(rank * size, rows - size), size)


def unite_windows(windows: Sequence[Tensor], rows: int) -> Tensor:
    """Put the outputs for every worker's `window_of` the rows together, as outputs for all rows in their order."""
    workers, size = len(windows), len(windows[0])
    parts = [
        part[rank * size - window_of(rows, rank, workers).start :]
        for rank, part in enumerate(windows)
        if rank * size < rows
    ]
    return torch.cat(parts)


class DataParallel(Protocol):
    """A worker's part in a data-parallel training: its place, its device, and the collective operations.

    All workers call every method but `end` at the same point of the training. `SingleProcess` is for a training
    without other workers, `Workers` for several processes.
    """

    @property
    def rank(self) -> int:
        """Number of this worker, from 0."""

    @property
    def workers(self) -> int: ...

    def choose_device(self, name: str) -> torch.device:
        """Return this worker's device, given the training's device by name.

        Raises:
            DeviceError: The device is missing, or cannot be used by several workers.
        """

    def replicate(self, model: nn.Module, *, unused_parameters: bool) -> nn.Module:
        """Return a model whose gradients become the mean of all workers' gradients.

        Args:
            model: On its device. Its weights become those of the first worker.
            unused_parameters: The outputs of a batch may not depend on all parameters.
        """

    def reduce_losses(self, losses: Tensor, shares: Sequence[float]) -> Tensor:
        """Return the mean losses of whole batches, [n], from those of this worker's shares of them.

        Args:
            losses: [n]
            shares: This worker's share of each batch's rows, from 0 to 1.
        """

    def gather_outputs(self, outputs: Tensor, rows: int) -> Tensor | None:
        """Return the outputs for all rows to the first worker, and None to the others."""

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Copy the buffers of the first worker's model to all others."""

    def broadcast_numbers(self, numbers: Sequence[float]) -> list[float]:
        """Return the first worker's numbers. All workers give equally many."""

    def broadcast_state(self, state: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return the first worker's tree of tensors and plain values; all others get the tensors on the CPU."""

    def begin_epoch(self) -> bool:
        """Return whether a further epoch begins. The first worker begins one by this call; the others wait for it."""

    def end(self) -> None:
        """Make `begin_epoch` of all other workers return False; the first worker calls this in place of it."""


class SingleProcess:
    """Data parallelism of a training in one process: nothing to divide, nothing to exchange."""

    rank = 0
    workers = 1

    def choose_device(self, name: str) -> torch.device:
        return choose_device(name)

    def replicate(self, model: nn.Module, *, unused_parameters: bool) -> nn.Module:
        return model

    def reduce_losses(self, losses: Tensor, shares: Sequence[float]) -> Tensor:
        return losses

    def gather_outputs(self, outputs: Tensor, rows: int) -> Tensor | None:
        return outputs

    def broadcast_buffers(self, model: nn.Module) -> None:
        pass

    def broadcast_numbers(self, numbers: Sequence[float]) -> list[float]:
        return list(numbers)

    def broadcast_state(self, state: dict[str, Any] | None) -> dict[str, Any] | None:
        return state

    def begin_epoch(self) -> bool:
        return True

    def end(self) -> None:
        pass


SINGLE_PROCESS = SingleProcess()


class Workers:
    """Data parallelism among the processes of torch.distributed's default process group.

    The group needs a backend for tensors on the CPU, such as gloo. If there is a `device`, it needs one for that too,
    such as nccl. If one worker fails alone, the others wait for it: the process that started them must end them.

    Args:
        device: The GPU that is this worker's own; None computes on the CPU.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self.rank = dist.get_rank()
        self.workers = dist.get_world_size()
        self._device = device

    def choose_device(self, name: str) -> torch.device:
        if name == "auto":
            return self._device or torch.device("cpu")
        if name == "cpu":
            return torch.device("cpu")
        if name == "cuda" and self._device is not None:
            return self._device
        if name == "cuda":
            return choose_device(name)
        raise DeviceError(
            f"device {name!r} was asked for, and {self.workers} workers train together, each on the CPU or on a GPU "
            "of its own; choose device: auto, cpu or cuda"
        )

    def replicate(self, model: nn.Module, *, unused_parameters: bool) -> nn.Module:
        return DistributedDataParallel(model, find_unused_parameters=unused_parameters)

    def reduce_losses(self, losses: Tensor, shares: Sequence[float]) -> Tensor:
        joined = losses.detach().cpu().double() * torch.tensor(shares, dtype=torch.float64)
        dist.all_reduce(joined)
        return joined

    def gather_outputs(self, outputs: Tensor, rows: int) -> Tensor | None:
        outputs = outputs.contiguous()
        windows = [torch.empty_like(outputs) for _ in range(self.workers)] if self.rank == 0 else None
        dist.gather(outputs, windows)
        return None if windows is None else unite_windows(windows, rows)

    def broadcast_buffers(self, model: nn.Module) -> None:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)

    def broadcast_numbers(self, numbers: Sequence[float]) -> list[float]:
        told = torch.tensor(list(numbers), dtype=torch.float64)
        dist.broadcast(told, 0)
        values: list[float] = told.tolist()
        return values

    def broadcast_state(self, state: dict[str, Any] | None) -> dict[str, Any] | None:
        file = io.BytesIO()
        if self.rank == 0 and state is not None:
            torch.save(state, file)
        size = torch.tensor([file.tell()])
        dist.broadcast(size, 0)
        if not size:
            return None
        # Bytes, because torch.distributed's way to send objects would unpickle whatever another process sends.
        sent = (
            torch.frombuffer(file.getbuffer(), dtype=torch.uint8)
            if self.rank == 0
            else torch.empty(int(size), dtype=torch.uint8)
        )
        dist.broadcast(sent, 0)
        if self.rank == 0:
            return state
        received: dict[str, Any] = torch.load(
            io.BytesIO(sent.numpy().tobytes()), map_location="cpu", weights_only=True
        )
        return received

    def begin_epoch(self) -> bool:
        return self.broadcast_numbers([1.0])[0] == 1.0

    def end(self) -> None:
        if self.rank == 0:
            self.broadcast_numbers([0.0])


class _Others(Enum):
    """The step that the other workers are at, or are about to take together with this one."""

    START = auto()
    """They wait for the state of the first worker."""
    WAIT = auto()
    """They wait to learn whether a further epoch begins."""
    TRAIN = auto()
    LEFT = auto()


_LEAVE: dict[str, Any] = {}
"""What the first worker sends in place of its state if it does not train."""


class EpochSync:
    """Keeps the workers of a training in step: all start from the first one's state, and begin epochs when it does.

    Every worker has one, and calls `start` once, then `begin_epoch` and `end_epoch` around each epoch, and
    `leave` in the end. A single process never waits.

    Args:
        data_parallel: This worker's part in the training.
    """

    def __init__(self, data_parallel: DataParallel) -> None:
        self._data_parallel = data_parallel
        self._others = _Others.START

    def start(
        self, state: Callable[[], dict[str, Any]] | None, load: Callable[[dict[str, Any]], None]
    ) -> bool:
        """Bring all workers to the state of the first one; returns False if that one has left.

        Args:
            state: Returns this worker's state; None if it is a new training's.
            load: Takes the first worker's state, in all others.
        """
        if self._data_parallel.workers == 1 or self._others is not _Others.START:
            return self._others is not _Others.LEFT
        sent = self._data_parallel.broadcast_state(None if state is None else state())
        self._others = _Others.LEFT if sent == _LEAVE else _Others.WAIT
        if sent and self._data_parallel.rank:
            load(sent)
        return self._others is not _Others.LEFT

    def begin_epoch(self) -> bool:
        """Return whether a further epoch begins."""
        begins = self._others is not _Others.LEFT and self._data_parallel.begin_epoch()
        if begins:
            self._others = _Others.TRAIN
        return begins

    def end_epoch(self) -> None:
        """Mark the epoch as finished; all workers do so."""
        self._others = _Others.WAIT

    def leave(self, *, over: bool) -> None:
        """Begin no further epoch; if this is the first worker, the others learn it, unless they know.

        If it leaves in the middle of an epoch, they cannot learn it and wait for ever.

        Args:
            over: The training has ended by itself, so all workers know.
        """
        if self._data_parallel.rank == 0:
            if self._others is _Others.START:
                self._data_parallel.broadcast_state(_LEAVE)
            elif self._others is _Others.WAIT and not over:
                self._data_parallel.end()
            self._others = _Others.LEFT
