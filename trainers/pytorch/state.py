"""The state of a training: writing it, reading it, and checking that a saved state fits a training."""

import pickle
from collections.abc import Mapping
from hashlib import sha256
from typing import IO, Any, BinaryIO, cast

import torch
from torch import Tensor

from tune_jobs.trainers.data import TrainingData
from tune_jobs.trainers.errors import CheckpointError
from tune_jobs.trainers.pytorch.plan import TrainingPlan

State = dict[str, Any]


def write_state(state: Mapping[str, Any], file: BinaryIO) -> None:
    """Append tensors and plain values to `file`, as `torch.save` does."""
    torch.save(dict(state), cast("IO[bytes]", file))


def read_state(file: BinaryIO) -> State:
    """Read what `write_state` wrote, with all tensors on the CPU and without running code from the file.

    Raises:
        CheckpointError: The file is damaged, or holds something else.
        OSError: The file cannot be read.
    """
    try:
        state = torch.load(cast("IO[bytes]", file), map_location="cpu", weights_only=True)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # a damaged file may cause any error
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, pickle.UnpicklingError):  # the rest is advice on how to run code from the file
            reason = "its values cannot be read"
        raise CheckpointError(
            f"the checkpoint is damaged or not of a PyTorch training ({reason}); continue from an earlier one"
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(
            f"the checkpoint holds a {type(state).__name__} and no state of a PyTorch training; "
            "continue from another one"
        )
    return state


def plan_digest(plan: TrainingPlan) -> str:
    """Return the SHA-256 (hexadecimal) of all settings of a plan."""
    return sha256(plan.model_dump_json().encode()).hexdigest()


def check_plan(plan: TrainingPlan, state: Mapping[str, Any], *, inherit: bool = False) -> None:
    """Refuse a state of another plan.

    Args:
        plan: The plan of the training that is to continue.
        state: The saved state.
        inherit: Whether the state of another plan is accepted.

    Raises:
        CheckpointError: The state is of another plan.
    """
    if not inherit and state.get("plan") != plan_digest(plan):
        raise CheckpointError(
            "the checkpoint is of another plan: a setting, a hyperparameter or the seed differs; start "
            "again from the first epoch, or use the plan of the checkpoint"
        )


def check_data(shape: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Refuse a state that was trained on data of another `data_shape`.

    Raises:
        CheckpointError: The data had another shape.
    """
    if state.get("data") != shape:
        raise CheckpointError(
            f"the checkpoint was made with other data: {state.get('data')}, and these are "
            f"{shape}; start again from the first epoch, or use the data of the checkpoint"
        )


def data_shape(data: TrainingData) -> dict[str, Any]:
    """Return the sizes by which a checkpoint recognises its data."""
    return {
        "input_shape": list(data.info.input_shape),
        "outputs": data.info.outputs,
        "training_rows": len(data.train.x),
        "validation_rows": len(data.validation.x),
    }


def copy_tensors(tree: Any) -> Any:
    """Return the same nest of mappings and sequences, with every tensor copied."""
    if isinstance(tree, Tensor):
        return tree.detach().clone()
    if isinstance(tree, dict):
        return {key: copy_tensors(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(copy_tensors(value) for value in tree)
    return tree


def move_tensors(weights: State | None, device: torch.device) -> State | None:
    """Return weights with every tensor on `device`; None for None."""
    if weights is None:
        return None
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in weights.items()}
