"""The epoch loop: one training of one model, which can be saved and continued after any epoch."""

from collections.abc import Generator, Mapping
from dataclasses import asdict
from math import fsum, isfinite
from time import perf_counter
from typing import Any, BinaryIO, Self

import torch
from torch import Tensor, nn

from tune_jobs.trainers.data import TrainingData
from tune_jobs.trainers.early_stopping import Progress, decide, observe
from tune_jobs.trainers.errors import CheckpointError, Diverged, ModelError
from tune_jobs.trainers.interface import EpochResult, StopReason
from tune_jobs.trainers.pytorch import random_state
from tune_jobs.trainers.pytorch.batching import Batches
from tune_jobs.trainers.pytorch.data_parallel import SINGLE_PROCESS, DataParallel, EpochSync
from tune_jobs.trainers.pytorch.evaluation import Measured, evaluate
from tune_jobs.trainers.pytorch.fused_updates import FusedUpdate
from tune_jobs.trainers.pytorch.gradients import build_gradients
from tune_jobs.trainers.pytorch.lbfgs import LBFGS
from tune_jobs.trainers.pytorch.losses import build_loss, check_targets
from tune_jobs.trainers.pytorch.metric_rules import check_metrics
from tune_jobs.trainers.pytorch.metrics import build_metrics
from tune_jobs.trainers.pytorch.models import build_model, try_model
from tune_jobs.trainers.pytorch.optimizers import build_optimizer, inherited_state
from tune_jobs.trainers.pytorch.plan import TrainingPlan
from tune_jobs.trainers.pytorch.schedules import Schedule
from tune_jobs.trainers.pytorch.state import (
    State,
    check_data,
    check_plan,
    copy_tensors,
    data_shape,
    move_tensors,
    plan_digest,
    read_state,
    write_state,
)
from tune_jobs.trainers.pytorch.tensors import in_precision_of, to_tensors
from tune_jobs.trainers.pytorch.transforms import transformed_data
from tune_jobs.trainers.references import load_reference
from tune_jobs.trainers.scores import BestEpoch, better
from tune_jobs.trainers.settings import is_reference


