"""Data-parallel training: each worker's share of a batch, and the messages between the workers.

Each worker is a process with the whole model and all rows. All workers draw the same order of rows. Each computes its
share of every batch, and DistributedDataParallel averages the gradients. So N workers take the same steps as one
worker, up to the rounding of sums. The first worker measures, decides and is saved; the others follow it.
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
    """Return the consecutive rows, of `rows` in all, that belong to worker `rank`.

    If the rows do not divide evenly, the first workers have one row more than the others. If there are fewer rows
    than workers, the last workers have none.
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
    """Join the outputs that the workers computed, each for its `window_of` the rows, to outputs of all rows in order.

    Args:
        windows: The outputs of each worker, in the order of the ranks.
        rows: The number of all rows.
    """
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
            DeviceError: The device is missing, or several workers cannot use it.
        """

    def replicate(self, model: nn.Module, *, unused_parameters: bool) -> nn.Module:
        """Return a model whose gradients become the mean of all workers' gradients.

        Args:
            model: The model, already on its device. Its weights become those of the first worker.
            unused_parameters: Whether the outputs of a batch may be independent of some parameters.
        """

    def reduce_losses(self, losses: Tensor, shares: Sequence[float]) -> Tensor:
        """Return the mean losses of whole batches, [n], from those of this worker's shares of them.

        Args:
            losses: The mean loss of this worker's share of each batch, [n].
            shares: This worker's share of the rows of each batch, from 0 to 1.
        """

    def gather_outputs(self, outputs: Tensor, rows: int) -> Tensor | None:
        """Return the outputs for all rows to the first worker, and None to the others."""

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Copy the buffers of the first worker's model to all others."""

    def broadcast_numbers(self, numbers: Sequence[float]) -> list[float]:
        """Return the first worker's numbers. All workers must give the same count of numbers."""

    def broadcast_state(self, state: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return the first worker's nest of tensors and plain values. The other workers get its tensors on the CPU."""

    def begin_epoch(self) -> bool:
        """Return whether another epoch begins. The first worker starts one with this call; the others wait for it."""

    def end(self) -> None:
        """Let `begin_epoch` return False in all other workers. The first worker calls `end` instead of it."""


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

    The group needs a backend for tensors on the CPU, such as gloo. If there is a `device`, it also needs a backend for
    that device, such as nccl. If one worker fails alone, the others wait for it. The process that started them must
    end them.

    Args:
        device: The GPU that belongs to this worker alone; None computes on the CPU.
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
            f"device {name!r} was asked for, and {self.workers} workers train together, each on the CPU or on "
            "its own GPU; choose device: auto, cpu or cuda"
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
        tensor = torch.tensor(list(numbers), dtype=torch.float64)
        dist.broadcast(tensor, 0)
        values: list[float] = tensor.tolist()
        return values

    def broadcast_state(self, state: dict[str, Any] | None) -> dict[str, Any] | None:
        file = io.BytesIO()
        if self.rank == 0 and state is not None:
            torch.save(state, file)
        size = torch.tensor([file.tell()])
        dist.broadcast(size, 0)
        if not size:
            return None
        # Sent as bytes: torch.distributed's functions for objects would unpickle anything that another process sends.
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
    """The step that the other workers are in, or will take next together with this worker."""

    START = auto()
    """They wait for the state of the first worker."""
    WAIT = auto()
    """They wait for the first worker to begin another epoch or to end the training."""
    TRAIN = auto()
    """They train an epoch."""
    LEFT = auto()
    """They have left the training, or no longer wait for this worker."""


_LEAVE: dict[str, Any] = {}
"""The message that the first worker sends instead of its state if it does not train."""


class EpochSync:
    """Keeps the workers of a training in step: all start from the first worker's state and follow its epochs.

    Every worker has its own `EpochSync`. It calls `start` once, then `begin_epoch` and `end_epoch` around each epoch,
    and `leave` at the end. A single process never waits.

    Args:
        data_parallel: This worker's part in the training.
    """

    def __init__(self, data_parallel: DataParallel) -> None:
        self._data_parallel = data_parallel
        self._others = _Others.START

    def start(
        self, state: Callable[[], dict[str, Any]] | None, load: Callable[[dict[str, Any]], None]
    ) -> bool:
        """Bring all workers to the state of the first worker.

        Args:
            state: Returns this worker's state; None if the training is new.
            load: Takes over the first worker's state. It is called in the other workers.

        Returns:
            False if the first worker has left the training.
        """
        if self._data_parallel.workers == 1 or self._others is not _Others.START:
            return self._others is not _Others.LEFT
        sent = self._data_parallel.broadcast_state(None if state is None else state())
        self._others = _Others.LEFT if sent == _LEAVE else _Others.WAIT
        if sent and self._data_parallel.rank:
            load(sent)
        return self._others is not _Others.LEFT

    def begin_epoch(self) -> bool:
        """Return whether another epoch begins."""
        begins = self._others is not _Others.LEFT and self._data_parallel.begin_epoch()
        if begins:
            self._others = _Others.TRAIN
        return begins

    def end_epoch(self) -> None:
        """Mark the epoch as finished. Every worker calls it."""
        self._others = _Others.WAIT

    def leave(self, *, over: bool) -> None:
        """Begin no further epoch. The first worker tells the others, unless they know it.

        If the first worker leaves in the middle of an epoch, it cannot tell the others, and they wait for ever.

        Args:
            over: Whether the training has ended by itself. Then all workers know it.
        """
        if self._data_parallel.rank == 0:
            if self._others is _Others.START:
                self._data_parallel.broadcast_state(_LEAVE)
            elif self._others is _Others.WAIT and not over:
                self._data_parallel.end()
            self._others = _Others.LEFT
