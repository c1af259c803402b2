"""The one interface for kinds of training.

The sections of a job choose its kind of training (see `tune_jobs.trainers.kinds`). The driver asks the kind for
names, checks and data. Workers ask it for trainings:

    with kind.start(request, data) as training:
        training.load(file)                      # only to continue
        for result in training.epochs():
            training.save(file)                  # after any epoch
        print(training.stop_reason)

Everything is pulled: a training computes an epoch when the next one is asked for, and nothing in between. So a
scheduler can hold a training at any epoch, and a host can take turns among several.

This module imports neither torch nor any other framework of training.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, Self, runtime_checkable

from tune_jobs.trainers.settings import ScoreSettings

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tune_jobs.trainers.data import DataInfo, PreparedData, Rows, TrainingData

DIVERGED = "diverged"
"""Key of `EpochResult.to_mapping` that is present, and true, only if the training diverged in that epoch."""
RESERVED_COLUMNS = frozenset({"trial_id", "epoch", "seconds", DIVERGED})
"""Names that no metric can have: columns of the table of epochs, and the other keys of `EpochResult.to_mapping`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochResult:
    """One epoch of a training."""

    epoch: int
    """Number of the epoch, from 1."""
    metrics: Mapping[str, float]
    """Numbers by name, in the order of the tables' columns. The selection metric is among them."""
    seconds: float
    """Wall-clock time of the epoch: training and evaluation."""
    diverged: bool = False
    """The training cannot continue, because its numbers are no longer finite. It is never derived from the
    names of metrics."""

    def __post_init__(self) -> None:
        if taken := RESERVED_COLUMNS & self.metrics.keys():
            raise ValueError(
                f"a metric is called {min(taken)!r}; that is a column of every table of epochs: give it another name"
            )

    def to_mapping(self) -> dict[str, Any]:
        """Return a flat row: epoch, the metrics in order, seconds, and `diverged` only if it is true."""
        row = {"epoch": self.epoch, **self.metrics, "seconds": self.seconds}
        return {**row, DIVERGED: True} if self.diverged else row

    @classmethod
    def from_mapping(cls, row: Mapping[str, Any]) -> Self:
        """Return the result that `to_mapping` turned into `row`."""
        return cls(
            epoch=int(row["epoch"]),
            metrics={name: value for name, value in row.items() if name not in RESERVED_COLUMNS},
            seconds=row["seconds"],
            diverged=bool(row.get(DIVERGED, False)),
        )


class Seal(StrEnum):
    """How well the test rows are sealed until the winner is tested: a code, with a sentence for people."""

    ROWS = "rows"
    STAGE = "stage"
    NONE = "none"

    @property
    def sentence(self) -> str:
        """Return the level in words. No decision depends on it."""
        return SEAL_SENTENCES[self]


SEAL_SENTENCES = {
    Seal.ROWS: "tune-jobs keeps the test rows; no training can read them",
    Seal.STAGE: "a trial ends with its last epoch, before the program's own test; the program can read its test rows",
    Seal.NONE: "the trainings read their own data; there are no sealed test rows",
}
"""Sentences by level, only for people."""


class StopReason(StrEnum):
    """The reason why a training ended by itself: a code that is stored and compared, with a sentence for people."""

    MAX_EPOCHS = "max_epochs"
    PATIENCE = "patience"
    THRESHOLD = "threshold"
    USER = "user"

    @property
    def sentence(self) -> str:
        """Return the reason in words. No decision depends on it."""
        return STOP_SENTENCES[self]


STOP_SENTENCES = {
    StopReason.MAX_EPOCHS: "all epochs were trained",
    StopReason.PATIENCE: "stopped early: the score did not improve for as many epochs as patience allows",
    StopReason.THRESHOLD: "stopped early: the score is as good as the threshold",
    StopReason.USER: "stopped early: the training code asked for it",
}
"""Sentences by reason, only for people. They have neither a capital nor a period, because they are parts of lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRank:
    """The place of this process among the workers that train one model together."""

    rank: int = 0
    """Number of this worker, from 0. Worker 0 reports, saves and loads; the others follow it."""
    workers: int = 1
    """Number of all workers."""
    device: str | None = None
    """The GPU of this worker, such as `cuda:0`; None computes on the CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRequest:
    """Everything that determines one training, apart from its kind and its data."""

    configuration: Mapping[str, Any]
    """Values by parameter name, as a search proposes them."""
    seed: int
    """Seed of all random numbers of the training."""
    max_epochs: int
    """Number of epochs of the whole training; schedules depend on it. A training that ends earlier says why."""
    score: ScoreSettings
    """The selection metric. The training keeps the state that evaluating its best epoch needs."""
    threads: int | None = None
    """CPU threads to compute with; None leaves the process as it is."""
    worker: WorkerRank = field(default_factory=WorkerRank)
    """The place of this process among the workers of the training."""
    folder: Path = Path()
    """The folder of the job, from which relative paths start."""
    files: Path | None = None
    """A folder for the training's own files, which may not exist yet; None if nothing keeps them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Metrics of the best epoch of a training on some rows."""

    metrics: Mapping[str, float]
    """Numbers by name without a prefix, such as `loss` and `accuracy`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Abilities of the trainings of one kind. The table in docs/trainers.md shows them."""

    resumes: bool
    """A training continues from its saved state."""
    exact: bool
    """The same request and data give the same curve, bit for bit, straight through or saved and loaded."""
    seals_test: bool
    """`prepare` returns rows. tune-jobs keeps the test rows; no training can read them."""
    data_parallel: bool
    """Several workers can train one model together. They are processes of one group of `torch.distributed`."""
    vectorises: bool
    """Several seeds or folds of one configuration can be trained at once in one model."""
    inherits: bool
    """A training can continue from the state of another configuration."""
    tests_itself: bool = False
    """The kind is a `TestsItself`: the winner's training code evaluates its own test set."""


