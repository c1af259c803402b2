"""The best epoch of a saved training: its model, and its evaluation on other rows."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from tune_jobs.trainers.data import DataInfo, Rows
from tune_jobs.trainers.errors import CheckpointError
from tune_jobs.trainers.interface import Evaluation
from tune_jobs.trainers.pytorch.evaluation import evaluate
from tune_jobs.trainers.pytorch.losses import build_loss, check_targets
from tune_jobs.trainers.pytorch.metrics import build_metrics
from tune_jobs.trainers.pytorch.models import build_model
from tune_jobs.trainers.pytorch.plan import TrainingPlan
from tune_jobs.trainers.pytorch.state import check_plan
from tune_jobs.trainers.pytorch.tensors import choose_device, in_precision_of, to_tensors
from tune_jobs.trainers.pytorch.transforms import transformed_info, transformed_rows


def best_model(plan: TrainingPlan, info: DataInfo, state: Mapping[str, Any]) -> nn.Module:
    """Return the model of a saved training with the weights of its best epoch, on the CPU and in evaluation mode.

    Args:
        plan: The plan of that training.
        info: The facts about its data.
        state: The `Trainer.state_dict()` of that training, as `read_state` returns it.

    Raises:
        CheckpointError: The state is of another plan, or has no best epoch.
    """
    check_plan(plan, state)
    if state.get("best_weights") is None:
        raise CheckpointError("the checkpoint has no best epoch: no epoch's score was a finite number")
    model = build_model(plan.model, transformed_info(plan, info))
    try:
        model.load_state_dict(state["best_weights"])
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"the weights of the checkpoint do not fit the model ({error})") from error
    return model.eval()


def best_evaluator(
    plan: TrainingPlan, info: DataInfo, state: Mapping[str, Any]
) -> Callable[[Rows], Evaluation]:
    """Return a function that evaluates the best epoch of a saved training on rows prepared like its validation rows.

    Everything that can fail without the rows fails here, before they are read. Arguments and further errors are those
    of `best_model`.

    Raises:
        DeviceError: The plan's device is missing.
    """
    device = choose_device(plan.training.device)
    model = best_model(plan, info, state).to(device)
    loss = build_loss(plan.training.loss, plan.training.loss_arguments)
    metrics = build_metrics(plan.training, info, model)

    def evaluate_rows(rows: Rows) -> Evaluation:
        tensors = in_precision_of(model, to_tensors(transformed_rows(plan, rows), device))
        check_targets(plan.training.loss, tensors.y, info.outputs)
        measured = evaluate(model, tensors, loss, metrics)
        return Evaluation(metrics={"loss": measured.loss, **measured.metrics})

    return evaluate_rows
