"""Weights & Biases: a W&B run for each trial, all of them owned by the driver."""

import math
import os
from collections.abc import Iterable, Mapping
from typing import Any, Final

import wandb

from trainers.settings import ScoreSettings
from tune_jobs.events import EpochsReported, Event, TrialCreated, TrialEnded
from tune_jobs.folder import RunFolder
from tune_jobs.job_sections import WandbSettings
from tune_jobs.records import RunRecord, TrialRecord
from tune_jobs.tracking.base import new_results

_QUIET: Final[Mapping[str, Any]] = {
    "silent": True,
    "console": "off",
    "disable_git": True,
    "disable_code": True,
    "symlink": False,
    "init_timeout": 30,
    "finish_timeout": 30,  # without it a server that does not answer is waited for without end
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}
"""No word on the console; nothing is looked for on the machine, or told of it, but the trials' own numbers."""


class WandbTracker:
    """Writes every epoch of every trial to W&B.

    A trial's W&B run has the trial's id as name and the run folder's name as group. Its steps are epochs;
    its summary has the lowest `val_loss`, the selection metric's best value, and at the trial's end `status`,
    `reason`, `score` and `best_epoch`. It exits with 0 if the trial could be the winner, else with 1.

    Offline, nothing leaves the machine and no key is needed: `wandb sync RUN/wandb/offline-run-*` uploads later.

    Where a run is resumed, the W&B runs of trials that go on are resumed too, each when it is heard of again.
    Offline that is a second folder for the same W&B run; given both, `wandb sync` uploads them in their order.

    Args:
        settings: where the W&B runs go.
        folder: of the run; the files of W&B lie in its `wandb`.
        score: which number judges an epoch.
        events: of the run so far, which have been written before.
    """

    def __init__(
        self,
        settings: WandbSettings,
        folder: RunFolder,
        score: ScoreSettings,
        events: Iterable[Event] = (),
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._record = RunRecord.replay(events, score)
        self._before = frozenset(self._record.trials)
        """Trials that have a W&B run from before."""
        self._runs: dict[str, wandb.Run] = {}

    def __call__(self, event: Event) -> None:
        """Takes one event into account.

        Raises:
            wandb.Error: online, W&B refused the run or did not answer.
        """
        if isinstance(event, EpochsReported):
            self._log(event)
        self._record.apply(event)
        if isinstance(event, TrialCreated):
            self._run(event.trial_id)
        elif isinstance(event, TrialEnded):
            self._end(event)

    def close(self) -> None:
        """Ends the W&B runs of trials whose end was not seen."""
        for trial_id in list(self._runs):
            self._finish(trial_id, exit_code=1)

    def _run(self, trial_id: str) -> wandb.Run:
        """The trial's W&B run, which is opened where this process has not done so yet."""
        if trial_id not in self._runs:
            self._runs[trial_id] = self._open(self._record.trials[trial_id])
        return self._runs[trial_id]

    def _open(self, trial: TrialRecord) -> wandb.Run:
        os.environ.setdefault(
            "WANDB_ERROR_REPORTING", "false"
        )  # it reports to W&B's server, also when offline
        wandb.setup(wandb.Settings(silent=True))  # else `init` may ask for a key, and waits for an answer
        run = wandb.init(
            reinit="create_new",
            mode=self._settings.mode,
            project=self._settings.project,
            entity=self._settings.entity,
            id=f"{self._folder.name}-{trial.trial_id}",  # an id is used once in a project, and trials' ids recur
            resume="allow" if trial.trial_id in self._before else None,
            name=trial.trial_id,
            group=self._folder.name,
            tags=self._settings.tags,
            config=dict(trial.configuration),
            dir=self._folder.path,  # W&B itself adds the `wandb`
            settings=dict(_QUIET),  # a `wandb.Settings` would be changed by `init`
        )
        for metric, mode in self._summarised.items():
            run.define_metric(metric, summary=mode)
        return run

    def _log(self, report: EpochsReported) -> None:
        for result in new_results(self._record, report):  # W&B's steps cannot go back
            self._run(report.trial_id).log(dict(result), step=int(result["epoch"]), commit=True)

    def _end(self, trial: TrialEnded) -> None:
        run = self._run(trial.trial_id)
        run.summary.update({"status": trial.status.value, "reason": trial.reason})
        best = self._record.best(trial.trial_id)
        if best is not None:
            run.summary.update({"score": best.score, "best_epoch": best.epoch})
        self._finish(trial.trial_id, exit_code=0 if trial.status.selectable else 1)

    def _finish(self, trial_id: str, exit_code: int) -> None:
        run, epochs = self._runs.pop(trial_id), self._record.trials[trial_id].epochs.values()
        for metric, mode in self._summarised.items():
            values = [epoch[metric] for epoch in epochs if math.isfinite(epoch[metric])]
            if values:  # W&B takes NaN for the best, and where a run is resumed forgets the epochs before
                run.summary.update({metric: {mode: min(values) if mode == "min" else max(values)}})
        run.finish(exit_code=exit_code)

    @property
    def _summarised(self) -> Mapping[str, str]:
        """Metrics of which the best value is shown, and which is the best."""
        score = self._record.score
        return {"val_loss": "min", score.metric: score.mode}
