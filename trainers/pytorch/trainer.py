"""The epoch loop: one training of one model, that can be saved and continued after any epoch."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from enum import Enum, auto
from hashlib import sha256
from math import fsum, isfinite
from time import perf_counter
from typing import Any, Self

import torch
from torch import Tensor, nn

from tune_jobs.trainers.data.encode import DataInfo, Rows, TrainingData
from tune_jobs.trainers.early_stopping import Progress, decide, observe
from tune_jobs.trainers.errors import CheckpointError, Diverged, ModelError
from tune_jobs.trainers.interface import DIVERGED, StopReason
from tune_jobs.trainers.pytorch import random_state
from tune_jobs.trainers.pytorch.batching import Batches
from tune_jobs.trainers.pytorch.data_parallel import ALONE, Distribution
from tune_jobs.trainers.pytorch.evaluation import Evaluation, evaluate
from tune_jobs.trainers.pytorch.explicit_gradients import explicit_gradients
from tune_jobs.trainers.pytorch.fused_updates import FusedUpdate
from tune_jobs.trainers.pytorch.lbfgs import LBFGS
from tune_jobs.trainers.pytorch.losses import Loss, build_loss, check_targets
from tune_jobs.trainers.pytorch.metric_rules import check_metrics
from tune_jobs.trainers.pytorch.metrics import build_metrics
from tune_jobs.trainers.pytorch.models import build_model
from tune_jobs.trainers.pytorch.optimizers import build_optimizer
from tune_jobs.trainers.pytorch.plan import TrainingPlan
from tune_jobs.trainers.pytorch.schedules import Schedule
from tune_jobs.trainers.pytorch.tensors import choose_device, to_tensors
from tune_jobs.trainers.results import EpochResult
from tune_jobs.trainers.scores import BestEpoch, better

State = dict[str, Any]

_LEAVE: State = {}
"""What the first worker sends in place of its state if it does not train."""


class _Others(Enum):
    """What the other workers do, or are about to do together with this one."""

    ALIGN = auto()
    WAIT = auto()
    """For word whether a further epoch begins."""
    TRAIN = auto()
    LEFT = auto()
    """Nothing any more."""


class Trainer:
    """Trains one plan on one data set, an epoch at a time.

    The same plan and data give the same epochs, bit for bit, on the same CPU with the same number of threads:
    straight through or saved and loaded after any epoch, in a fresh process or after other trainings. The
    global random generators are seeded here and kept for this training between epochs, so the caller may use
    them.

        trainer = Trainer(plan, data, threads=1)
        for result in trainer.epochs():
            print(result.epoch, result.val_loss)
        print(trainer.finished.sentence, trainer.best)

    Several workers that make a trainer each, of the same plan and data, train one model together. The first of
    them is saved and loaded, and `align`s the others. It begins epochs until it leaves its trainer, which is a
    context, and the others follow:

        with Trainer(plan, data, distribution=Workers()) as trainer:
            trainer.align()
            for result in trainer.epochs():
                ...

    Args:
        plan: All that fixes the training beside the data.
        data: Training and validation rows; the arrays may be read-only and are never written to.
        threads: CPU threads for PyTorch in this process; None leaves them as they are.
        distribution: Of the training among workers.

    Raises:
        ModelError: model, loss, metrics and data do not go together.
        DeviceError: the plan's device is not there.
        ReferenceNotFound: a function of the plan cannot be loaded.
    """

    def __init__(
        self,
        plan: TrainingPlan,
        data: TrainingData,
        *,
        threads: int | None = None,
        distribution: Distribution = ALONE,
    ) -> None:
        if threads is not None and threads != torch.get_num_threads():
            torch.set_num_threads(threads)
        if problems := check_metrics(plan.training, plan.score):
            raise ModelError("; ".join(problems))
        random_state.seed_everything(plan.seed)
        training, h = plan.training, plan.hyperparameters
        self.plan = plan
        self._distribution = distribution
        self.device = distribution.choose_device(training.device)
        self._train_rows = to_tensors(data.train, self.device)
        self._validation_rows = to_tensors(data.validation, self.device)
        self.model = build_model(plan.model, data.info).to(self.device)
        for rows in (self._train_rows, self._validation_rows):
            check_targets(training.loss, rows.y, data.info.outputs)
        self._loss = build_loss(training.loss)
        self._metrics = build_metrics(training, data.info, self.model)
        self._optimizer = build_optimizer(self.model, h, self.device)
        self._update = FusedUpdate(self._optimizer)
        self._parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        self._batches = Batches(self._train_rows, training.batching, h.batch_size, plan.seed, distribution)
        _check_batch_norm(self.model, len(data.train.x), self._batches.batch_size, distribution.workers)
        self._gradients = self._make_gradients()
        self._schedule = Schedule(
            self._optimizer,
            training.schedule,
            lr=h.lr,
            max_epochs=training.max_epochs,
            steps_per_epoch=self._batches.steps,
            mode=plan.score.mode,
        )
        self._data_shape = _data_shape(data)
        self._user_code = any(":" in name for name in (plan.model.name, training.loss, *training.metrics))
        self._progress = Progress()
        self.history: list[EpochResult] = []
        self.best: BestEpoch | None = None
        self.best_weights: State | None = None
        self._random = self._capture_random()
        self._others = _Others.ALIGN

    @property
    def epoch(self) -> int:
        """Epochs trained so far."""
        return len(self.history)

    @property
    def finished(self) -> StopReason | None:
        """How the training ended; None while it goes on, and if it diverged."""
        if not self.history or not self.history[-1].is_finite:
            return None
        training, score = self.plan.training, self.plan.score
        last = self.history[-1].value(score.metric)
        return decide(
            self._progress,
            last,
            epoch=self.epoch,
            max_epochs=training.max_epochs,
            settings=training.early_stopping,
            mode=score.mode,
        )

    def epochs(self) -> Iterator[EpochResult]:
        """Train on from the current epoch to the end, yielding each epoch's result as it is over.

        Raises:
            Diverged: after the result of an epoch with a training or validation loss that is NaN or infinite.
        """
        while self.finished is None and self._others is not _Others.LEFT:
            if self._diverged:
                raise _diverged(self.history[-1])
            if not self._distribution.begin_epoch():
                return
            self._others = _Others.TRAIN
            self._restore_random()
            self._run_epoch()
            self._random = self._capture_random()
            self._others = _Others.WAIT
            yield self.history[-1]

    def align(self) -> None:
        """Brings all workers, which call this before their first epoch here, to the state of the first one."""
        if self._distribution.workers > 1:
            state = self._distribution.first_sends(self.state_dict() if self.epoch else None)
            self._others = _Others.LEFT if state == _LEAVE else _Others.WAIT
            if state and self._distribution.rank:
                self.load_state_dict(state)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """The first worker tells the others that it begins no further epoch, if they wait to know.

        Where it was cut off amid an epoch they cannot be told, and wait in vain.
        """
        if self._distribution.rank == 0:
            if self._others is _Others.ALIGN:
                self._distribution.first_sends(_LEAVE)
            elif self._others is _Others.WAIT and self.finished is None and not self._diverged:
                self._distribution.end()
            self._others = _Others.LEFT

    def state_dict(self) -> State:
        """All that the rest of the training depends on, as copies: tensors and plain values."""
        return {
            "plan": _plan_digest(self.plan),
            "data": self._data_shape,
            "model": _copied(self.model.state_dict()),
            "optimizer": _copied(self._optimizer.state_dict()),
            "schedule": _copied(self._schedule.state_dict()),
            "order": self._batches.generator.get_state(),
            "random": _copied(self._random),
            "early_stopping": asdict(self._progress),
            "best": None if self.best is None else asdict(self.best),
            "best_weights": _copied(self.best_weights),
            "history": _pack(self.history),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict()` of the same plan and data, which is left as it is.

        Raises:
            CheckpointError: the state is of another plan, of other data, or not whole.
        """
        _check_plan(self.plan, state)
        if state.get("data") != self._data_shape:
            raise CheckpointError(
                f"the checkpoint was made with other data: {state.get('data')}, and these are "
                f"{self._data_shape}; start anew, or use the data of then"
            )
        if missing := sorted(self.state_dict().keys() - state.keys()):
            raise CheckpointError(f"the checkpoint lacks {', '.join(missing)}; go on from another one")
        try:
            self.model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(_copied(state["optimizer"]))
            self._schedule.load_state_dict(_copied(state["schedule"]))
            self._batches.generator.set_state(state["order"])
            self._random = _copied(state["random"])
            self._progress = Progress(**state["early_stopping"])
            self.best = None if state["best"] is None else BestEpoch(**state["best"])
            self.best_weights = _moved(_copied(state["best_weights"]), self.device)
            self.history = _unpack(state["history"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"the checkpoint cannot be loaded ({error}); go on from another one"
            ) from error

    @property
    def _diverged(self) -> bool:
        return bool(self.history) and not self.history[-1].is_finite

    def _make_gradients(self) -> Callable[[Tensor, Tensor, float], Tensor]:
        settings, loss = self.plan.model, self.plan.training.loss
        if self._distribution.workers > 1:
            # Of a model of the user's, a batch may leave out parameters.
            model = self._distribution.replicate(self.model, unused_parameters=":" in settings.name)
            return _SharedGradients(model, self._loss, self._parameters, self._distribution.workers)
        gradients = explicit_gradients(settings, loss, self.model) or _AutogradGradients(
            self.model, self._loss, self._parameters
        )
        return lambda x, y, share: gradients(x, y)

    def _capture_random(self) -> random_state.State:
        return random_state.capture(self.device, user_code=self._user_code)

    def _restore_random(self) -> None:
        """Puts the generators where the epoch begins.

        Those of the first worker go on from epoch to epoch, and are saved. Others begin each epoch anew, from the
        seed: so a training can be continued by any number of workers.
        """
        if self._distribution.rank == 0:
            random_state.restore(self._random, self.device)
        else:
            random_state.seed_everything(
                random_state.derived_seed(self.plan.seed, self._distribution.rank, self.epoch)
            )

    def _run_epoch(self) -> None:
        start = perf_counter()
        train_loss, lr = self._train()
        evaluation = evaluate(
            self.model, self._validation_rows, self._loss, self._metrics, self._distribution
        )
        result = EpochResult(
            epoch=self.epoch + 1,
            train_loss=train_loss,
            val_loss=evaluation.loss,
            metrics=evaluation.metrics,
            lr=lr,
            seconds=perf_counter() - start,
        )
        best = better(self.best, result.to_mapping(), self.plan.score)
        if best is not self.best:
            self.best, self.best_weights = best, _copied(self.model.state_dict())
        score = result.value(self.plan.score.metric)
        self._progress = observe(
            self._progress, score, self.plan.training.early_stopping, self.plan.score.mode
        )
        self._schedule.after_epoch(score)
        self.history.append(result)

    def _train(self) -> tuple[float, float]:
        """Train an epoch; its mean loss over the samples, and the rate of its last step."""
        self.model.train()
        step = self._lbfgs_step if isinstance(self._optimizer, LBFGS) else self._step
        group, schedule = self._optimizer.param_groups[0], self._schedule
        lr = group["lr"]
        losses: list[Tensor] = []
        shares = self._batches.shares
        with torch.no_grad():
            for (x, y), share in zip(self._batches.epoch(), shares, strict=True):
                losses.append(step(x, y, share))
                lr = group["lr"]
                if schedule.every_batch:
                    schedule.after_batch()
        # One transfer an epoch: asking a GPU for each batch's loss would wait for it.
        means = self._distribution.join_losses(torch.stack(losses), shares).tolist()
        size, rows = self._batches.batch_size, len(self._train_rows.x)
        last = rows - size * (len(means) - 1)
        return (fsum(means[:-1]) * size + means[-1] * last) / rows, lr

    def _step(self, x: Tensor, y: Tensor, share: float) -> Tensor:
        loss = self._clipped_gradients(x, y, share)
        self._update()
        return loss

    def _lbfgs_step(self, x: Tensor, y: Tensor, share: float) -> Tensor:
        """Lower the loss of one batch, and return its mean before.

        The line search compares losses. So every evaluation finds the random generators and the model's buffers
        (running means, for example) as the first one found them, and the step leaves them as the first one did.
        """
        decay = self.plan.hyperparameters.weight_decay
        losses: list[Tensor] = []
        random, before = self._capture_random(), self._copy_buffers()
        after = before

        def closure() -> float:
            nonlocal after
            if losses:
                random_state.restore(random, self.device)
                self._restore_buffers(before)
            losses.append(self._clipped_gradients(x.clone(), y.clone(), share))
            if len(losses) == 1:
                after = self._copy_buffers()
            total = float(self._distribution.join_losses(losses[-1].unsqueeze(0), (share,)))
            for parameter in self._parameters if decay else ():
                total += 0.5 * decay * float(parameter.detach().square().sum())
                if parameter.grad is not None:
                    parameter.grad.add_(parameter.detach(), alpha=decay)
            return total

        self._optimizer.step(closure)
        self._restore_buffers(after)
        return losses[0]

    def _copy_buffers(self) -> list[Tensor]:
        return [buffer.clone() for buffer in self.model.buffers()]

    def _restore_buffers(self, buffers: list[Tensor]) -> None:
        for buffer, value in zip(self.model.buffers(), buffers, strict=True):
            buffer.copy_(value)

    def _clipped_gradients(self, x: Tensor, y: Tensor, share: float) -> Tensor:
        """Mean loss of a share of a batch; the batch's gradients are then in the parameters, limited in norm."""
        loss = self._gradients(x, y, share)
        if (limit := self.plan.training.clip_grad_norm) is not None:
            nn.utils.clip_grad_norm_(self._parameters, limit)
        return loss


class _AutogradGradients:
    """What `ExplicitGradients` is for some models, for all others."""

    def __init__(self, model: nn.Module, loss: Loss, parameters: list[nn.Parameter]) -> None:
        self._model, self._loss, self._parameters = model, loss, parameters

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        for parameter in self._parameters:
            parameter.grad = None
        with torch.enable_grad():
            loss = self._loss(self._model(x), y)
            torch.autograd.backward(loss)
        return loss.detach()


class _SharedGradients:
    """The gradients of whole batches, of which each of several workers has a share.

    Args:
        model: Its gradients become the mean of all workers'.
    """

    def __init__(self, model: nn.Module, loss: Loss, parameters: list[nn.Parameter], workers: int) -> None:
        self._model, self._loss, self._parameters, self._workers = model, loss, parameters, workers

    def __call__(self, x: Tensor, y: Tensor, share: float) -> Tensor:
        """Mean loss of this worker's rows, which are this share of the batch."""
        for parameter in self._parameters:
            parameter.grad = None
        with torch.enable_grad():
            loss = self._loss(self._model(x), y)
            # The mean over workers of these is the gradient of the mean over the batch.
            torch.autograd.backward(loss, torch.full_like(loss, share * self._workers))
        return loss.detach()


def best_model(plan: TrainingPlan, info: DataInfo, state: Mapping[str, Any]) -> nn.Module:
    """The model of a saved training with the weights of its best epoch, on the CPU and in evaluation mode.

    Args:
        plan: The plan of that training.
        info: Of its data.
        state: Its `Trainer.state_dict()`, as `load_checkpoint` returns it.

    Raises:
        CheckpointError: the state is of another plan, or has no best epoch.
    """
    _check_plan(plan, state)
    if state["best_weights"] is None:
        raise CheckpointError("the checkpoint has no best epoch: no epoch's score was a finite number")
    model = build_model(plan.model, info)
    model.load_state_dict(state["best_weights"])
    return model.eval()


def best_evaluator(
    plan: TrainingPlan, info: DataInfo, state: Mapping[str, Any]
) -> Callable[[Rows], Evaluation]:
    """A function that evaluates the best epoch of a saved training on rows prepared like its validation rows.

    All that can go wrong without the rows goes wrong here, before they are read.
    Arguments and further errors are those of `best_model`.

    Raises:
        DeviceError: the plan's device is not there.
    """
    device = choose_device(plan.training.device)
    model = best_model(plan, info, state).to(device)
    loss, metrics = build_loss(plan.training.loss), build_metrics(plan.training, info, model)

    def evaluate_rows(rows: Rows) -> Evaluation:
        tensors = to_tensors(rows, device)
        check_targets(plan.training.loss, tensors.y, info.outputs)
        return evaluate(model, tensors, loss, metrics)

    return evaluate_rows


def _check_batch_norm(model: nn.Module, rows: int, batch_size: int, workers: int) -> None:
    fewest = (rows % batch_size or batch_size) // workers
    if fewest >= 2 or not any(isinstance(module, nn.BatchNorm1d) for module in model.modules()):
        return
    if workers == 1:
        raise ModelError(
            f"batch normalisation needs two rows or more in every batch, and {rows} training rows in "
            f"batches of {batch_size} leave one of a single row; choose another batch_size, or no batch "
            "normalisation"
        )
    raise ModelError(
        f"batch normalisation needs two rows or more of every batch for each worker, and {rows} training rows in "
        f"batches of {batch_size} leave one in which {workers} workers find {fewest} at the least; choose another "
        "batch_size, fewer workers, or no batch normalisation"
    )


def _diverged(result: EpochResult) -> Diverged:
    name = "validation" if isfinite(result.train_loss) else "training"
    value = result.val_loss if isfinite(result.train_loss) else result.train_loss
    return Diverged(
        f"the {name} loss is {value} at epoch {result.epoch}; lower lr (it was {result.lr:g}), limit the "
        "gradients (training.clip_grad_norm), or look for extreme values in the data"
    )


def _plan_digest(plan: TrainingPlan) -> str:
    return sha256(plan.model_dump_json().encode()).hexdigest()


def _check_plan(plan: TrainingPlan, state: Mapping[str, Any]) -> None:
    if state.get("plan") != _plan_digest(plan):
        raise CheckpointError(
            "the checkpoint is of another plan: a setting, a hyperparameter or the seed differs; start "
            "anew, or use the plan of then"
        )


def _data_shape(data: TrainingData) -> dict[str, Any]:
    return {
        "input_shape": list(data.info.input_shape),
        "outputs": data.info.outputs,
        "training_rows": len(data.train.x),
        "validation_rows": len(data.validation.x),
    }


def _copied(tree: Any) -> Any:
    """The same nest of mappings and sequences, with every tensor copied."""
    if isinstance(tree, Tensor):
        return tree.detach().clone()
    if isinstance(tree, dict):
        return {key: _copied(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_copied(value) for value in tree)
    return tree


def _moved(weights: State | None, device: torch.device) -> State | None:
    if weights is None:
        return None
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in weights.items()}


def _pack(history: list[EpochResult]) -> State:
    """The results as one tensor: thousands of small values would make a checkpoint slow."""
    rows = [result.to_mapping() for result in history]
    columns = [name for name in rows[0] if name != DIVERGED] if rows else []
    return {
        "columns": columns,
        "values": torch.tensor([[row[name] for name in columns] for row in rows], dtype=torch.float64),
    }


def _unpack(packed: State) -> list[EpochResult]:
    return [
        EpochResult.from_mapping(dict(zip(packed["columns"], row, strict=True)))
        for row in packed["values"].tolist()
    ]
