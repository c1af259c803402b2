"""A run that was made: its tables, its winner, and the one look at its test rows."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tune_jobs.checkpoints.remote import fetch_checkpoints
from tune_jobs.checkpoints.store import CheckpointStore
from tune_jobs.errors import DamagedRun, RunFolderError, StorageFailed
from tune_jobs.files import probe_writable, reason_of
from tune_jobs.holdout import rows as holdout
from tune_jobs.job.user_code import importable_from
from tune_jobs.record.data_info import read_info
from tune_jobs.record.events import Ending, Event, HoldoutEvaluated, HoldoutUnsealed, in_force
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal
from tune_jobs.record.reading import read_run
from tune_jobs.record.tables import epochs_table, trials_table
from tune_jobs.remote.mirror import mirrored
from tune_jobs.remote.working_copy import at_work, complete, open_folder
from tune_jobs.selection.rule import read_selection
from tune_jobs.tracking.base import TrackedRun
from tune_jobs.tracking.opening import feed_trackers
from tune_jobs.trainers.data import DataInfo
from tune_jobs.trainers.pytorch.plan import TrainingPlan, plan_training

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn


@dataclass(frozen=True)
class Winner:
    """The trial that validation chose."""

    trial_id: str
    number: int
    configuration: Mapping[str, Any]
    score: float
    """Best value of the selection metric, on validation rows: optimistic, since it was chosen for it."""
    epoch: int
    """The scoring epoch, whose weights the checkpoint keeps."""
    checkpoint: Path


def open_run(path: str | Path) -> "Run":
    """The run in the folder, or at the `s3://bucket/prefix/run`, that `path` names; it may be in progress.

    Raises:
        RunFolderError: it is no run folder.
        DamagedRun: the journal or the job is damaged.
    """
    return Run(open_folder(path))


class Run:
    """A run folder, read; made by `open_run`."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        stored = read_run(folder)
        self._events = len(stored.events)
        self.job = stored.job
        self.record = stored.record

    @property
    def path(self) -> Path:
        """The run folder."""
        return self._folder.path

    @property
    def ending(self) -> Ending | None:
        """How the run ended; None while it is in progress, or where its process was killed."""
        return self.record.ending

    @property
    def in_progress(self) -> bool:
        """Whether a process is at work on the run."""
        return at_work(self._folder)

    @property
    def address(self) -> str:
        """Where the run is kept: the run folder, or `s3://bucket/prefix/run`, of which `path` is a copy."""
        return self._folder.address

    @property
    def trials(self) -> "pd.DataFrame":
        """One row a trial, in the order of creation.

        Columns: trial_id, number, status, reason, score, best_epoch, epochs, seconds, node, config.<name>.
        """
        return _frame(trials_table(self.record))

    @property
    def epochs(self) -> "pd.DataFrame":
        """One row a trial and epoch: trial_id, epoch, train_loss, val_loss, the metrics, lr, seconds."""
        return _frame(epochs_table(self.record))

    @property
    def info(self) -> DataInfo:
        """What a model needs to know of the data, and how to encode new rows in the same way."""
        return read_info(self._folder.data_info)

    @property
    def winner_id(self) -> str | None:
        """Id of the winner; None where no trial succeeded."""
        return None if self._selected is None else str(self._selected["trial_id"])

    @cached_property
    def winner(self) -> Winner:
        """The trial that validation chose.

        Raises:
            RunFolderError: the run has not ended yet, or no trial succeeded.
            DamagedRun: what was selected cannot be read.
        """
        if self._selected is None:
            cut_off = self.ending is not None and self.ending.cut_off
            why = "no trial succeeded"
            if cut_off:
                why = f"no trial had ended before the run stopped; `tune-jobs resume {self.path}` goes on"
            raise RunFolderError(f"{self.path}: there is no winner, since {why}")
        return Winner(**{**self._selected, "checkpoint": self.path / self._selected["checkpoint"]})

    def plan(self) -> TrainingPlan:
        """The winner's training plan."""
        job = self.job
        return plan_training(job.model, job.training, job.selection, self.winner.configuration, job.seed)

    def load_model(self) -> "nn.Module":
        """The winner's model with the weights of its scoring epoch, on the CPU, in evaluation mode.

        It takes encoded rows: float32 [n, *input_shape], as `info.encoding` makes them.

        Raises:
            DamagedRun: no checkpoint has these weights any more.
        """
        from tune_jobs.trainers.pytorch.trainer import best_model  # noqa: PLC0415 (imports torch)

        with importable_from(self.job.folder):
            return best_model(self.plan(), self.info, self._winner_state())

    def test(self, *, again: bool = False, reason: str | None = None) -> dict[str, float]:
        """Opens the holdout and evaluates the winner on it, once.

        Args:
            again: look a second time; it is recorded, with `reason`.
            reason: why.

        Returns:
            `test_loss` and `test_<metric>` for each metric: means over the test rows.

        Raises:
            HoldoutOpened: the test rows were read before, and `again` was not given.
            RunInUse: the run is in progress.
            RunFolderError: the run folder cannot be written to, so that the look could not be recorded.
            DamagedRun: no checkpoint has the winner's weights any more; the test rows were not read. Or they
                cannot be read.
        """
        from tune_jobs.trainers.pytorch.trainer import best_evaluator  # noqa: PLC0415 (imports torch)

        complete(self._folder)
        winner, plan, info = self.winner, self.plan(), self.info
        with importable_from(self.job.folder):
            # All that can fail comes before the claim: a look must not be spent on an error.
            evaluate = best_evaluator(plan, info, self._winner_state())
            self._check_writable()
            with (
                Journal(self._folder.journal) as journal,
                self._results_kept(),
                mirrored(self._folder, journal),
            ):
                if len(journal.past) != self._events:
                    raise RunFolderError(
                        f"{self.path}: the run has gone on since it was opened; open it again"
                    )
                self._events += 1
                rows, number = holdout.unseal(self._folder, winner.trial_id, again=again, reason=reason)
                unsealed = HoldoutUnsealed(trial_id=winner.trial_id, reason=reason)
                journal.append(unsealed)
                evaluation = evaluate(rows)
                results = {"test_loss": evaluation.loss}
                results |= {f"test_{name}": value for name, value in evaluation.metrics.items()}
                holdout.record_results(self._folder, number, results)
                evaluated = HoldoutEvaluated(
                    number=number, trial_id=winner.trial_id, results=results, reason=reason
                )
                self._append_result(journal, [*journal.past, unsealed], evaluated)
        return results

    def _append_result(self, journal: Journal, past: Sequence[Event], evaluated: HoldoutEvaluated) -> None:
        """Adds to the journal what the ledger holds by now, for the trackers too; neither may lose the result."""
        tracked = TrackedRun(self.job, self.path, in_force(past))
        with (
            feed_trackers(journal, tracked, lost="the result of the test is not tracked"),
            suppress(StorageFailed),  # a resumption or a repair adds it from the ledger
        ):
            journal.append(evaluated)
            self._events += 1

    @contextmanager
    def _results_kept(self) -> Iterator[None]:
        """Says what was measured where an object store does not take it at the end."""
        known = len(holdout.read_ledger(self._folder))
        try:
            yield
        except StorageFailed as error:
            new = holdout.read_ledger(self._folder)[known:]
            results = next((entry.results for entry in new if entry.results), None)
            raise RunFolderError(
                f"{error}. The results: {json.dumps(results)}" if results else str(error)
            ) from error

    @cached_property
    def _selected(self) -> Mapping[str, Any] | None:
        return read_selection(self.record, self._folder)

    def _check_writable(self) -> None:
        try:
            probe_writable(self.path)
        except OSError as error:
            raise RunFolderError(
                f"{self.path}: cannot be written to ({reason_of(error, self.path)}), so that the look at the test rows "
                "could not be recorded, and they were not read; make room, or make the folder writable"
            ) from error

    def _winner_state(self) -> Mapping[str, Any]:
        """The state of the winner's training, from any of its checkpoints that has the weights of the scoring epoch."""
        from tune_jobs.trainers.errors import CheckpointError  # noqa: PLC0415
        from tune_jobs.trainers.pytorch.checkpoints import load_checkpoint  # noqa: PLC0415 (imports torch)

        winner = self.winner
        files = fetch_checkpoints(self._folder, winner.trial_id, winner.configuration)
        if files is None:
            files = CheckpointStore(self._folder.checkpoints, winner.trial_id).files()
        reasons = []
        for path in dict.fromkeys([winner.checkpoint, *files]):
            try:
                state = load_checkpoint(path)
            except CheckpointError as error:
                reasons.append(str(error).partition(";")[0])
                continue
            if state.get("best") is not None and state["best"]["epoch"] == winner.epoch:
                return state
            reasons.append(f"{path} has not the weights of epoch {winner.epoch}")
        raise DamagedRun(
            f"{self.path}: the winner's weights cannot be loaded ({'; '.join(reasons)}). Restore a checkpoint from a "
            "copy, or train the configuration again with the command that "
            f"`tune-jobs show {self.path} --trial {winner.trial_id}` prints"
        )


def _frame(table: pa.Table) -> "pd.DataFrame":
    frame: pd.DataFrame = table.to_pandas()
    return frame
