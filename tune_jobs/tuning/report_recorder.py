"""Write the reports of trials to the journal."""

from collections.abc import Mapping
from typing import Any

from tune_jobs.errors import LaterVersion, TuneJobsError
from tune_jobs.record.events import CheckpointDamaged, CheckpointWritten, EpochsReported
from tune_jobs.record.live import LiveRun
from tune_jobs.record.storage_failures import storage_error
from tune_jobs.worker.reporting import Report


class ReportRecorder:
    """Writes each report to the journal once, for the scheduler and for the callback.

    Ray Tune passes a result to the scheduler before it passes it to callbacks, and some results only to callbacks.
    Decisions must follow from the journal, so the scheduler writes the report before it decides.

    Args:
        run: The run whose journal gets the reports.
    """

    def __init__(self, run: LiveRun) -> None:
        self.failure: TuneJobsError | None = None
        """The reason why a worker could not write a checkpoint, or may not read one; None without one."""
        self._run = run
        self._folder = run.folder
        self._last: dict[str, Report] = {}

    def write(self, trial_id: str, result: Mapping[str, Any]) -> Report | None:
        """Write the report in `result`, unless it is written, and return it; None if there is none.

        Epochs that the record has are left out: a trial that continues in another worker reports all of its epochs.

        Raises:
            StorageFailed: The journal cannot be written to, or a worker could not write a checkpoint: without it
                the trial would lose epochs, or fail without its own fault.
            LaterVersion: A later version of tune-jobs wrote the checkpoint of the trial.
        """
        report = Report.of_result(result)
        if report is None or report is self._last.get(trial_id):
            return report
        self._last[trial_id] = report
        for name, reason in report.damaged:
            self._run.append(
                CheckpointDamaged(trial_id=trial_id, file=self._path_in_run(name), reason=reason)
            )
        known = self._run.record.trials[trial_id]
        new = [epoch for epoch in report.results if known.epochs.get(int(epoch["epoch"])) != epoch]
        if new:
            worker = f"{result['hostname']}:{result['pid']}"
            self._run.append(EpochsReported(trial_id=trial_id, results=new, worker=worker))
        file = None if report.checkpoint is None else self._path_in_run(report.checkpoint)
        if file is not None and file != known.checkpoint:
            self._run.append(CheckpointWritten(trial_id=trial_id, epoch=report.epoch, file=file))
        if report.unwritten is not None:
            name, why = report.unwritten
            reason = f"{why}, on {result['hostname']}"
            self.failure = storage_error(self._folder.checkpoints / name, reason, self._folder.path)
            raise self.failure
        if report.refused:
            self.failure = LaterVersion(f"{self._folder.address}: {report.refused}")
            raise self.failure
        return report

    def _path_in_run(self, checkpoint: str) -> str:
        return self._folder.relative(self._folder.checkpoints / checkpoint)
