"""Write the trials of a run as an Optuna study, for optuna-dashboard and Optuna's plots.

The study follows the journal as a guest: nothing in the run depends on it. A trial is running while a worker has
it, and waiting at a rung or for a worker. It ends complete at full length, pruned with its steps if it was stopped,
and failed if it failed or was interrupted. If a run is resumed, the study is rewritten from the events that are in
force, and the trials that continue are waiting or running again.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.trial import TrialState, create_trial

from tune_jobs.files import replacing
from tune_jobs.record.codes import Status
from tune_jobs.record.curve import EpochRow, TrialCurve
from tune_jobs.record.events import (
    EpochsReported,
    Event,
    RunResumed,
    TrialCreated,
    TrialEnded,
    TrialPaused,
    TrialStarted,
    WorkerLost,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.search.optuna_space import to_optuna
from tune_jobs.search_spaces import SearchSpace
from tune_jobs.trainers.settings import ScoreSettings

STUDY_NAME = "tune-jobs"
"""Name of the study in its file."""
_STATES = {
    Status.COMPLETED: TrialState.COMPLETE,
    Status.STOPPED_EARLY: TrialState.PRUNED,
    Status.FAILED: TrialState.FAIL,
    Status.INTERRUPTED: TrialState.FAIL,
}


def study_storage(folder: RunFolder) -> BaseStorage:
    """Return the storage in the study's journal file, which optuna-dashboard opens."""
    return JournalStorage(JournalFileBackend(str(folder.study)))


