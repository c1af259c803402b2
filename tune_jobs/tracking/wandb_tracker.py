"""Weights & Biases: a W&B run for each trial, one for the run as a whole, one for each opening of the holdout."""

import time
from pathlib import Path
from typing import Final

import wandb

from tune_jobs.record.curve import numbers
from tune_jobs.record.events import (
    EpochsReported,
    Event,
    HoldoutEvaluated,
    TrialCreated,
    TrialEnded,
    WinnerSelected,
)
from tune_jobs.tracking.base import CLOSE_SECONDS, TrackedRun, new_results
from tune_jobs.tracking.finished_parts import FinishedParts
from tune_jobs.tracking.wandb_files import files_to_upload
from tune_jobs.tracking.wandb_runs import WandbRuns, best_values, define_metrics, epoch_times, trial_config
from tune_jobs.tracking.wandb_summary import (
    SUMMARY,
    test_part,
    try_report,
    write_summary_run,
    write_test_run,
)
from tune_jobs.tracking.wandb_upload import Upload

UPLOAD_SECONDS: Final = 30.0
"""Longest time that the end of a run waits for the upload, in seconds."""


class WandbTracker:
    """Writes every epoch of every trial to W&B, into the run folder; online, a process beside the run uploads it.

    A trial's W&B run has the trial's id as name and the run folder's name as group. Its steps are epochs;
    its summary has the best values of the training's own loss and of the selection metric, and at the trial's end
    `status`, `reason`, `score` and `best_epoch`. It exits with 0 if the trial could be the winner, else with 1.

    No server is needed. The run waits for one only at its end: what is not uploaded by then, `wandb sync` uploads
    later. Each W&B run has one folder. The folders of trials that a resumed run continues, and those that a killed
    driver left open, are rewritten from their first epoch, under the same id. W&B has one row a step, so a second
    upload changes nothing.

    Args:
        run: The tracked run; the summary holds the report that it can write.
        patience: Longest time that `close` waits for the upload, in seconds.
    """

    def __init__(self, run: TrackedRun, *, patience: float = UPLOAD_SECONDS) -> None:
        assert run.job.tracking.wandb is not None
        self._run, self._patience = run, patience
        self._record = run.record()
        self._files = run.path / "wandb"
        self._finished = FinishedParts(self._files)
        self._wandb = WandbRuns(run.job, run.path)
        self._open: dict[str, wandb.Run] = {}
        self._selected: WinnerSelected | None = None
        self._tests: list[HoldoutEvaluated] = []
        self._upload = Upload(self._files) if run.job.tracking.wandb.mode == "online" else None
        self._caught_up = False
        self._ends = {
            (event.trial_id, int(result["epoch"])): ended
            for event in run.events
            if isinstance(event, EpochsReported)
            for result, ended in zip(event.results, epoch_times(event.results, event.time), strict=True)
        }
        """Unix times at which the epochs of earlier drivers ended."""
        for event in run.events:
            self._note(event)

    def __call__(self, event: Event) -> None:
        """Write one event.

        Raises:
            OSError: The disk cannot be written to.
            wandb.Error: W&B did not start.
        """
        self._catch_up()
        if isinstance(event, EpochsReported):
            self._log(event)
        self._record.apply(event)
        self._note(event)
        if isinstance(event, TrialCreated):
            self._begin(event.trial_id)
        elif isinstance(event, TrialEnded):
            self._end(event.trial_id)

    def close(self) -> None:
        """End the W&B runs of trials that have not ended, and write the W&B runs that come at the end of the run.

        Raises:
            OSError, wandb.Error: See `__call__`.
        """
        began = time.monotonic()
        try:
            self._catch_up()
            for trial_id in list(self._open):
                self._finish(trial_id, exit_code=1)
            self._conclude()
        finally:
            if self._upload is not None:
                left = 0.9 * CLOSE_SECONDS - (time.monotonic() - began)
                self._upload.finish(max(0.0, min(self._patience, left)))

    def _note(self, event: Event) -> None:
        if isinstance(event, WinnerSelected):
            self._selected = event
        elif isinstance(event, HoldoutEvaluated):
            self._tests.append(event)

    def _catch_up(self) -> None:
        """Write what an earlier driver left unwritten."""
        if self._caught_up:
            return
        self._caught_up = True
        for trial in self._record.trials.values():
            if not self._finished.holds(trial.trial_id, trial.ended if trial.status.ended else None):
                self._begin(trial.trial_id)
                if trial.status.ended:
                    self._end(trial.trial_id)
        if self._upload is not None:
            for file in files_to_upload(self._files):
                self._upload.add(file)

    def _begin(self, trial_id: str) -> None:
        """Open the trial's W&B run, and log what is known of the trial."""
        trial = self._record.trials[trial_id]
        run = self._wandb.open(trial_id, "trial", trial_config(trial, self._run.job), trial.created)
        define_metrics(run, self._run.job)
        self._open[trial_id] = run
        for epoch in sorted(trial.epochs):
            ended = self._ends[trial_id, epoch]
            run.log({**numbers(trial.epochs[epoch]), "_timestamp": ended}, step=epoch, commit=True)
        self._send(run)

    def _log(self, report: EpochsReported) -> None:
        run = self._open[report.trial_id]
        new = new_results(self._record, report)  # W&B's steps cannot go back
        for result, ended in zip(new, epoch_times(new, report.time), strict=True):
            run.log({**numbers(result), "_timestamp": ended}, step=int(result["epoch"]), commit=True)

    def _end(self, trial_id: str) -> None:
        trial, best = self._record.trials[trial_id], self._record.best(trial_id)
        assert trial.ended is not None
        summary = self._open[trial_id].summary
        summary.update({"status": trial.status.value, "reason": trial.reason})
        if best is not None:
            summary.update({"score": best.score, "best_epoch": best.epoch})
        self._finish(trial_id, exit_code=0 if trial.status.selectable else 1)
        self._finished.add(trial_id, trial.ended)

    def _finish(self, trial_id: str, exit_code: int) -> None:
        run, epochs = self._open.pop(trial_id), self._record.trials[trial_id].epochs.values()
        run.summary.update(best_values(epochs, self._run.job))
        run.finish(exit_code=exit_code)

    def _conclude(self) -> None:
        """Write the summary, and the results on the test rows, unless an earlier driver has."""
        job, selected = self._run.job, self._selected
        if selected is not None and not self._finished.holds(SUMMARY, selected.time):
            write_report = self._run.write_report
            report = None if write_report is None else try_report(write_report)
            self._send(write_summary_run(self._wandb, job, self._record, selected, report))
            if (
                write_report is not None
            ):  # without it, a later driver writes the summary again, with the report
                self._finished.add(SUMMARY, selected.time)
        for test in self._tests:
            if not self._finished.holds(test_part(test), test.time):
                self._send(write_test_run(self._wandb, job, self._record, test))
                self._finished.add(test_part(test), test.time)

    def _send(self, run: wandb.Run) -> None:
        if self._upload is not None:
            self._upload.add(Path(run.settings.sync_file))
