"""Open the W&B runs of a run folder: their names, groups and configurations."""

import math
import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import wandb

from tune_jobs.job.job import Job
from tune_jobs.job.settings import WandbSettings
from tune_jobs.record.run_record import TrialRecord
from tune_jobs.tracking.wandb_files import remove_run, wandb_run_id
from tune_jobs.trainers.settings import Mode, cost

_FLUSH_SECONDS: Final = 5.0
"""Seconds after which records are on the disk at the latest, for the process that uploads them."""
_QUIET: Final[Mapping[str, Any]] = {
    "silent": True,
    "console": "off",
    "disable_git": True,
    "disable_code": True,
    "symlink": False,
    "init_timeout": 30,
    "finish_timeout": 30,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}
"""Settings with which W&B prints nothing, inspects nothing on the machine, and records only the run's own numbers."""


class WandbRuns:
    """Opens W&B runs that are written to the disk of the driver, whether they are uploaded or not.

    Args:
        job: Job of the run, with its `tracking.wandb`.
        path: The run folder; W&B itself adds the `wandb`.
    """

    def __init__(self, job: Job, path: Path) -> None:
        assert job.tracking.wandb is not None
        self._job = job
        self._settings: WandbSettings = job.tracking.wandb
        self._path = path

    def open(self, part: str, job_type: str, config: Mapping[str, Any], started: float) -> wandb.Run:
        """Open a new W&B run, and remove what was written of it before.

        Args:
            part: Name of the W&B run: a trial's id, or the name of another part.
            job_type: `trial`, `summary` or `test`.
            config: Configuration of the W&B run.
            started: Unix time of its start, in seconds.

        Raises:
            OSError: The disk cannot be written to.
            wandb.Error: W&B did not start.
        """
        # W&B reports its errors to its own server, also when it is offline.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        wandb.setup(wandb.Settings(silent=True))  # else `init` may ask for a key, and waits for an answer
        run_id = wandb_run_id(self._path.name, part)
        remove_run(self._path / "wandb", run_id)
        tags = (*self._settings.tags, self._job.search.method, self._job.scheduler.method)
        return wandb.init(
            reinit="create_new",
            mode="offline",
            project=self._settings.project,
            entity=self._settings.entity,
            id=run_id,
            name=part if job_type == "trial" else f"{self._path.name} {part}",
            group=self._path.name,
            job_type=job_type,
            tags=tuple(dict.fromkeys(tags)),
            config=dict(config),
            dir=self._path,
            settings={
                **_QUIET,
                **self._start_settings(started),
            },  # a `wandb.Settings` would be changed by `init`
        )

    def _start_settings(self, started: float) -> dict[str, Any]:
        online = (
            {"x_transaction_log_flush_interval": _FLUSH_SECONDS} if self._settings.mode == "online" else {}
        )
        return {"x_start_time": started, **online}


def trial_config(trial: TrialRecord, job: Job) -> dict[str, Any]:
    """Return the configuration of a trial, with values to filter dashboards by below `trial` and `job`."""
    return {
        **trial.configuration,
        "trial": {"id": trial.trial_id, "number": trial.number},
        "job": job_config(job),
    }


def job_config(job: Job) -> dict[str, Any]:
    """Return the values that all trials of a job share."""
    return {
        "name": job.name,
        "seed": job.seed,
        **job.facts.labels,
        "max_epochs": job.max_epochs,
        "method": job.search.method,
        "scheduler": job.scheduler.method,
        "metric": job.selection.metric,
    }


def summary_metrics(job: Job) -> dict[str, Mode]:
    """Return the metrics whose best value is shown, with `min` or `max`: the training's own loss and the score."""
    own = {metric.name: metric.direction for metric in (job.facts.metrics or ())[:1] if metric.direction}
    return {**own, job.selection.metric: job.selection.mode}


def define_metrics(run: wandb.Run, job: Job) -> None:
    """Make W&B draw metrics over epochs, and show the best value of those in `summary_metrics`."""
    run.define_metric("epoch", hidden=True)
    run.define_metric("*", step_metric="epoch")
    for metric, mode in summary_metrics(job).items():
        run.define_metric(metric, step_metric="epoch", summary=mode)


def best_values(epochs: Iterable[Mapping[str, Any]], job: Job) -> dict[str, dict[str, float]]:
    """Return what the summary shows of each metric in `summary_metrics`; W&B itself takes NaN for the best."""
    epochs = list(epochs)
    best: dict[str, dict[str, float]] = {}
    for metric, mode in summary_metrics(job).items():
        values = [epoch[metric] for epoch in epochs if math.isfinite(epoch[metric])]
        if values:
            best[metric] = {mode: min(values, key=partial(cost, mode=mode))}
    return best


def epoch_times(results: Iterable[Mapping[str, Any]], reported: float) -> list[float]:
    """Return the Unix time at which each epoch ended: the last at `reported`, each its `seconds` after the other."""
    times: list[float] = []
    later = 0.0
    for result in reversed(list(results)):
        times.append(reported - later)
        later += float(result["seconds"])
    return times[::-1]