class Training(Protocol):
    """One training in progress, made by `TrainerKind.start`.

    It is a context: leaving it ends what the training started, whether it finished or not, and leaves neither a
    process nor a thread.
    """

    @property
    def epoch(self) -> int:
        """Return the number of epochs trained so far, including those before a loaded state."""

    @property
    def stop_reason(self) -> StopReason | None:
        """Return why the training ended by itself; None while epochs are left, and if it diverged."""

    def epochs(self) -> Generator[EpochResult, None, None]:
        """Train from the current epoch to the end, and yield each epoch's result when it is over.

        It is called once. Closing it ends the training, which then trains no further epoch. A training that has
        ended already yields nothing. Results of kinds that save rarely may repeat epochs that were yielded
        before the state was loaded; the same epoch has the same numbers then.

        Raises:
            Diverged: An epoch is asked for after a result that is `diverged`.
            Exception: The training failed. This is the error that the training code raised.
        """

    def save(self, file: BinaryIO) -> bool:
        """Write the whole state after the last epoch, all that `load` and the evaluator need, to the end of `file`.

        Returns:
            False if there is nothing to continue from; `file` may then hold anything.
        """

    def load(self, file: BinaryIO, *, inherit: bool = False) -> None:
        """Continue from a saved state; called before `epochs`.

        Args:
            file: The bytes that `save` wrote, from the first to the last. It can seek.
            inherit: The state may be of another configuration. The training takes over what was learnt and
                the epoch, but keeps its own configuration.

        Raises:
            CheckpointError: The state is damaged, of another training, or of no training of this kind.
        """

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


class TrainerKind(Protocol):
    """The kind of training of a job: prepares the data, starts trainings and evaluates them.

    It is created with the job's sections that belong to it, as keyword arguments by their names. It is a small
    frozen value that can be pickled, and is sent to the workers. Only `start`, `evaluator` and `load_model` may
    import a framework of training.
    """

    @property
    def name(self) -> str:
        """Return the name under which `tune_jobs.trainers.kinds` registers the kind."""

    @property
    def capabilities(self) -> Capabilities:
        """Return the abilities of the kind's trainings."""

    @property
    def max_epochs(self) -> int:
        """Return the number of epochs of a full training."""

    # In the driver, before anything starts

    def prepare(self, base: Path) -> "PreparedData | None":
        """Read, check, divide and encode the rows.

        Return None if the trainings read their own data. Then there are no sealed test rows:
        `capabilities.seals_test` is false, and `evaluator` is never called.

        Args:
            base: Folder of the job file. Relative paths start here.

        Raises:
            TrainerError: The data cannot be used as the job asks.
        """

    # In a worker, and for the winner

    def start(self, request: TrainingRequest, data: "TrainingData | None") -> Training:
        """Return a training before its first epoch.

        Args:
            request: The configuration to train, with its seed and length.
            data: Training and validation rows, as `prepare` made them; None if it returned None. They are never
                written to.

        Raises:
            TrainerError: The request and the data do not go together.
        """

    def evaluator(
        self, request: TrainingRequest, file: BinaryIO, info: "DataInfo | None"
    ) -> "Callable[[Rows], Evaluation]":
        """Return a function that evaluates the best epoch of a saved training on encoded rows.

        Everything that can fail without the rows fails here, before they are read. The file may be closed afterwards.

        Args:
            request: The request of the saved training.
            file: The bytes that `Training.save` wrote, from the first to the last. It can seek.
            info: The encoding of the rows; None if `prepare` returned None.

        Raises:
            CheckpointError: The state is damaged, of another training, or has no best epoch.
            TrainerError: The model cannot be built, or its device is missing.
        """

    def load_model(self, request: TrainingRequest, file: BinaryIO, info: "DataInfo | None") -> Any:
        """Return the model with the weights of its best epoch, in the form of the kind's framework.

        The arguments and errors are those of `evaluator`.
        """


@runtime_checkable
class TestsItself(Protocol):
    """A kind whose trainings read their own data and test the winner on their own test set."""

    def test(
        self, request: TrainingRequest, file: BinaryIO
    ) -> "AbstractContextManager[Callable[[], Evaluation]]":
        """Return a context that gives a function, which evaluates the best epoch on the test set.

        Everything that can fail before the test rows are read fails here, or when the context is entered. The file may
        be closed after this call.

        Args:
            request: The request of the saved training.
            file: The bytes that `Training.save` wrote, from the first to the last. It can seek.

        Raises:
            CheckpointError: The state is damaged, of another training, or has no best epoch.
            TrainerError: The test cannot begin.
        """
