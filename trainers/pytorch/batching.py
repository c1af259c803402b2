"""The order of the training rows in an epoch, and the batches cut from it."""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from tune_jobs.trainers.pytorch.data_parallel import SINGLE_PROCESS, DataParallel, Share, share_of
from tune_jobs.trainers.pytorch.tensors import TensorRows

Method = Literal["shuffle", "replacement", "sequential"]

_CPU_BLOCK = 256 * 1024
"""Bytes of rows that are copied at a time on a CPU."""
_DEVICE_BLOCK = 32 * 1024**2
"""Bytes of rows that are copied at a time on an accelerator."""


def draw_order(rows: int, method: Method, generator: torch.Generator) -> Tensor:
    """Draw the order of the rows in one epoch: their numbers, int64 [rows].

    - `shuffle`: a random permutation: each row once.
    - `replacement`: each place gets any row with equal probability.
    - `sequential`: 0, 1, …; draws nothing.
    """
    match method:
        case "shuffle":
            return torch.randperm(rows, generator=generator)
        case "replacement":
            return torch.randint(rows, (rows,), generator=generator)
        case "sequential":
            return torch.arange(rows)


def block_rows(x: Tensor) -> int:
    """Return how many rows to copy at a time, so they fit a core's cache or, on an accelerator, make few launches."""
    row_bytes = max(1, x.element_size() * x[0].numel())
    return max(1, (_CPU_BLOCK if x.device.type == "cpu" else _DEVICE_BLOCK) // row_bytes)


class Batches:
    """The batches of one training, epoch after epoch, as copies of the rows.

    A batch size of all rows or more means `full`: gradient descent on the rows in their own order, whatever the
    method. If the rows do not divide evenly, the last batch of an epoch is smaller.

    Each of several workers gets its share of every batch. If a batch has too few rows for all, the workers without a
    row get its first row, with weight 0 in `shares`.

    Args:
        rows: The training rows. They are never written to.
        method: The way to draw the order of an epoch.
        batch_size: Rows in a batch of all workers together, or `full`.
        seed: Seed of the generator that draws the order.
        data_parallel: This worker's part in the training.
    """

    def __init__(
        self,
        rows: TensorRows,
        method: Method,
        batch_size: int | Literal["full"],
        seed: int,
        data_parallel: DataParallel = SINGLE_PROCESS,
    ) -> None:
        n = len(rows.x)
        full = batch_size == "full" or batch_size >= n
        self.batch_size: int = n if full else batch_size  # type: ignore[assignment]  # `full` is dealt with
        self.steps = -(-n // self.batch_size)
        self.generator = torch.Generator().manual_seed(seed % 2**63)
        self._rows = rows
        self._method: Method = "sequential" if full else method
        self._data_parallel = data_parallel
        self._part = max(1, self._share(self.batch_size).rows)
        self._block = max(1, block_rows(rows.x) // self._part) * self._part

    @property
    def shares(self) -> list[float]:
        """Return the share of each batch's rows that this worker computes, from 0 to 1."""
        last = len(self._rows.x) - self.batch_size * (self.steps - 1)
        sizes = [self.batch_size] * (self.steps - 1) + [last]
        return [self._share(size).rows / size for size in sizes]

    def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one epoch's batches of x and y. The caller may write to a batch until it asks for the next one."""
        order = draw_order(len(self._rows.x), self._method, self.generator)
        if self._data_parallel.workers > 1:
            order = torch.cat([self._rows_of_share(batch) for batch in torch.split(order, self.batch_size)])
        order = order.to(self._rows.x.device)
        # Rows are copied many batches at a time: with batches of 8 rows this saves a tenth of an epoch or more.
        # All blocks share one buffer. Otherwise small tensors that stay would keep glibc from reusing the memory
        # of a freed block, and the process would end up with a copy of all rows.
        size = min(self._block, len(order))
        copies = [rows.new_empty(size, *rows.shape[1:]) for rows in self._rows]
        for block in torch.split(order, self._block):
            x, y = (
                torch.index_select(rows, 0, block, out=copy[: len(block)])
                for rows, copy in zip(self._rows, copies, strict=True)
            )
            # Unlike those of `split`, these parts are no views to autograd: a model may change them in place.
            yield from zip(x.unsafe_split(self._part), y.unsafe_split(self._part), strict=True)

    def _share(self, rows: int) -> Share:
        return share_of(rows, self._data_parallel.rank, self._data_parallel.workers)

    def _rows_of_share(self, batch: Tensor) -> Tensor:
        start, rows = self._share(len(batch))
        return batch[start : start + rows] if rows else batch[:1]