class Trainer:
    """Trains one plan on one data set, an epoch at a time: a `Training` of the interface.

    The same plan and data give the same epochs bit for bit on the same CPU with the same number of threads, whether
    the training is saved and loaded after any epoch or not, and whether other trainings ran in the process before.
    The global random generators are seeded here. Their state is kept between epochs, so the caller may use them.

        with Trainer(plan, data, threads=1) as trainer:
            for result in trainer.epochs():
                print(result.epoch, result.metrics["val_loss"])
            print(trainer.stop_reason, trainer.best)

    Several workers train one model together if each makes a trainer of the same plan and data. The first epoch brings
    all of them to the state of the first worker. Only the first worker saves and loads. The others begin an epoch when
    the first worker does, until it leaves its trainer.

    Args:
        plan: Everything besides the data that determines the training.
        data: Training and validation rows. The arrays may be read-only, and are never written to.
        threads: The number of CPU threads of PyTorch in this process; None leaves it as it is.
        data_parallel: This worker's part in the training, if several workers train the model.

    Raises:
        ModelError: Model, loss, metrics and data do not go together.
        DeviceError: The plan's device is missing.
        ReferenceNotFound: A function of the plan cannot be loaded.
    """

    def __init__(
        self,
        plan: TrainingPlan,
        data: TrainingData,
        *,
        threads: int | None = None,
        data_parallel: DataParallel = SINGLE_PROCESS,
    ) -> None:
        for name in plan.references:  # their imports may set threads, and may draw
            load_reference(name)
        if threads is not None and threads != torch.get_num_threads():
            torch.set_num_threads(threads)
        if problems := check_metrics(plan.training, plan.score):
            raise ModelError("; ".join(problems))
        random_state.seed_everything(plan.seed)
        training, h = plan.training, plan.hyperparameters
        self.plan = plan
        self._data_parallel = data_parallel
        self.device = data_parallel.choose_device(training.device)
        data = transformed_data(plan, data)
        self.model = build_model(plan.model, data.info).to(self.device)
        self._train_rows = in_precision_of(self.model, to_tensors(data.train, self.device))
        self._validation_rows = in_precision_of(self.model, to_tensors(data.validation, self.device))
        try_model(self.model, plan.model.name, self._train_rows.x, data.info)
        for rows in (self._train_rows, self._validation_rows):
            check_targets(training.loss, rows.y, data.info.outputs)
        self._loss = build_loss(training.loss, {**training.loss_arguments, **plan.loss_arguments})
        self._validation_loss = build_loss(training.loss, training.loss_arguments)
        self._metrics = build_metrics(training, data.info, self.model)
        self._optimizer = build_optimizer(self.model, h, self.device, plan.optimizer_arguments)
        self._update = FusedUpdate(self._optimizer, ordinary=is_reference(h.optimizer))
        self._parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        self._batches = Batches(self._train_rows, training.batching, h.batch_size, plan.seed, data_parallel)
        _check_batch_norm(self.model, len(data.train.x), self._batches.batch_size, data_parallel.workers)
        self._gradients = build_gradients(plan, self.model, self._loss, self._parameters, data_parallel)
        self._schedule = Schedule(
            self._optimizer,
            training.schedule,
            lr=self._optimizer.param_groups[0]["lr"],
            max_epochs=training.max_epochs,
            steps_per_epoch=self._batches.steps,
            mode=plan.score.mode,
        )
        self._data_shape = data_shape(data)
        self._user_code = bool(plan.references)
        self._progress = Progress()
        self._last: EpochResult | None = None
        self.best: BestEpoch | None = None
        self.best_weights: State | None = None
        self._random = self._capture_random()
        self._sync = EpochSync(data_parallel)

    @property
    def epoch(self) -> int:
        """Return the number of epochs trained so far."""
        return 0 if self._last is None else self._last.epoch

    @property
    def stop_reason(self) -> StopReason | None:
        """Return why the training ended by itself; None while epochs are left, and if it diverged."""
        if self._last is None or self._last.diverged:
            return None
        training, score = self.plan.training, self.plan.score
        return decide(
            self._progress,
            self._last.metrics[score.metric],
            epoch=self.epoch,
            max_epochs=training.max_epochs,
            settings=training.early_stopping,
            mode=score.mode,
        )

    def epochs(self) -> Generator[EpochResult, None, None]:
        """Train from the current epoch to the end, and yield each epoch's result when it is over.

        Raises:
            Diverged: The loss of the last epoch is NaN or infinite, and another epoch was requested.
        """
        if not self._sync.start(self.state_dict if self.epoch else None, self.load_state_dict):
            return
        while self.stop_reason is None:
            self._raise_if_diverged()
            if not self._sync.begin_epoch():
                return
            started = perf_counter()
            self._seed_epoch()
            train_loss, lr = self._train()
            result = self._result(train_loss, self._evaluate(), lr, started)
            self._remember(result)
            self._sync.end_epoch()
            yield result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """End the training for all workers."""
        self._sync.leave(
            over=self.stop_reason is not None or (self._last is not None and self._last.diverged)
        )

    def save(self, file: BinaryIO) -> bool:
        """Write the whole state. There is one after any epoch, and before the first; so return True."""
        write_state(self.state_dict(), file)
        return True

    def load(self, file: BinaryIO, *, inherit: bool = False) -> None:
        """Continue from what `save` wrote; see `load_state_dict`."""
        self.load_state_dict(read_state(file), inherit=inherit)

    def state_dict(self) -> State:
        """Return copies of everything that the rest of the training depends on: tensors and plain values."""
        return {
            "plan": plan_digest(self.plan),
            "data": self._data_shape,
            "model": copy_tensors(self.model.state_dict()),
            "optimizer": copy_tensors(self._optimizer.state_dict()),
            "optimizer_name": self.plan.hyperparameters.optimizer,
            "schedule": copy_tensors(self._schedule.state_dict()),
            "order": self._batches.generator.get_state(),
            "random": copy_tensors(self._random),
            "early_stopping": asdict(self._progress),
            "best": None if self.best is None else asdict(self.best),
            "best_weights": copy_tensors(self.best_weights),
            "last": None if self._last is None else self._last.to_mapping(),
        }

    def load_state_dict(self, state: Mapping[str, Any], *, inherit: bool = False) -> None:
        """Continue from a `state_dict()` of a training on the same data. The state itself is not changed.

        Args:
            state: The state of a training of the same plan or, if `inherit` is set, of any plan.
            inherit: Whether to take over only what was learnt: weights, the optimizer's memory if it has the same
                form, generators, the epoch and the best epoch. Hyperparameters, settings and the rate of the schedule
                stay those of this plan.

        Raises:
            CheckpointError: The state is of another plan or other data, or incomplete.
        """
        check_plan(self.plan, state, inherit=inherit)
        check_data(self._data_shape, state)
        if missing := sorted(self.state_dict().keys() - state.keys()):
            raise CheckpointError(f"the checkpoint lacks {', '.join(missing)}; continue from another one")
        try:
            last = None if state["last"] is None else EpochResult.from_mapping(state["last"])
            self.model.load_state_dict(state["model"])
            if inherit:
                inherited = inherited_state(self._optimizer, self.plan.hyperparameters, state)
                self._optimizer.load_state_dict(copy_tensors(inherited))
                self._schedule.skip(0 if last is None else last.epoch, self._batches.steps)
            else:
                self._optimizer.load_state_dict(copy_tensors(state["optimizer"]))
                self._schedule.load_state_dict(copy_tensors(state["schedule"]))
            self._batches.generator.set_state(state["order"])
            self._random = copy_tensors(state["random"])
            self._progress = Progress(**state["early_stopping"])
            self.best = None if state["best"] is None else BestEpoch(**state["best"])
            self.best_weights = move_tensors(copy_tensors(state["best_weights"]), self.device)
            self._last = last
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"the checkpoint cannot be loaded ({reason}); continue from another one"
            ) from error

    def _capture_random(self) -> random_state.State:
        return random_state.capture(self.device, user_code=self._user_code)

    def _seed_epoch(self) -> None:
        """Bring the generators to their state at the start of the epoch.

        The generators of the first worker continue from epoch to epoch, and are saved. Those of the other workers
        begin each epoch from a seed of that epoch, so any number of workers can continue a training.
        """
        if self._data_parallel.rank == 0:
            random_state.restore(self._random, self.device)
        else:
            random_state.seed_everything(
                random_state.derived_seed(self.plan.seed, self._data_parallel.rank, self.epoch)
            )

    def _evaluate(self) -> Measured:
        rows, loss = self._validation_rows, self._validation_loss
        return evaluate(self.model, rows, loss, self._metrics, self._data_parallel)

    def _result(self, train_loss: float, measured: Measured, lr: float, started: float) -> EpochResult:
        return EpochResult(
            epoch=self.epoch + 1,
            metrics={
                "train_loss": train_loss,
                "val_loss": measured.loss,
                **measured.metrics,
                "lr": lr,
            },
            seconds=perf_counter() - started,
            diverged=not (isfinite(train_loss) and isfinite(measured.loss)),
        )

    def _remember(self, result: EpochResult) -> None:
        """Keep the best weights, and advance early stopping, the schedule and the generators by this epoch."""
        best = better(self.best, result.to_mapping(), self.plan.score)
        if best is not self.best:
            self.best, self.best_weights = best, copy_tensors(self.model.state_dict())
        score = result.metrics[self.plan.score.metric]
        self._progress = observe(
            self._progress, score, self.plan.training.early_stopping, self.plan.score.mode
        )
        self._schedule.after_epoch(score)
        self._random = self._capture_random()
        self._last = result

    def _raise_if_diverged(self) -> None:
        if self._last is None or not self._last.diverged:
            return
        train_loss, val_loss, lr = (self._last.metrics[name] for name in ("train_loss", "val_loss", "lr"))
        name, value = ("training", train_loss) if not isfinite(train_loss) else ("validation", val_loss)
        raise Diverged(
            f"the {name} loss is {value} at epoch {self.epoch}; lower lr (it was {lr:g}), limit the "
            "gradients (training.clip_grad_norm), or look for extreme values in the data"
        )

    def _train(self) -> tuple[float, float]:
        """Train an epoch; return its mean loss over the samples, and the rate of its last step."""
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
        # One transfer an epoch, because reading the loss of each batch from a GPU would wait for the batch.
        means = self._data_parallel.reduce_losses(torch.stack(losses), shares).tolist()
        size, rows = self._batches.batch_size, len(self._train_rows.x)
        last = rows - size * (len(means) - 1)
        return (fsum(means[:-1]) * size + means[-1] * last) / rows, lr

    def _step(self, x: Tensor, y: Tensor, share: float) -> Tensor:
        loss = self._clipped_gradients(x, y, share)
        self._update()
        return loss

    def _lbfgs_step(self, x: Tensor, y: Tensor, share: float) -> Tensor:
        """Lower the loss of one batch, and return its mean from before the step.

        The line search compares losses. So every evaluation starts with the random generators and the model's buffers
        (running means, for example) in the same state, and the step leaves them as the first evaluation did.
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
            total = float(self._data_parallel.reduce_losses(losses[-1].unsqueeze(0), (share,)))
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
        """Set the parameters' gradients, limited in norm, and return the mean loss of this share of the batch."""
        loss = self._gradients(x, y, share)
        if (limit := self.plan.training.clip_grad_norm) is not None:
            nn.utils.clip_grad_norm_(self._parameters, limit)
        return loss


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
