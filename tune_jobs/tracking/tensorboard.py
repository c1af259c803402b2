"""TensorBoard: event files in `tensorboard/<trial_id>/` of the run folder, and the columns of its HParams tab."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event as FileEvent
from tensorboardX.proto.summary_pb2 import Summary

from tune_jobs.record.curve import numbers
from tune_jobs.record.events import EpochsReported, Event, HoldoutEvaluated, TrialCreated, TrialEnded
from tune_jobs.tracking.base import TrackedRun, new_results
from tune_jobs.tracking.finished_parts import FinishedParts
from tune_jobs.tracking.tensorboard_hparams import experiment, session_end, session_start

_NO_SCALARS: Final = frozenset({"epoch", "seconds"})


class TensorboardTracker:
    """Writes every epoch of every trial as scalars, and its configuration and its end as hparams.

    The scalars are the metrics that the training measures; their steps are epochs. At its end a trial
    shows its score, as `best/<metric>` at the epoch of the score. The winner's results on the test rows
    are in another folder, `test-<number>`.

    Each trial has one file. The files of trials that a resumed run continues, and those that a killed driver left
    open, are rewritten from their first epoch. tensorboardX's `EventsWriter` writes them: its `SummaryWriter` would
    add a thread and a queue between processes to each trial.

    Args:
        run: The tracked run.
    """

    def __init__(self, run: TrackedRun) -> None:
        self._job = run.job
        self._record = run.record()
        self._files = run.path / "tensorboard"
        self._finished = FinishedParts(self._files)
        self._writers: dict[str, EventsWriter] = {}
        self._times = {
            (event.trial_id, int(result["epoch"])): event.time
            for event in run.events
            if isinstance(event, EpochsReported)
            for result in event.results
        }
        """Unix times at which the epochs of earlier drivers were reported."""
        self._tests = [event for event in run.events if isinstance(event, HoldoutEvaluated)]
        self._caught_up = False

    def __call__(self, event: Event) -> None:
        """Write one event.

        Raises:
            OSError: The files cannot be written.
        """
        self._catch_up()
        if isinstance(event, EpochsReported):
            self._write_epochs(event)
        self._record.apply(event)
        if isinstance(event, TrialCreated):
            self._begin(event.trial_id)
        elif isinstance(event, TrialEnded):
            self._end(event.trial_id)
        elif isinstance(event, HoldoutEvaluated):
            self._write_test(event)

    def close(self) -> None:
        """Close the files of trials that have not ended.

        Raises:
            OSError: The files cannot be written.
        """
        try:
            self._catch_up()
        finally:
            for writer in self._writers.values():
                writer.close()
            self._writers.clear()

    def _catch_up(self) -> None:
        """Write what an earlier driver left unwritten."""
        if self._caught_up:
            return
        self._caught_up = True
        self._write_experiment()
        for trial in self._record.trials.values():
            if not self._finished.holds(trial.trial_id, trial.ended if trial.status.ended else None):
                self._begin(trial.trial_id)
                if trial.status.ended:
                    self._end(trial.trial_id)
        for test in self._tests:
            self._write_test(test)

    def _write_experiment(self) -> None:
        """Write the columns of the HParams tab, which all trials share."""
        for file in self._files.glob("events*"):
            file.unlink()
        with_columns = experiment(self._job)
        writer = self._new_writer(self._files)
        writer.write_event(FileEvent(summary=with_columns))
        writer.close()

    def _begin(self, trial_id: str) -> None:
        """Begin the trial's file with what is known of the trial."""
        trial, folder = self._record.trials[trial_id], self._files / trial_id
        if folder.exists():
            shutil.rmtree(folder)
        writer = self._writers[trial_id] = self._new_writer(folder)
        start = session_start(self._job, trial.configuration, trial.created)
        writer.write_event(FileEvent(summary=start, wall_time=trial.created))
        for epoch in sorted(trial.epochs):
            writer.write_event(_epoch(trial.epochs[epoch], self._times[trial_id, epoch]))
        writer.flush()

    def _write_epochs(self, report: EpochsReported) -> None:
        writer = self._writers[report.trial_id]
        for result in new_results(self._record, report):
            writer.write_event(_epoch(result, report.time))
        writer.flush()

    def _end(self, trial_id: str) -> None:
        trial, best = self._record.trials[trial_id], self._record.best(trial_id)
        assert trial.ended is not None
        writer = self._writers.pop(trial_id)
        if best is not None:
            score = {f"best/{self._record.score.metric}": best.score}
            writer.write_event(_scalars(score, best.epoch, trial.ended))
        end = session_end(succeeded=trial.status.selectable, time=trial.ended)
        writer.write_event(FileEvent(summary=end, wall_time=trial.ended))
        writer.close()
        self._finished.add(trial_id, trial.ended)

    def _write_test(self, test: HoldoutEvaluated) -> None:
        part = f"test-{test.number}"
        if self._finished.holds(part, test.time):
            return
        folder, best = self._files / part, self._record.best(test.trial_id)
        if folder.exists():
            shutil.rmtree(folder)
        writer = self._new_writer(folder)
        writer.write_event(_scalars(test.results, best.epoch if best else 0, test.time))
        writer.close()
        self._finished.add(part, test.time)

    def _new_writer(self, folder: Path) -> EventsWriter:
        folder.mkdir(parents=True, exist_ok=True)
        return EventsWriter(str(folder / "events"))


def _epoch(result: Mapping[str, Any], time: float) -> FileEvent:
    return _scalars(dict(_select_scalars(result)), int(result["epoch"]), time)


def _select_scalars(result: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    return ((name, value) for name, value in numbers(result).items() if name not in _NO_SCALARS)


def _scalars(values: Mapping[str, float], step: int, time: float) -> FileEvent:
    summary = Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])
    return FileEvent(summary=summary, step=step, wall_time=time)
