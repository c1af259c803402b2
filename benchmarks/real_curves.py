"""Make tables of learning curves from trainings of tune-jobs itself, for `search_quality.py` to replay.

    python benchmarks/real_curves.py --out DIR [--configurations N] [--epochs N] [--tasks TASK …]

Each task is a data set that is built in, a model and an optimizer; its configurations are drawn at random from the
ranges of the ready search spaces, and all are trained to the end, with the same seed, as the trials of a run are.
A table is repeatable on the same CPU, and a larger table begins with the configurations of a smaller one. Every epoch
is also measured on the rows of the test part, which no run would read: these are public data and no run's holdout.

The printed table shows how well the ranking after the first epochs predicts that by the best loss of the whole curve.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from scipy.stats import spearmanr

if not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.command_line import at_least, positive
from benchmarks.regret import reachable
from benchmarks.runs import ONE_THREAD
from tests.simulation.curve_tables import Array, Table
from tune_jobs.search_spaces import SearchSpace, parse_space
from tune_jobs.trainers.data.prepare import PreparedData, prepare_data
from tune_jobs.trainers.data.settings import BuiltInLoss, DataSettings, SplitSettings
from tune_jobs.trainers.errors import Diverged
from tune_jobs.trainers.pytorch.evaluation import evaluate
from tune_jobs.trainers.pytorch.losses import build_loss
from tune_jobs.trainers.pytorch.plan import plan_training
from tune_jobs.trainers.pytorch.settings import ModelSettings, TrainingSettings
from tune_jobs.trainers.pytorch.tensors import to_tensors
from tune_jobs.trainers.pytorch.trainer import Trainer
from tune_jobs.trainers.settings import ScoreSettings

CONFIGURATIONS = 600
EPOCHS = 27
"""Epochs of each training: the default of a job."""
PROCESSES = 2
EARLY_EPOCHS = (1, 2, 3, 9)
"""Epochs whose ranking is compared with that of the whole curve."""

_SEED = 0
_CHUNK = 10
"""Configurations that a process receives at a time."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A data set, a model and the ranges of its configurations."""

    data: DataSettings
    model: ModelSettings
    loss: BuiltInLoss
    fixed: Mapping[str, Any]
    """Values that all configurations share, by the names of a configuration."""
    space: SearchSpace
    """The ranges. All are numbers because a table has no other columns."""


def _stratified(source: str) -> DataSettings:
    return DataSettings(source=source, split=SplitSettings(method="stratified"))


_BATCH_SIZE = {"low": 16, "high": 256, "log": True}
_DROPOUT = {"low": 0.0, "high": 0.5}
_WEIGHT_DECAY = {"low": 1e-6, "high": 1e-2, "log": True}
_SGD = {
    "lr": {"low": 1e-4, "high": 1.0, "log": True},
    "momentum": {"low": 0.5, "high": 0.99},
    "weight_decay": _WEIGHT_DECAY,
    "batch_size": _BATCH_SIZE,
    "model.dropout": _DROPOUT,
}
_ADAM = {
    "lr": {"low": 1e-5, "high": 1e-1, "log": True},
    "beta1": {"low": 0.8, "high": 0.99},
    "beta2": {"low": 0.9, "high": 0.9999},
    "weight_decay": _WEIGHT_DECAY,
    "batch_size": _BATCH_SIZE,
    "model.dropout": _DROPOUT,
}
_RMSPROP = {
    "lr": {"low": 1e-5, "high": 1e-1, "log": True},
    "alpha": {"low": 0.9, "high": 0.999},
    "momentum": {"low": 0.0, "high": 0.99},
    "weight_decay": _WEIGHT_DECAY,
    "batch_size": _BATCH_SIZE,
}

TASKS: Mapping[str, Task] = {
    "digits_mlp_sgd": Task(
        data=_stratified("digits"),
        model=ModelSettings(name="mlp", arguments={"hidden": [64]}),
        loss="cross_entropy",
        fixed={"optimizer": "sgd"},
        space=parse_space(_SGD),
    ),
    "digits_mlp_adam": Task(
        data=_stratified("digits"),
        model=ModelSettings(name="mlp", arguments={"hidden": [64]}),
        loss="cross_entropy",
        fixed={"optimizer": "adam"},
        space=parse_space(_ADAM),
    ),
    "digits_mlp_one_cycle": Task(
        data=_stratified("digits"),
        model=ModelSettings(name="mlp", arguments={"hidden": [64]}),
        loss="cross_entropy",
        fixed={"optimizer": "sgd", "training.schedule.name": "one_cycle"},
        space=parse_space({**_SGD, "training.schedule.warmup": {"low": 0.1, "high": 0.5}}),
    ),
    "digits_cnn_adam": Task(
        data=_stratified("digits"),
        model=ModelSettings(name="cnn", arguments={"channels": [4, 8], "hidden": 32}),
        loss="cross_entropy",
        fixed={"optimizer": "adam"},
        space=parse_space(_ADAM),
    ),
    "breast_cancer_mlp_sgd": Task(
        data=_stratified("breast_cancer"),
        model=ModelSettings(name="mlp", arguments={"hidden": [32]}),
        loss="binary_cross_entropy",
        fixed={"optimizer": "sgd"},
        space=parse_space(_SGD),
    ),
    "diabetes_mlp_adam": Task(
        data=DataSettings(source="diabetes"),
        model=ModelSettings(name="mlp", arguments={"hidden": [32]}),
        loss="mse",
        fixed={"optimizer": "adam"},
        space=parse_space(_ADAM),
    ),
    "wine_mlp_rmsprop": Task(
        data=_stratified("wine"),
        model=ModelSettings(name="mlp", arguments={"hidden": [32]}),
        loss="cross_entropy",
        fixed={"optimizer": "rmsprop"},
        space=parse_space(_RMSPROP),
    ),
}
"""Tasks by the name that `--tasks` takes and that the table gets."""


