"""One training by several processes: their shares of a batch, and what they tell each other.

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
    """A worker's rows of a batch, or of any rows that lie in a row."""

    start: int
    rows: int


def share_of(rows: int, rank: int, workers: int) -> Share:
    """Which of `rows` are those of worker `rank`: consecutive ones, as many as others have or one more.

    The first workers have more where the rows do not divide; the last ones have none where rows are too few.
    """
    least, left = divmod(rows, workers)
    return Share(rank * least + min(rank, left), least + (rank < left))


def window_of(rows: int, rank: int, workers: int) -> Share:
    """Rows to evaluate for worker `rank`: equally many for all, all rows together, and some perhaps twice."""
    size = -(-rows // workers)
    return Share(min(rank * size, rows - size), size)


def unite_windows(windows: Sequence[Tensor], rows: int) -> Tensor:
    """What every worker made of its `window_of` the rows, as of all rows in their order."""
    workers, size = len(windows), len(windows[0])
    parts = [
        part[rank * size - window_of(rows, rank, workers).start :]
        for rank, part in enumerate(windows)
        if rank * size < rows
    ]
    return torch.cat(parts)


class Distribution(Protocol):
    """How a training is divided; every method but `end` is called by all workers alike, at the same point."""

    @property
    def rank(self) -> int:
        """Of this worker, from 0."""

    @property
    def workers(self) -> int: ...

    def choose_device(self, name: str) -> torch.device:
        """This worker's device, of the training's device by name.

        Raises:
            DeviceError: it is not there, or not for several workers.
        """

    def replicate(self, model: nn.Module, *, unused_parameters: bool) -> nn.Module:
        """The model to compute outputs with whose gradients are to be the mean of all workers' gradients.

        Args:
            model: On its device; it becomes the first worker's.
            unused_parameters: Outputs may not depend on all parameters.
        """

    def join_losses(self, losses: Tensor, shares: Sequence[float]) -> Tensor:
        """Mean losses of whole batches, [n], from those of this worker's shares of them.

        Args:
            losses: [n]
            shares: Share of each batch's rows, from 0 to 1.
        """

    def join_outputs(self, outputs: Tensor, rows: int) -> Tensor | None:
        """Outputs of all rows, from those of this worker's window; None for all workers but the first."""

    def align_buffers(self, model: nn.Module) -> None:
        """Makes the model's buffers those of the first worker."""

    def first_tells(self, numbers: Sequence[float]) -> list[float]:
        """The first worker's numbers; all give equally many."""

    def first_sends(self, state: dict[str, Any] | None) -> dict[str, Any] | None:
        """The first worker's tree of tensors and plain values; the tensors are on the CPU for all others."""

    def begin_epoch(self) -> bool:
        """Whether a further epoch begins: so it does for the first worker, and so others learn of it."""

    def end(self) -> None:
        """Has the others' `begin_epoch` tell that none begins; called by the first worker in its place."""


class Alone:
    """The distribution of a training by one process."""

    rank = 0
    workers = 1

    def choose_device(self, name: str) -> torch.device:
        return choose_device(name)

    def replicate(self, model: nn.Module, *, unused_parameters: bool) -> nn.Module:
        return model

    def join_losses(self, losses: Tensor, shares: Sequence[float]) -> Tensor:
        return losses

    def join_outputs(self, outputs: Tensor, rows: int) -> Tensor | None:
        return outputs

    def align_buffers(self, model: nn.Module) -> None:
        pass

    def first_tells(self, numbers: Sequence[float]) -> list[float]:
        return list(numbers)

    def first_sends(self, state: dict[str, Any] | None) -> dict[str, Any] | None:
        return state

    def begin_epoch(self) -> bool:
        return True

    def end(self) -> None:
        pass


ALONE = Alone()


class Workers:
    """The distribution among the processes of torch.distributed's default process group.

    The group has a backend for tensors on the CPU, such as gloo, and where there is a `device` one for it, such
    as nccl. Should a worker fail where others do not, they wait for it: whoever started them has to end them.

    Args:
        device: This worker's own GPU; None computes on the CPU.
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

    def join_losses(self, losses: Tensor, shares: Sequence[float]) -> Tensor:
        joined = losses.detach().cpu().double() * torch.tensor(shares, dtype=torch.float64)
        dist.all_reduce(joined)
        return joined

    def join_outputs(self, outputs: Tensor, rows: int) -> Tensor | None:
        outputs = outputs.contiguous()
        windows = [torch.empty_like(outputs) for _ in range(self.workers)] if self.rank == 0 else None
        dist.gather(outputs, windows)
        return None if windows is None else unite_windows(windows, rows)

    def align_buffers(self, model: nn.Module) -> None:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)

    def first_tells(self, numbers: Sequence[float]) -> list[float]:
        told = torch.tensor(list(numbers), dtype=torch.float64)
        dist.broadcast(told, 0)
        values: list[float] = told.tolist()
        return values

    def first_sends(self, state: dict[str, Any] | None) -> dict[str, Any] | None:
        file = io.BytesIO()
        if self.rank == 0 and state is not None:
            torch.save(state, file)
        size = torch.tensor([file.tell()])
        dist.broadcast(size, 0)
        if not size:
            return None
        # As numbers: torch.distributed's way to send objects would unpickle whatever another process sends.
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
        return self.first_tells([1.0])[0] == 1.0

    def end(self) -> None:
        if self.rank == 0:
            self.first_tells([0.0])


class _Others(Enum):
    """What the other workers do, or are about to do together with this one."""

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
    `leave` in the end. A single process waits for nobody.

    Args:
        distribution: Of the training among workers.
    """

    def __init__(self, distribution: Distribution) -> None:
        self._distribution = distribution
        self._others = _Others.START

    def start(
        self, state: Callable[[], dict[str, Any]] | None, load: Callable[[dict[str, Any]], None]
    ) -> bool:
        """Bring all workers to the state of the first one; returns False if that one has left.

        Args:
            state: Returns this worker's state; None if it is a new training's.
            load: Takes the first worker's state, in all others.
        """
        if self._distribution.workers == 1 or self._others is not _Others.START:
            return self._others is not _Others.LEFT
        sent = self._distribution.first_sends(None if state is None else state())
        self._others = _Others.LEFT if sent == _LEAVE else _Others.WAIT
        if sent and self._distribution.rank:
            load(sent)
        return self._others is not _Others.LEFT

    def begin_epoch(self) -> bool:
        """Whether a further epoch begins."""
        begins = self._others is not _Others.LEFT and self._distribution.begin_epoch()
        if begins:
            self._others = _Others.TRAIN
        return begins

    def end_epoch(self) -> None:
        """The epoch is over, for all workers alike."""
        self._others = _Others.WAIT

    def leave(self, *, over: bool) -> None:
        """Begin no further epoch; if this is the first worker, the others learn it, unless they know.

        If it leaves in the middle of an epoch they cannot learn it, and wait in vain.

        Args:
            over: The training has ended by itself, so all workers know.
        """
        if self._distribution.rank == 0:
            if self._others is _Others.START:
                self._distribution.first_sends(_LEAVE)
            elif self._others is _Others.WAIT and not over:
                self._distribution.end()
            self._others = _Others.LEFT
