"""Run the user's code at its import as it would run in a process of its own, and keep this process as it was.

A module that draws random numbers when it is imported gets the same numbers in every process that trains, whatever
was drawn or imported there before. A module that parses the arguments of the command line finds none.
"""

import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

SEED = 0
"""The seed of all generators at the start of every import."""


@contextmanager
def isolated_import(file: str | None) -> Iterator[None]:
    """Give the code inside the block the same random numbers every time, and no arguments of the command line.

    The generators of Python, NumPy and PyTorch, and `sys.argv`, are restored after the block.

    Args:
        file: The file of the module; None if it has none.
    """
    with ExitStack() as stack:
        stack.enter_context(as_program(file))
        for keep in (_python_numbers, _numpy_numbers, _torch_numbers):
            stack.enter_context(keep())
        yield


@contextmanager
def as_program(file: str | None) -> Iterator[None]:
    """Let the code inside the block find the arguments of a program without arguments, this file, in `sys.argv`.

    Raises:
        RuntimeError: The block changed PyTorch's default type of numbers, which is restored. It would hold for all
            models that this process trains after the change, and for no model of a process that never ran the block.
    """
    before, precision = sys.argv, _precision()
    sys.argv = [file or ""]
    try:
        yield
    finally:
        sys.argv, changed = before, _precision()
        if changed != precision:
            torch = sys.modules["torch"]
            torch.set_default_dtype(getattr(torch, precision))
    if changed != precision:
        raise RuntimeError(
            f"{file or 'the code'} changes PyTorch's default type from {precision} to {changed}, and a process trains "
            "other models too; remove this line, and convert the model: `return model.double()`"
        )


def _precision() -> str:
    """Return the name of PyTorch's default type of numbers."""
    torch: Any = sys.modules.get("torch")
    known = hasattr(torch, "get_default_dtype")
    return str(torch.get_default_dtype()).removeprefix("torch.") if known else "float32"


@contextmanager
def _python_numbers() -> Iterator[None]:
    state = random.getstate()
    random.seed(SEED)
    try:
        yield
    finally:
        random.setstate(state)


@contextmanager
def _numpy_numbers() -> Iterator[None]:
    import numpy as np  # noqa: PLC0415 (checking a job needs no numpy)

    state = np.random.get_state()
    np.random.seed(SEED)
    try:
        yield
    finally:
        np.random.set_state(state)


@contextmanager
def _torch_numbers() -> Iterator[None]:
    """Seed PyTorch's generators if PyTorch is loaded, as it is wherever it trains."""
    torch: Any = sys.modules.get("torch")
    if not hasattr(torch, "default_generator"):  # also while PyTorch itself is being imported
        yield
        return
    state, on_gpu = torch.get_rng_state(), torch.cuda.is_initialized()
    states_on_gpus = torch.cuda.get_rng_state_all() if on_gpu else []
    torch.default_generator.manual_seed(SEED)
    if on_gpu:
        torch.cuda.manual_seed_all(SEED)
    try:
        yield
    finally:
        torch.set_rng_state(state)
        if on_gpu:
            torch.cuda.set_rng_state_all(states_on_gpus)
