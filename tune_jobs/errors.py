"""Every error that tune-jobs raises on purpose, with the exit code of the command line.

    TuneJobsError
    ├── JobError             2    the job file, or the call, is wrong: lists every problem
    ├── RunFolderError       2    not a run folder, or one in the wrong state for the call
    │   ├── RunInUse         2    another process is at work on it
    │   └── UnknownKind      2    the class that trained it cannot be imported: says where it was
    ├── ResourceError        2    the machine or cluster lacks what the job asks for
    ├── ClusterError         2    a cluster does not answer, refuses access, or has other versions
    ├── SubmissionError      2    no submission of that name, or one in the wrong state for the call
    ├── SubmissionEnded      1    a run on a cluster did not succeed; the run's own exit code replaces 1
    ├── HoldoutOpened        3    the test rows were read before
    ├── TrainingFailed       1    the user's own code raised in `tune-jobs train`
    ├── UnfinishedRun             a run left a folder but has not succeeded
    │   ├── RunFailed        1    no trial succeeded
    │   ├── Interrupted    130    stopped by a signal, or because Ray died; all reports are saved
    │   └── StorageFailed  130    stopped because the run folder cannot be written to; all reports are saved
    ├── OtherVersion              another version of tune-jobs wrote to the run: names the version, if known
    │   ├── EarlierVersion   2    an earlier one, in a format that this version does not read
    │   └── LaterVersion     2    a later one, in a format that this version does not know
    └── DamagedRun           1    a file of the run cannot be read: names the file and the place

The packages below have their own trees, `tune_jobs.search_spaces.SearchSpaceError` and
`tune_jobs.trainers.TrainerError`. All trees have the root `ExpectedError`. Its attribute `fault` says what must be
fixed, and `EXIT_CODES` maps it to an exit code.
A retry with the same input fails again. After exit code 130, `tune-jobs resume` continues the run. Users never see a
traceback for any of these errors.
"""

from collections.abc import Mapping, Sequence
from enum import Enum, auto
from pathlib import Path
from typing import ClassVar

from tune_jobs.problem import Problem
from tune_jobs.text import without_long_lines


class Fault(Enum):
    """The part that must be fixed after an error."""

    USER = auto()
    """The job, the data or the call."""
    CODE = auto()
    """The training: its code, or a configuration that makes it diverge."""
    MACHINE = auto()
    """A disk, a file on it, or a connection."""


EXIT_CODES: Mapping[Fault, int] = {Fault.USER: 2, Fault.CODE: 1, Fault.MACHINE: 1}
"""Exit codes of the command line, for errors that have no other."""


class ExpectedError(Exception):
    """Root of all errors whose text is shown to the user unchanged, without a traceback."""

    fault: ClassVar[Fault] = Fault.USER


def exit_code_for(error: ExpectedError) -> int:
    """Return the exit code of a command that ends with `error`."""
    return error.exit_code if isinstance(error, TuneJobsError) else EXIT_CODES[error.fault]


class TuneJobsError(ExpectedError):
    """Root of the errors of tune-jobs itself; the text is shown to the user unchanged."""

    exit_code: int = 1


class JobError(TuneJobsError):
    """The job cannot be run as it is written.

    Attributes:
        problems: All problems that were found, each with its dotted path.
    """

    exit_code = 2

    def __init__(self, problems: Sequence[Problem], name: str = "the job") -> None:
        self.problems = tuple(problems)
        self.name = name
        super().__init__(self._text())

    def _text(self) -> str:
        count = len(self.problems)
        width = min(max((len(problem.path) for problem in self.problems), default=0), 36)
        lines = [f"{self.name}: {count} problem{'' if count == 1 else 's'}"]
        lines += [f"  {problem.path:<{width}}  {problem.message}" for problem in self.problems]
        return without_long_lines("\n".join(lines))


class RunFolderError(TuneJobsError):
    """A path is not a run folder, or the run is not in the state that the call needs."""

    exit_code = 2


class UnknownKind(RunFolderError):
    """The run is intact, but the class of its kind of training cannot be imported."""


class RunInUse(RunFolderError):
    """Another process writes to the run."""


class ResourceError(TuneJobsError):
    """The machine or cluster does not have what the job asks for."""

    exit_code = 2


class ClusterError(TuneJobsError):
    """The Jobs server of a cluster does not answer, refuses access, or has other versions."""

    exit_code = 2


class SubmissionError(TuneJobsError):
    """The submission does not exist, or is not in the state that the call needs."""

    exit_code = 2


class SubmissionEnded(TuneJobsError):
    """A run on a cluster was refused, failed, or was stopped.

    Attributes:
        exit_code: Exit code of the run.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(message)


class TrainingFailed(TuneJobsError):
    """The user's code raised an error in a training without Ray."""


class UnfinishedRun(TuneJobsError):
    """A run left a folder but has not succeeded.

    Attributes:
        path: The run folder.
    """

    def __init__(self, message: str, path: Path) -> None:
        self.path = path
        super().__init__(message)


class RunFailed(UnfinishedRun):
    """No trial of the run succeeded."""


class HoldoutOpened(TuneJobsError):
    """The holdout was opened before."""

    exit_code = 3


class Interrupted(UnfinishedRun):
    """The run was stopped by a signal, or because a process of Ray died."""

    exit_code = 130


class StorageFailed(UnfinishedRun):
    """The run folder can no longer be written to: it is full, read-only or missing."""

    exit_code = 130


class OtherVersion(TuneJobsError):
    """A file of the run is intact, but only another version of tune-jobs understands it."""

    exit_code = 2


class EarlierVersion(OtherVersion):
    """The version of tune-jobs that understands the file is an earlier one."""


class LaterVersion(OtherVersion):
    """The version of tune-jobs that understands the file is a later one."""


class DamagedRun(TuneJobsError):
    """A file of the run is damaged."""
