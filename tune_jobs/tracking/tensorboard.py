"""TensorBoard: event files in `tensorboard/<trial_id>/` of the run folder."""

from collections.abc import Mapping
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event as FileEvent
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import hparams

from trainers.settings import ScoreSettings
from tune_jobs.events import EpochsReported, Event, TrialCreated, TrialEnded
from tune_jobs.folder import RunFolder
from tune_jobs.records import RunRecord
from tune_jobs.tracking.base import new_results


class TensorboardTracker:
    """Writes every epoch of every trial as scalars, and at a trial's end its configuration as hparams.

    The scalars are `train_loss`, `val_loss`, the metrics and `lr`; their steps are epochs. The hparams come
    with the trial's score, as `best/<metric>` at the epoch of the score.

    Each trial has one file, written by tensorboardX's `EventsWriter`: its `SummaryWriter` would add a thread
    and a queue between processes to each trial.

    Args:
        folder: of the run.
        score: which number judges an epoch.
    """

    def __init__(self, folder: RunFolder, score: ScoreSettings) -> None:
        self._folder = folder
        self._record = RunRecord(score)
        self._writers: dict[str, EventsWriter] = {}

    def __call__(self, event: Event) -> None:
        """Takes one event into account.

        Raises:
            OSError: the files cannot be written.
        """
        if isinstance(event, EpochsReported):
            self._write_epochs(event)
        self._record.apply(event)
        if isinstance(event, TrialCreated):
            folder = self._folder.tensorboard / event.trial_id
            folder.mkdir(parents=True, exist_ok=True)
            self._writers[event.trial_id] = EventsWriter(str(folder / "events"))
        elif isinstance(event, TrialEnded):
            self._end(event)

    def close(self) -> None:
        """Closes the files of trials whose end was not seen."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _write_epochs(self, report: EpochsReported) -> None:
        writer = self._writers[report.trial_id]
        for result in new_results(self._record, report):
            scalars = {name: value for name, value in result.items() if name not in {"epoch", "seconds"}}
            writer.write_event(_scalars(scalars, int(result["epoch"]), report.time))
        writer.flush()

    def _end(self, trial: TrialEnded) -> None:
        writer = self._writers.pop(trial.trial_id)
        best = self._record.best(trial.trial_id)
        scores = {} if best is None else {f"best/{self._record.score.metric}": best.score}
        configuration = self._record.trials[trial.trial_id].configuration
        for summary in hparams({name: _plain(value) for name, value in configuration.items()}, scores):
            writer.write_event(FileEvent(summary=summary, wall_time=trial.time))
        if best is not None:
            writer.write_event(_scalars(scores, best.epoch, trial.time))
        writer.close()


def _scalars(values: Mapping[str, float], step: int, time: float) -> FileEvent:
    summary = Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])
    return FileEvent(summary=summary, step=step, wall_time=time)


def _plain(value: Any) -> bool | int | float | str:
    """`value` as TensorBoard can show it: lists and null as text."""
    return value if isinstance(value, bool | int | float | str) else str(value)
