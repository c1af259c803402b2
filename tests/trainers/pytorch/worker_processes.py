"""Processes that train together over gloo on loopback and call the functions that a test gives them."""

import os
import sys
import traceback
from collections.abc import Callable
from multiprocessing import forkserver, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.processes import PATIENCE
from tune_jobs.trainers.pytorch import trainer


class WorkerProcesses:
    """Workers of one torch.distributed process group.

    Args:
        workers: The number of processes.
        folder: The folder of their rendezvous file, from which they also import modules.
    """

    def __init__(self, workers: int, folder: Path) -> None:
        # The workers are forks of one process, which imports PyTorch once.
        server = get_context("forkserver")
        server.set_forkserver_preload([trainer.__name__])
        self._pipes: list[Connection] = []
        self._processes = []
        for rank in range(workers):
            here, there = server.Pipe()
            process = server.Process(
                target=_serve, args=(there, rank, workers, folder, sys.path), daemon=True
            )
            process.start()
            there.close()
            self._pipes.append(here)
            self._processes.append(process)

    def __call__(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """Return the results of `function(data_parallel, *args)`, one per worker."""
        for pipe in self._pipes:
            pipe.send((function, args))
        answers = []
        for rank, pipe in enumerate(self._pipes):
            assert pipe.poll(PATIENCE), f"worker {rank} hangs"
            answers.append(pipe.recv())
        errors = [error for error, _ in answers if error is not None]
        assert not errors, "\n".join(errors)
        return [answer for _, answer in answers]

    def end(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(PATIENCE)
            process.kill()
            process.join()

    @staticmethod
    def end_server() -> None:
        """End the process that the workers are forks of: it inherits what tests look for, such as Ray's folder."""
        forkserver._forkserver._stop()  # type: ignore[attr-defined]  # private, as in the tests of Python itself


def _serve(pipe: Connection, rank: int, workers: int, folder: Path, path: list[str]) -> None:
    sys.path[:] = [str(folder), *path]
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    import torch.distributed as dist

    from tune_jobs.trainers.pytorch.data_parallel import Workers

    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=workers)
    data_parallel = Workers()
    while True:
        try:
            function, args = pipe.recv()
        except EOFError:
            break
        try:
            pipe.send((None, function(data_parallel, *args)))
        except BaseException:
            pipe.send((traceback.format_exc(), None))
    dist.destroy_process_group()
