"""TensorBoard: event files in `tensorboard/<trial_id>/` of the run folder."""

from collections.abc import Iterable, Mapping
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

    Each trial has one file, and a further one where it goes on in a resumed run; TensorBoard shows them as one.
    They are written by tensorboardX's `EventsWriter`: its `SummaryWriter` would add a thread and a queue between
    processes to each trial.

    Args:
        folder: of the run.
        score: which number judges an epoch.
        events: of the run so far, which have been written before.
    """

    def __init__(self, folder: RunFolder, score: ScoreSettings, events: Iterable[Event] = ()) -> None:
        self._folder = folder
        self._record = RunRecord.replay(events, score)
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
            self._writer(event.trial_id)
        elif isinstance(event, TrialEnded):
            self._end(event)

    def close(self) -> None:
        """Closes the files of trials whose end was not seen."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _writer(self, trial_id: str) -> EventsWriter:
        """Of the trial's file, which is begun where this process has none yet."""
        if trial_id not in self._writers:
            folder = self._folder.tensorboard / trial_id
            folder.mkdir(parents=True, exist_ok=True)
            # The name has the time in whole seconds: it alone might be that of a file from before.
            suffix = f".{len(list(folder.iterdir()))}"
            self._writers[trial_id] = EventsWriter(str(folder / "events"), suffix)
        return self._writers[trial_id]

    def _write_epochs(self, report: EpochsReported) -> None:
        writer = self._writer(report.trial_id)
        for result in new_results(self._record, report):
            scalars = {name: value for name, value in result.items() if name not in {"epoch", "seconds"}}
            writer.write_event(_scalars(scalars, int(result["epoch"]), report.time))
        writer.flush()

    def _end(self, trial: TrialEnded) -> None:
        writer = self._writer(trial.trial_id)
        best = self._record.best(trial.trial_id)
        scores = {} if best is None else {f"best/{self._record.score.metric}": best.score}
        configuration = self._record.trials[trial.trial_id].configuration
        for summary in hparams({name: _plain(value) for name, value in configuration.items()}, scores):
            writer.write_event(FileEvent(summary=summary, wall_time=trial.time))
        if best is not None:
            writer.write_event(_scalars(scores, best.epoch, trial.time))
        writer.close()
        del self._writers[trial.trial_id]


def _scalars(values: Mapping[str, float], step: int, time: float) -> FileEvent:
    summary = Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])
    return FileEvent(summary=summary, step=step, wall_time=time)


def _plain(value: Any) -> bool | int | float | str:
    """`value` as TensorBoard can show it: lists and null as text."""
    return value if isinstance(value, bool | int | float | str) else str(value)
