"""64 configurations on scikit-learn's digits, tuned as Ray Tune's own documentation shows.

It follows these pages of Ray 2.60's documentation: "How to use Tune with PyTorch" (a train function that
loads its data itself, a checkpoint of model and optimizer each epoch, ASHA), "Running Tune experiments with
Optuna" and "Tune Search Algorithms" (`OptunaSearch`), "How to Save and Load Trial Checkpoints" (a temporary
folder handed to `tune.report`) and "Training in Tune" (a report each epoch). Defaults of those pages
stay defaults here. If the pages leave a choice, this script takes the quicker one: no worker processes in the
`DataLoader`, and no dashboard, as after `pip install "ray[tune]"`.

Three things differ to make the numbers comparable with those of tune-jobs and to leave nothing behind: training
is seeded, the validation loss is the mean over samples instead of batches, and Ray uses a temporary folder and
the loopback address alone.
"""

import argparse
import json
import os
import secrets
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

# Ray reads this variable at its import. It then uses the loopback address alone, on Linux too.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"

import numpy as np
import ray
import torch
from ray import tune
from ray.air.integrations.wandb import WandbLoggerCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

CPUS = 2
MAX_EPOCHS = 27


def load_data(seed: int) -> tuple[TensorDataset, TensorDataset]:
    """Return training (1,078 rows) and validation sets (359 rows).

    Pixels are normalised as one channel, by the mean and deviation of the training rows. The last fifth of the
    rows would be test rows, which this benchmark does not use.
    """
    inputs, targets = load_digits(return_X_y=True)
    train_x, rest_x, train_y, rest_y = train_test_split(
        inputs, targets, test_size=0.4, stratify=targets, random_state=seed
    )
    val_x, _, val_y, _ = train_test_split(rest_x, rest_y, test_size=0.5, stratify=rest_y, random_state=seed)
    mean, deviation = train_x.mean(), train_x.std()
    train, validation = (
        TensorDataset(torch.tensor((x - mean) / deviation, dtype=torch.float32), torch.tensor(y))
        for x, y in ((train_x, train_y), (val_x, val_y))
    )
    return train, validation


def make_optimizer(net: nn.Module, config: dict[str, Any]) -> optim.Optimizer:
    """Return the optimizer of a configuration. Only SGD has a momentum."""
    shared = {"lr": config["lr"], "weight_decay": config["weight_decay"]}
    if config["optimizer"] == "sgd":
        return optim.SGD(net.parameters(), momentum=config["momentum"], **shared)
    if config["optimizer"] == "adam":
        return optim.Adam(net.parameters(), **shared)
    return optim.AdamW(net.parameters(), **shared)


def train_digits(config: dict[str, Any]) -> None:
    """Train one configuration and report each epoch: the trainable."""
    torch.manual_seed(config["seed"])
    net = nn.Sequential(nn.Linear(64, config["hidden"]), nn.ReLU(), nn.Linear(config["hidden"], 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = make_optimizer(net, config)
    first_epoch = 0
    loaded = tune.get_checkpoint()
    if loaded:
        with loaded.as_directory() as folder:
            state = torch.load(Path(folder) / "checkpoint.pt")
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        first_epoch = state["epoch"] + 1

    train, validation = load_data(config["seed"])
    train_loader = DataLoader(train, batch_size=config["batch_size"], shuffle=True)
    val_loader = DataLoader(validation, batch_size=config["batch_size"])
    for epoch in range(first_epoch, MAX_EPOCHS):
        start = time.perf_counter()
        train_epoch(net, train_loader, criterion, optimizer)
        val_loss, accuracy = validate(net, val_loader, criterion)
        epoch_seconds = time.perf_counter() - start
        metrics = {"val_loss": val_loss, "accuracy": accuracy, "epoch_seconds": epoch_seconds}
        with tempfile.TemporaryDirectory() as folder:
            state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
            torch.save(state, Path(folder) / "checkpoint.pt")
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))


def train_epoch(
    net: nn.Module, loader: DataLoader[Any], criterion: nn.Module, optimizer: optim.Optimizer
) -> float:
    """Train one epoch and return its mean loss."""
    net.train()
    running_loss = 0.0
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss = criterion(net(inputs), labels)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
    return running_loss / len(loader)


