"""The global random generators: they are seeded once, and their state is kept for one training.

Other code in the process may draw from them between two epochs without changing the training.
"""

import random
from hashlib import sha256
from typing import Any

import numpy as np
import torch

State = dict[str, Any]


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and PyTorch, those of all accelerators included."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed % 2**63)


def derived_seed(*numbers: int) -> int:
    """Return a seed of these numbers: equal for equal numbers, and different for all others."""
    return int.from_bytes(sha256(repr(numbers).encode()).digest()[:7])


def capture(device: torch.device, *, user_code: bool) -> State:
    """Return the state of the generators, as tensors and plain values.

    Args:
        device: The device of the training. The generator of an accelerator is included.
        user_code: Whether Python's and NumPy's generators are included. Nothing built in draws from them, and reading
            and writing NumPy's takes longer than the validation of a short epoch.
    """
    state: State = {"torch": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    if user_code:
        version, internal, gauss = random.getstate()
        state["python"] = {"version": version, "words": torch.tensor(internal), "gauss": gauss}
        kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
        words = torch.from_numpy(np.asarray(keys).astype(np.int64))
        state["numpy"] = {
            "kind": kind,
            "words": words,
            "rest": [int(position), int(has_gauss), float(cached)],
        }
    return state


def restore(state: State, device: torch.device) -> None:
    """Restore a captured state of the generators. The generator of another kind of device is left out."""
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    elif device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])
    if python := state.get("python"):
        random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
    if numpy := state.get("numpy"):
        np.random.set_state((numpy["kind"], numpy["words"].numpy().astype(np.uint32), *numpy["rest"]))