def draw(name: str, configurations: int) -> list[dict[str, Any]]:
    """Draw configurations of the task called `name`. A larger number begins with the same ones."""
    random = Random(name)
    return [TASKS[name].space.sample(random) for _ in range(configurations)]


def train_curve(name: str, epochs: int, configuration: Mapping[str, Any]) -> Array:
    """Train a configuration of the task called `name`.

    Returns:
        [3, epochs]: training, validation and test loss after each epoch. All are NaN from the first epoch on whose
        training or validation loss is not finite.
    """
    task, data = TASKS[name], _data(name)
    plan = plan_training(
        task.model,
        _training(task, epochs),
        ScoreSettings(metric="val_loss"),
        {**task.fixed, **configuration},
        _SEED,
    )
    trainer = Trainer(plan, data.for_trials(), threads=1)
    test, loss = to_tensors(data.test, trainer.device), build_loss(task.loss)
    losses = np.full((3, epochs), np.nan)
    with suppress(Diverged):
        for result in trainer.epochs():
            if not result.diverged:
                tested = evaluate(trainer.model, test, loss, {})
                losses[:, result.epoch - 1] = (
                    result.metrics["train_loss"],
                    result.metrics["val_loss"],
                    tested.loss,
                )
    return losses


def make_table(name: str, configurations: int, epochs: int, pool: Executor) -> Table:
    """Train in the processes of `pool` and return the table of the task called `name`."""
    chosen = draw(name, configurations)
    parameters = TASKS[name].space.order
    points = np.array([[configuration[parameter] for parameter in parameters] for configuration in chosen])
    curves = np.stack(list(pool.map(partial(train_curve, name, epochs), chosen, chunksize=_CHUNK)))
    train, valid, test = curves.swapaxes(0, 1)
    return Table(name, parameters, points, train, valid, test)


def save_table(table: Table, folder: Path) -> None:
    """Write the table as the file that `load_table` reads, with losses as float32."""
    np.savez_compressed(
        folder / f"{table.name}.npz",
        hp=table.points,
        hp_names=np.array(table.parameters),
        train=table.train.astype(np.float32),
        valid=table.valid.astype(np.float32),
        test=table.test.astype(np.float32),
    )


def rank_correlations(table: Table, epochs: Sequence[int]) -> list[float]:
    """Return Spearman's correlation of the loss after each of `epochs` with the lowest loss of the curve.

    It is taken over the configurations, with validation losses. A configuration that has diverged by then is the worst.
    """
    valid = reachable(table.valid)
    lowest = valid.min(axis=1)
    return [float(spearmanr(valid[:, epoch - 1], lowest).statistic) for epoch in epochs]


def report_lines(tables: Iterator[tuple[Table, float]], epochs: int) -> Iterator[str]:
    """Yield the lines of the report as Markdown, one per table as soon as it is ready."""
    early = [epoch for epoch in EARLY_EPOCHS if epoch <= epochs]
    yield "Rank correlation of the validation loss after an epoch with the lowest of the whole curve:\n"
    yield f"| Task | {' | '.join(f'epoch {epoch}' for epoch in early)} | diverged | minutes |"
    yield f"|---|{'---|' * (len(early) + 2)}"
    for table, seconds in tables:
        correlations = " | ".join(f"{value:.2f}" for value in rank_correlations(table, early))
        diverged = np.isnan(table.valid).any(axis=1).mean()
        yield f"| {table.name} | {correlations} | {diverged:.0%} | {seconds / 60:.1f} |"


def _training(task: Task, epochs: int) -> TrainingSettings:
    return TrainingSettings(max_epochs=epochs, loss=task.loss, device="cpu")


@cache
def _data(name: str) -> PreparedData:
    """Return the data of a task, which a process reads once."""
    task = TASKS[name]
    return prepare_data(task.data, task.loss, Path())


def _make_tables(given: argparse.Namespace) -> Iterator[tuple[Table, float]]:
    """Make and write the tables, and yield each with the seconds that it took."""
    os.environ.update(ONE_THREAD)
    with ProcessPoolExecutor(given.processes, get_context("spawn")) as pool:
        for name in given.tasks:
            begun = time.monotonic()
            table = make_table(name, given.configurations, given.epochs, pool)
            save_table(table, given.out)
            yield table, time.monotonic() - begun


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="real_curves.py", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="for the tables (TASK.npz); made if need be"
    )
    parser.add_argument(
        "--configurations",
        type=at_least(2),
        default=CONFIGURATIONS,
        metavar="N",
        help=f"of each task (default: {CONFIGURATIONS})",
    )
    parser.add_argument("--epochs", type=positive, default=EPOCHS, metavar="N", help=f"(default: {EPOCHS})")
    parser.add_argument(
        "--tasks",
        nargs="+",
        choices=TASKS,
        default=list(TASKS),
        metavar="TASK",
        help=f"{', '.join(TASKS)} (default: all)",
    )
    parser.add_argument(
        "--processes",
        type=positive,
        default=PROCESSES,
        metavar="N",
        help=f"of one thread each (default: {PROCESSES})",
    )
    given = parser.parse_args(arguments)
    given.tasks = list(dict.fromkeys(given.tasks))
    return given


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, write the tables to the folder of `--out`, and print the correlations.

    Raises:
        SystemExit: The command line is wrong, or the folder cannot be made.
    """
    given = parse_arguments(arguments)
    try:
        given.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemExit(f"--out: {given.out} cannot be made ({error.strerror})") from error
    for line in report_lines(_make_tables(given), given.epochs):
        print(line, flush=True)


if __name__ == "__main__":
    main()