def validate(net: nn.Module, loader: DataLoader[Any], criterion: nn.Module) -> tuple[float, float]:
    """Return the mean loss and the accuracy over the validation rows."""
    net.eval()
    loss_sum, correct, total = 0.0, 0, 0
    with torch.no_grad():
        for inputs, labels in loader:
            outputs = net(inputs)
            loss_sum += criterion(outputs, labels).item() * len(labels)
            correct += int((outputs.argmax(dim=1) == labels).sum().item())
            total += len(labels)
    return loss_sum / total, correct / total


def tune_digits(
    trials: int, seed: int, storage: Path, *, reuse_actors: bool, wandb: bool
) -> dict[str, float]:
    """Tune on a running Ray and return the totals of all trials.

    Args:
        trials: The number of configurations to try.
        seed: The seed of the search and of each training.
        storage: Folder for Ray Tune's own records.
        reuse_actors: Whether a worker continues with the next trial. The pages named above do not set this.
        wandb: Whether Ray's own callback writes each trial to W&B, offline.

    Returns:
        The numbers of trials and epochs, the seconds spent in training and validation passes, and the lowest
        validation loss of any epoch of any trial.
    """
    tuner = tune.Tuner(
        tune.with_resources(train_digits, resources={"cpu": 1}),
        tune_config=tune.TuneConfig(
            metric="val_loss",
            mode="min",
            search_alg=OptunaSearch(seed=seed),
            scheduler=ASHAScheduler(max_t=MAX_EPOCHS, grace_period=1, reduction_factor=3),
            num_samples=trials,
            reuse_actors=reuse_actors,
        ),
        run_config=tune.RunConfig(
            storage_path=str(storage),
            callbacks=[WandbLoggerCallback(project="digits")] if wandb else None,
        ),
        param_space={
            "seed": seed,
            "lr": tune.loguniform(1e-4, 1.0),
            "batch_size": tune.choice([16, 32, 64, 128]),
            "optimizer": tune.choice(["sgd", "adam", "adamw"]),
            "momentum": tune.uniform(0.0, 0.99),
            "weight_decay": tune.loguniform(1e-6, 1e-2),
            "hidden": tune.choice([32, 64, 128]),  # widths: a list is no category to Optuna
        },
    )
    grid = tuner.fit()
    if grid.num_terminated < trials:  # failed, or interrupted: Tune returns as if nothing had happened
        raise SystemExit(
            f"No result: {grid.num_terminated} of {trials} trials finished, {grid.num_errors} failed."
        )
    curves = [curve for number in range(trials) if (curve := grid[number].metrics_dataframe) is not None]
    return {
        "trials": trials,
        "epochs": sum(len(curve) for curve in curves),
        "training_seconds": sum(float(curve["epoch_seconds"].sum()) for curve in curves),
        "best_val_loss": float(np.nanmin([curve["val_loss"].min() for curve in curves])),
    }


def seconds_since_process_start() -> float:
    """Return the age of this process in seconds, with the start of the interpreter and the imports. Linux only."""
    started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run the benchmark and print its result as JSON in the last line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reuse-actors", action="store_true", help="one process for many trials")
    parser.add_argument("--wandb", action="store_true", help="write each trial to W&B, offline")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result to this file")
    arguments = parser.parse_args()

    # A Unix socket's path has at most 107 characters, and Ray adds some 70 of its own.
    folder = Path(tempfile.mkdtemp(prefix="rt", dir="/tmp"))
    os.environ["RAY_TMPDIR"] = os.environ["TMPDIR"] = str(folder)
    os.environ["WANDB_MODE"], os.environ["WANDB_DIR"] = "offline", str(folder)
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # otherwise Ray writes one into the home folder
    try:
        ray.init(address="local", num_cpus=CPUS, include_dashboard=False)
        totals = tune_digits(
            arguments.trials,
            arguments.seed,
            folder / "results",
            reuse_actors=arguments.reuse_actors,
            wandb=arguments.wandb,
        )
        ray.shutdown()
        result = {"wall_seconds": seconds_since_process_start(), **totals, "seed": arguments.seed}
    finally:
        ray.shutdown()
        shutil.rmtree(folder)
    line = json.dumps(result)
    if arguments.json:
        arguments.json.write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