class _StudyFile(BaseJournalBackend):
    """The study's file, written as a whole: Optuna would sync the disk after each entry of the past.

    Args:
        path: Path of the file, which stays unchanged until `write`.
    """

    def __init__(self, path: Path) -> None:
        self.time: float | None = None
        """Unix time of the entries that are appended; None means now."""
        self._path = path
        self._entries: list[dict[str, Any]] = []
        self._begun: dict[int, str] = {}
        self._file: JournalFileBackend | None = None

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """See `BaseJournalBackend`."""
        if self._file is None:
            return self._entries[log_number_from:]
        return self._file.read_logs(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """See `BaseJournalBackend`."""
        entries = [self._set_dates(entry) for entry in logs]
        if self._file is None:
            self._entries += entries
        else:
            self._file.append_logs(entries)

    def write(self) -> None:
        """Replace the file by what was appended; after that, Optuna itself appends to it."""
        for lock in self._path.parent.glob(f"{self._path.name}.lock*"):
            lock.unlink(
                missing_ok=True
            )  # a process that died left it: Optuna would wait half a minute for it
        with replacing(self._path) as file:
            for entry in self._entries:
                # Only the writing process needs its own id. Without it, the same events give the same file.
                text = json.dumps({**entry, "worker_id": STUDY_NAME}, separators=(",", ":"))
                file.write(text.encode() + b"\n")
        self._file = JournalFileBackend(str(self._path))
        self._entries.clear()
        self.time = None

    def _set_dates(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Return `entry` with the time of its event; a trial begins when a worker first starts it."""
        if "state" not in entry or "trial_id" not in entry:
            return entry  # it changes no trial's state
        dates: dict[str, Any] = {
            key: entry[key] for key in ("datetime_start", "datetime_complete") if key in entry
        }
        if self.time is not None:
            now = datetime.fromtimestamp(self.time, UTC).isoformat(timespec="microseconds")
            dates = dict.fromkeys(dates, now)
        if "datetime_start" in dates:
            dates["datetime_start"] = self._begun.setdefault(entry["trial_id"], dates["datetime_start"])
        return {**entry, **dates}


@dataclass
class _Mirrored:
    storage_id: int
    curve: TrialCurve
    state: TrialState = TrialState.WAITING
    reported: int = 0
    """The last epoch that is a step of the trial in the study."""


class StudyMirror:
    """Writes the events of a run into a new study: a tracker (see `tracking.base`).

    `StudyMirror.on` makes the mirror of a run folder.

    Args:
        storage: The storage of the study, which is still empty.
        space: Search space of the run.
        score: The selection metric and its direction, which the study shows.
        epochs: Epochs at which trials are compared. A trial's steps are its best scores up to these epochs and to its
            last.
    """

    def __init__(
        self, storage: BaseStorage, space: SearchSpace, score: ScoreSettings, epochs: Sequence[int]
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._storage = storage
        self._space = space
        self._score = score
        self._epochs = frozenset(epochs)
        self._study = optuna.create_study(
            study_name=STUDY_NAME,
            storage=storage,
            direction="minimize" if score.mode == "min" else "maximize",
        )
        self._study_id = storage.get_study_id_from_name(STUDY_NAME)
        # As in `Study.set_metric_names`, which warns that it may change.
        storage.set_study_system_attr(self._study_id, "study:metric_names", [score.metric])
        self._trials: dict[str, _Mirrored] = {}

    @classmethod
    def on(
        cls,
        folder: RunFolder,
        space: SearchSpace,
        score: ScoreSettings,
        epochs: Sequence[int],
        events: Iterable[Event] = (),
    ) -> Self:
        """Return the mirror of the run in `folder`; its study is rewritten as a whole and then appended to.

        Args:
            folder: Folder of the run; no other process writes to it.
            space: Search space of the run.
            score: The selection metric and its direction.
            epochs: Epochs at which trials are compared.
            events: Events of the run so far, without those that were taken back (`in_force`).
        """
        backend = _StudyFile(folder.study)
        mirror = cls(JournalStorage(backend), space, score, epochs)
        for event in events:
            backend.time = event.time
            mirror(event)
        backend.write()
        return mirror

    def __call__(self, event: Event) -> None:
        """Write one event."""
        match event:
            case TrialCreated():
                self._create(event)
            case TrialStarted():
                self._set_state(self._trials[event.trial_id], TrialState.RUNNING)
            case TrialPaused() | WorkerLost():
                self._set_state(self._trials[event.trial_id], TrialState.WAITING)
            case RunResumed():  # the workers of the driver before are gone
                for trial in self._trials.values():
                    self._set_state(trial, TrialState.WAITING)
            case EpochsReported():
                for result in event.results:
                    self._add_epoch(event.trial_id, result)
            case TrialEnded():
                self._end(event)
            case _:
                return

    def close(self) -> None:
        """Do nothing: each event is written at once."""

    def _create(self, event: TrialCreated) -> None:
        parameters, distributions = to_optuna(self._space, event.configuration)
        trial = create_trial(
            state=TrialState.WAITING,
            params=parameters,
            distributions=distributions,
            user_attrs={"trial_id": event.trial_id},
        )
        self._study.add_trial(trial)
        self._trials[event.trial_id] = _Mirrored(
            self._storage.get_trial_id_from_study_id_trial_number(self._study_id, len(self._trials)),
            TrialCurve(self._score),
        )

    def _set_state(self, trial: _Mirrored, state: TrialState, value: float | None = None) -> None:
        """Set the state of `trial`, unless it has ended or has that state."""
        if trial.state is not state and not trial.state.is_finished():
            trial.state = state
            self._storage.set_trial_state_values(trial.storage_id, state, None if value is None else [value])

    def _add_epoch(self, trial_id: str, row: EpochRow) -> None:
        trial = self._trials[trial_id]
        if trial.curve.add(row) and trial.curve.last_epoch in self._epochs:
            self._report(trial)

    def _report(self, trial: _Mirrored) -> None:
        best, epoch = trial.curve.best, trial.curve.last_epoch
        if best is not None and epoch > trial.reported:
            trial.reported = epoch
            self._storage.set_trial_intermediate_value(trial.storage_id, epoch, best.score)

    def _end(self, event: TrialEnded) -> None:
        trial = self._trials[event.trial_id]
        state = _STATES[event.status]
        best = trial.curve.best
        if best is None:
            state = TrialState.FAIL
        if state is not TrialState.FAIL:
            self._report(trial)
        value = None if state is TrialState.FAIL or best is None else best.score
        self._set_state(trial, state, value)
