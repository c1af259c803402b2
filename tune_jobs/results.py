"""A stored run: its tables, its winner, and the one evaluation on its test rows."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import pyarrow as pa

from tune_jobs.checkpoints.opening import checkpoint_files, read_best
from tune_jobs.checkpoints.trial_checkpoints import Owner
from tune_jobs.errors import DamagedRun, RunFolderError
from tune_jobs.holdout.ledger import LedgerEntry, read_openings
from tune_jobs.holdout.testing import evaluate_on_holdout, record_own_test
from tune_jobs.job.user_code import importable_from
from tune_jobs.record.codes import Ending
from tune_jobs.record.data_info import read_info
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import read_journal
from tune_jobs.record.reading import read_run
from tune_jobs.record.run_code import check_code
from tune_jobs.record.tables import epochs_table, trials_table
from tune_jobs.remote.working_copy import at_work, complete, open_folder
from tune_jobs.selection.rule import read_selection
from tune_jobs.text import quoted
from tune_jobs.trainers.data import DataInfo, Rows
from tune_jobs.trainers.errors import CheckpointError
from tune_jobs.trainers.interface import Evaluation, TestsItself, TrainingRequest

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")


@dataclass(frozen=True)
class Winner:
    """The trial that the validation rows chose."""

    trial_id: str
    number: int
    configuration: Mapping[str, Any]
    score: float
    """Best value of the selection metric on validation rows. It is optimistic, because it chose the winner."""
    epoch: int
    """The scoring epoch, whose weights the checkpoint keeps."""
    checkpoint: Path | None
    """None if the training saved no state."""


def open_run(path: str | Path) -> "Run":
    """Open the run in the folder or at the `s3://bucket/prefix/run` that `path` names; it may be in progress.

    Raises:
        RunFolderError: The path is not a run folder.
        DamagedRun: The journal or the job is damaged.
    """
    return Run(open_folder(path))


class Run:
    """A run as read from its folder, by `open_run`."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._stored = read_run(folder)
        self.job = self._stored.job
        self.record = self._stored.record

    @property
    def path(self) -> Path:
        """Return the run folder."""
        return self._folder.path

    @property
    def ending(self) -> Ending | None:
        """Return how the run ended; None while it is in progress, or if its process was killed."""
        return self.record.ending

    @property
    def in_progress(self) -> bool:
        """Return whether a process writes to the run."""
        return at_work(self._folder)

    @property
    def address(self) -> str:
        """Return the place of the run: the run folder, or the `s3://bucket/prefix/run` of which `path` is a copy."""
        return self._folder.address

    @property
    def trials(self) -> "pd.DataFrame":
        """Return one row per trial, in the order of creation.

        Columns: trial_id, number, status, reason, score, best_epoch, epochs, seconds, node, config.<name>.
        """
        return _frame(trials_table(self.record))

    @property
    def epochs(self) -> "pd.DataFrame":
        """Return one row per trial and epoch: trial_id, epoch, the kind's losses and metrics, seconds."""
        return _frame(epochs_table(self.record))

    @property
    def info(self) -> DataInfo:
        """Return the shapes and classes of the data, and the encoding for new rows.

        Raises:
            RunFolderError: The trainings read their own data.
            DamagedRun: The file that holds them is missing or damaged.
        """
        if not self.job.seals_test:
            raise RunFolderError(
                f"{self.path}: the run has no encoding of rows, because its trainings read their own data"
            )
        started = self.record.started
        return read_info(self._folder.data_info, started.fingerprints.get("encoding") if started else None)

    @property
    def openings(self) -> Sequence[LedgerEntry]:
        """Return all openings of the holdout, with their results.

        Raises:
            DamagedRun: The ledger is damaged, or contradicts the journal.
        """
        return read_openings(self._folder, self._stored.events)

    @property
    def winner_id(self) -> str | None:
        """Return the id of the winner; None if no trial succeeded."""
        return None if self._selected is None else str(self._selected["trial_id"])

    @cached_property
    def winner(self) -> Winner:
        """Return the trial that validation chose.

        Raises:
            RunFolderError: The run has not ended yet, no trial succeeded, or the run was continued after it was opened.
            DamagedRun: The selection cannot be read.
        """
        if self._selected is None:
            cut_off = self.ending is not None and self.ending.cut_off
            why = "no trial succeeded"
            if cut_off:
                why = f"no trial had ended before the run stopped; continue with `tune-jobs resume {quoted(self.path)}`"
            raise RunFolderError(f"{self.path}: there is no winner, because {why}")
        checkpoint = self._selected["checkpoint"]
        return Winner(**{**self._selected, "checkpoint": checkpoint and self.path / checkpoint})

    def request(self) -> TrainingRequest:
        """Return the request for the winner's training."""
        job = self.job
        return TrainingRequest(
            configuration=self.winner.configuration,
            seed=job.seed,
            max_epochs=job.max_epochs,
            score=job.selection,
            folder=job.folder,
            files=self._folder.files / self.winner.trial_id,
        )

    def load_model(self) -> Any:
        """Return the winner's model with the weights of its scoring epoch, in the form of its kind of training.

        For the PyTorch kind it is an `nn.Module` on the CPU, in evaluation mode. It takes encoded rows: float32
        [n, *input_shape], as `info.encoding` makes them.

        Raises:
            RunFolderError: The user's code has changed since the run began.
            DamagedRun: No checkpoint has these weights any more.
        """
        kind, request = self.job.kind, self.request()
        info = self.info if self.job.seals_test else None
        with importable_from(self._code_folder()):
            return self._read_winner(lambda state: kind.load_model(request, state, info))

    def test(self, *, again: bool = False, reason: str | None = None) -> dict[str, float]:
        """Open the holdout and evaluate the winner on it, once.

        Args:
            again: Open it another time; this is recorded with `reason`.
            reason: The reason for opening it again.

        Returns:
            `test_loss` and `test_<metric>` for each metric: means over the test rows.

        Raises:
            HoldoutOpened: The test rows were read before, and `again` was not given.
            RunInUse: The run is in progress.
            RunFolderError: The run has no test rows, or the user's code has changed since the run began, or its folder
                cannot be written to, so the opening cannot be recorded.
            DamagedRun: No checkpoint has the winner's weights any more, and the test rows were not read; or the test
                rows cannot be read.
        """
        if not self.job.seals_test and not self.job.tests_itself:
            raise RunFolderError(
                f"{self.path}: the run has no test rows, because its trainings read their own data. Load the winner "
                "with `load_model`, and evaluate it on rows that no training and no decision has used"
            )
        complete(self._folder)
        winner = self.winner
        if self.job.tests_itself:
            return record_own_test(self._stored, winner.trial_id, self._own_test, again=again, reason=reason)
        with importable_from(self._code_folder()):
            return evaluate_on_holdout(
                self._stored, winner.trial_id, self._evaluator(), again=again, reason=reason
            )

    @cached_property
    def _selected(self) -> Mapping[str, Any] | None:
        try:
            return read_selection(self.record, self._folder)
        except DamagedRun:  # or the file is that of a later state of the run
            self._stored.refuse_if_continued(read_journal(self._folder.journal))
            raise

    def _evaluator(self) -> Callable[[Rows], Evaluation]:
        """Return a function that evaluates the winner on encoded rows. Errors that need no rows are raised here."""
        kind, request, info = self.job.kind, self.request(), self.info
        return self._read_winner(lambda state: kind.evaluator(request, state, info))

    def _code_folder(self) -> Path:
        """Return the folder of the code that the winner was trained with."""
        return check_code(self._folder, self._stored.events, self.job)

    def _own_test(self) -> AbstractContextManager[Callable[[], Evaluation]]:
        """Return a context in which the winner's own code waits before its test."""
        kind, request = self.job.kind, replace(self.request(), folder=self._code_folder())
        assert isinstance(kind, TestsItself)
        return self._read_winner(lambda state: kind.test(request, state))

    def _owner(self, winner: Winner) -> Owner:
        started = self.record.started
        return Owner(
            trial_id=winner.trial_id,
            configuration=winner.configuration,
            kind=self.job.kind.name,
            run=started.run_id if started else "",
        )

    def _read_winner(self, read: Callable[[BinaryIO], T]) -> T:
        """Return the result of `read` on the winner's saved state, from any sound checkpoint."""
        winner = self.winner
        files = checkpoint_files(self._folder, winner.trial_id, winner.configuration)
        if winner.checkpoint is None:
            raise RunFolderError(
                f"{self.path}: the winner can neither be loaded nor tested, because its training saved no state; let "
                "it save one, such as by trial.epochs(n, model=model), and start a new run"
            )
        try:
            return read_best(
                [winner.checkpoint, *files], self._owner(winner), winner.epoch, self.job.selection, read
            )
        except CheckpointError as error:
            raise DamagedRun(
                f"{self.path}: the winner's weights cannot be loaded ({error}). Restore a checkpoint from a "
                "copy, or train the configuration again with the command that "
                f"`tune-jobs show {quoted(self.path)} --trial {winner.trial_id}` prints"
            ) from error


def _frame(table: pa.Table) -> "pd.DataFrame":
    frame: pd.DataFrame = table.to_pandas()
    return frame
