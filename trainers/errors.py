"""Errors of reading data and of training a model.

    TrainerError
    ├── DataError          the data cannot be used as the settings ask: mend the data or the settings
    │   └── SplitError     the rows cannot be divided as asked
    ├── SettingsError      the data show that settings of the job are wrong: mend these
    ├── ReferenceNotFound  a `package.module:function` that cannot be found or called
    ├── ModelError         the model does not fit the data, or cannot be built
    ├── DeviceError        the device is missing
    ├── MetricMissing      an epoch has no value of the selection metric: select by one that the training measures
    ├── ProgramError       the user's program failed, or does not do what a trial needs
    │   └── ProgramKilled  a signal ended it
    ├── Rejected           the user's program says that a configuration cannot be trained
    ├── Diverged           the loss is no longer a finite number: this configuration's own fault
    └── CheckpointError    a checkpoint is damaged or of another training
        └── CheckpointMissing  there is none

The user can mend all of them; a retry with the same input never helps. The message says what was given, what is
valid and what to do.
"""

from collections.abc import Sequence

from tune_jobs.errors import ExpectedError, Fault


class TrainerError(ExpectedError):
    """Root of the errors of this package; its text is shown to the user as it is."""


class DataError(TrainerError):
    """The data cannot be used as the settings ask."""


class SplitError(DataError):
    """The rows cannot be divided into training, validation and test as asked."""


class SettingsError(TrainerError):
    """Settings do not go with the data.

    Args:
        problems: Pairs of a dotted key of the job and a message.
    """

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "; ".join(f"{key}: {message}" for key, message in self.problems)


class ReferenceNotFound(TrainerError):
    """A `package.module:function` reference that cannot be found or called."""


class ModelError(TrainerError):
    """The model cannot be built, or its outputs do not fit the loss."""


class DeviceError(TrainerError):
    """The device that was asked for is missing."""


class MetricMissing(TrainerError):
    """An epoch has no value of the selection metric."""


class Diverged(TrainerError):
    """A loss became NaN or infinite."""

    fault = Fault.CODE


class ProgramError(TrainerError):
    """The user's program failed, or does not do what a trial needs."""

    fault = Fault.CODE


class ProgramKilled(ProgramError):
    """A signal ended the user's program."""


class Rejected(TrainerError):
    """The user's program says that a configuration cannot be trained."""

    fault = Fault.CODE


class CheckpointError(TrainerError):
    """A checkpoint is missing, damaged or of another training."""

    fault = Fault.MACHINE


class CheckpointMissing(CheckpointError):
    """There is no checkpoint."""
