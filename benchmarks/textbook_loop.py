"""Measure the textbook training loop, a bare loop and ours, in epochs a second on one thread.

All train a 64-32-10 network with plain SGD and cross-entropy on as many rows as a job on scikit-learn's
digits has for training (1,078 of 64 numbers). The first uses a `DataLoader` and sums up the loss, as in PyTorch's
tutorials "Training with PyTorch" and "Optimizing Model Parameters". The second draws a permutation and indexes
tensors: only the gradient steps themselves remain. Ours is `tune_jobs.trainers.Trainer`, which evaluates after each
epoch. With two validation rows the evaluation costs almost nothing. With the 359 of a job on digits the time is that
of a real run.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.timing import ratio_table, side_by_side
from tune_jobs.trainers.data import DataInfo, Encoding, Rows, TrainingData
from tune_jobs.trainers.data.targets import TargetEncoding
from tune_jobs.trainers.pytorch.plan import TrainingPlan
from tune_jobs.trainers.pytorch.settings import Hyperparameters, ModelSettings, TrainingSettings
from tune_jobs.trainers.pytorch.trainer import Trainer

BATCH_SIZES = (8, 64)
SECONDS = 2.0
TRAINING_ROWS = 1_078
VALIDATION_ROWS = 359
TARGET_OVER_DATALOADER = 4.0
"""Target: the lowest ratio to the `DataLoader` loop at the smallest of `BATCH_SIZES`."""
TARGET_OVER_BARE = 0.9

_LEARNING_RATE = 0.05


def dataloader_epochs_per_second(batch_size: int, seconds: float) -> float:
    """Measure the textbook loop: `DataLoader`, `optim.SGD`, the loss summed up with `item()`.

    Args:
        batch_size: The rows of a batch. The last batch of an epoch may be smaller.
        seconds: The least time to measure, after one unmeasured epoch.

    Returns:
        Epochs a second.
    """
    inputs, targets = _training_rows()
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=batch_size, shuffle=True)
    model, optimizer, criterion = _model()

    def epoch() -> None:
        model.train()
        running_loss = 0.0
        for batch, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(batch), labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()

    return _epochs_per_second(epoch, seconds)


def bare_loop_epochs_per_second(batch_size: int, seconds: float) -> float:
    """Measure the bare loop: a permutation, tensors indexed with its pieces, `optim.SGD`, and nothing else.

    Args:
        batch_size: The rows of a batch. The last batch of an epoch may be smaller.
        seconds: The least time to measure, after one unmeasured epoch.

    Returns:
        Epochs a second.
    """
    inputs, targets = _training_rows()
    model, optimizer, criterion = _model()

    def epoch() -> None:
        for rows in torch.split(torch.randperm(len(inputs)), batch_size):
            optimizer.zero_grad()
            criterion(model(inputs[rows]), targets[rows]).backward()
            optimizer.step()

    return _epochs_per_second(epoch, seconds)


def trainer_epochs_per_second(batch_size: int, seconds: float, validation_rows: int) -> float:
    """Measure `tune_jobs.trainers.Trainer`: an epoch is its steps, the validation and a copy of the best weights.

    Args:
        batch_size: The rows of a batch. The last batch of an epoch may be smaller.
        seconds: The least time to measure, after one unmeasured epoch.
        validation_rows: Rows that each epoch is evaluated on.

    Returns:
        Epochs a second.
    """
    plan = TrainingPlan(
        model=ModelSettings(name="mlp", arguments={"hidden": [32]}),
        training=TrainingSettings(max_epochs=1_000_000, loss="cross_entropy", device="cpu"),
        hyperparameters=Hyperparameters(optimizer="sgd", lr=_LEARNING_RATE, batch_size=batch_size),
    )
    epochs = Trainer(plan, _training_data(validation_rows), threads=1).epochs()
    return _epochs_per_second(lambda: next(epochs), seconds)


def report(repeats: int, batch_sizes: Sequence[int] = BATCH_SIZES, seconds: float = SECONDS) -> str:
    """Measure and return a Markdown section with a table per batch size.

    Args:
        repeats: Measurements of each loop.
        batch_sizes: Rows a batch.
        seconds: A measurement, at least.
    """
    ours, bare, textbook = "ours, 2 validation rows", "bare loop", "DataLoader loop"
    parts = ["## Training loop", "Epochs a second, one thread; 1,078 rows, 64-32-10 network, SGD."]
    for batch_size in batch_sizes:
        values = side_by_side(
            {
                textbook: partial(dataloader_epochs_per_second, batch_size, seconds),
                bare: partial(bare_loop_epochs_per_second, batch_size, seconds),
                ours: partial(trainer_epochs_per_second, batch_size, seconds, 2),
                f"ours, {VALIDATION_ROWS} validation rows": partial(
                    trainer_epochs_per_second, batch_size, seconds, VALIDATION_ROWS
                ),
            },
            repeats,
        )
        over_bare = statistics.median(a / b for a, b in zip(values[ours], values[bare], strict=True))
        over_textbook = statistics.median(a / b for a, b in zip(values[ours], values[textbook], strict=True))
        wanted = f" (wanted: {TARGET_OVER_DATALOADER:g} or more)" if batch_size == min(BATCH_SIZES) else ""
        parts += [
            f"### Batches of {batch_size} rows",
            ratio_table(values, baseline=textbook, unit="epochs/s"),
            f"Ours with 2 validation rows: {over_textbook:.2f} of the DataLoader loop{wanted}, "
            f"{over_bare:.2f} of the bare loop (wanted: {TARGET_OVER_BARE:g} or more).",
        ]
    return "\n\n".join(parts)


def _training_data(validation_rows: int) -> TrainingData:
    inputs, targets = load_digits(return_X_y=True)
    x, y = (inputs / 16.0).astype(np.float32), targets.astype(np.int64)
    train, validation = (
        slice(TRAINING_ROWS),
        slice(TRAINING_ROWS, TRAINING_ROWS + validation_rows),
    )
    names, classes = tuple(f"x{column}" for column in range(64)), tuple(range(10))
    info = DataInfo(
        input_shape=(64,),
        outputs=10,
        kind="classification",
        classes=classes,
        feature_names=names,
        target_names=("digit",),
        truth=None,
        encoding=Encoding(
            shape=(64,),
            parts=(),
            table=False,
            standardize=False,
            fill_nulls=False,
            target=TargetEncoding("classes", ("digit",), classes),
        ),
    )
    return TrainingData(Rows(x[train], y[train]), Rows(x[validation], y[validation]), info)


def _training_rows() -> tuple[Tensor, Tensor]:
    inputs, targets = load_digits(return_X_y=True)
    rows = slice(TRAINING_ROWS)
    return torch.tensor(inputs[rows] / 16.0, dtype=torch.float32), torch.tensor(targets[rows])


def _model() -> tuple[nn.Module, torch.optim.SGD, nn.Module]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    return model, torch.optim.SGD(model.parameters(), lr=_LEARNING_RATE), nn.CrossEntropyLoss()


def _epochs_per_second(epoch: Callable[[], object], seconds: float) -> float:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        epoch()
        start = time.perf_counter()
        done, elapsed = 0, 0.0
        while elapsed < seconds or not done:
            epoch()
            done, elapsed = done + 1, time.perf_counter() - start
    finally:
        torch.set_num_threads(threads)
    return done / elapsed
