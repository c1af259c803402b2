"""Every error class: its text from its fields, and the exit code of the command line."""

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.messages.conftest import Say
from tests.messages.product import Job, Problem, SearchSpaceError, run_errors, trainer_errors
from tests.messages.sites import error_classes
from tests.messages.snapshots import check

RUN = Path("runs/small")

FACED = {
    "ExpectedError": lambda: run_errors.ExpectedError("the text"),
    "TuneJobsError": lambda: run_errors.TuneJobsError("the text"),
    "JobError": lambda: run_errors.JobError(
        [Problem("a.b", "given 1; valid: 2"), Problem("a.much.longer.path", "missing")], name="job.yaml"
    ),
    "RunFolderError": lambda: run_errors.RunFolderError("the text"),
    "RunInUse": lambda: run_errors.RunInUse("the text"),
    "UnknownKind": lambda: run_errors.UnknownKind("the text"),
    "ResourceError": lambda: run_errors.ResourceError("the text"),
    "ClusterError": lambda: run_errors.ClusterError("the text"),
    "SubmissionError": lambda: run_errors.SubmissionError("the text"),
    "SubmissionEnded": lambda: run_errors.SubmissionEnded("the text", 3),
    "TrainingFailed": lambda: run_errors.TrainingFailed("the text"),
    "UnfinishedRun": lambda: run_errors.UnfinishedRun("the text", RUN),
    "RunFailed": lambda: run_errors.RunFailed("the text", RUN),
    "Interrupted": lambda: run_errors.Interrupted("the text", RUN),
    "StorageFailed": lambda: run_errors.StorageFailed("the text", RUN),
    "HoldoutOpened": lambda: run_errors.HoldoutOpened("the text"),
    "OtherVersion": lambda: run_errors.OtherVersion("the text"),
    "EarlierVersion": lambda: run_errors.EarlierVersion("the text"),
    "LaterVersion": lambda: run_errors.LaterVersion("the text"),
    "DamagedRun": lambda: run_errors.DamagedRun("the text"),
    "SearchSpaceError": lambda: SearchSpaceError([Problem("a", "given 1; valid: 2"), Problem("", "the whole")]),
    "TrainerError": lambda: trainer_errors.TrainerError("the text"),
    "DataError": lambda: trainer_errors.DataError("the text"),
    "SplitError": lambda: trainer_errors.SplitError("the text"),
    "ReferenceNotFound": lambda: trainer_errors.ReferenceNotFound("the text"),
    "ModelError": lambda: trainer_errors.ModelError("the text"),
    "DeviceError": lambda: trainer_errors.DeviceError("the text"),
    "MetricMissing": lambda: trainer_errors.MetricMissing("the text"),
    "ProgramError": lambda: trainer_errors.ProgramError("the text"),
    "ProgramKilled": lambda: trainer_errors.ProgramKilled("the text"),
    "Rejected": lambda: trainer_errors.Rejected("the text"),
    "Diverged": lambda: trainer_errors.Diverged("the text"),
    "CheckpointError": lambda: trainer_errors.CheckpointError("the text"),
    "CheckpointMissing": lambda: trainer_errors.CheckpointMissing("the text"),
}  # fmt: skip
"""One of each class that reaches the command line."""

INTERNAL = {
    "CheckpointStorageFailed": "a trial's worker passes it to the driver, which says why",
    "ClaimedElsewhere": "becomes HoldoutOpened",
    "LeaseLost": "becomes RunInUse",
    "Restarted": "the watching begins once more",
    "DamagedCheckpoint": "becomes DamagedRun, or a notice on the trial",
    "SettingsError": "becomes JobError",
    "StoreError": "an OSError; shown with `storage_failures.txt`",
    "ChecksCancelled": "ends a thread",
    "OutputGoneError": "ends a command that only shows something",
    "RunIsOver": "ends the loop of Ray Tune",
    "WorkerOutOfMemory": "becomes the reason of a trial",
    "WrongEvent": "the journal's line is damaged, with the same text",
}
"""Classes that never reach the command line, and what becomes of them."""


def test_every_class_has_a_sample() -> None:
    unknown = error_classes() - FACED.keys() - INTERNAL.keys()
    assert not unknown, f"give each a sample in FACED, or say in INTERNAL what becomes of it: {unknown}"
    gone = (FACED.keys() | INTERNAL.keys()) - error_classes()
    assert not gone, f"no such classes any more: {gone}"


def test_the_text_and_the_exit_code_of_each(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(make: Callable[[], Exception]) -> Callable[..., Job]:
        def from_file(*_: object) -> Job:
            raise make()

        return from_file

    said = {}
    for name, make in FACED.items():
        monkeypatch.setattr(Job, "from_file", fail(make))
        said[name] = say("validate job.yaml")
    for error in (KeyboardInterrupt(), OSError(28, "No space left on device", "runs/small")):
        monkeypatch.setattr(Job, "from_file", fail(lambda error=error: error))  # type: ignore[misc]
        said[type(error).__name__] = say("validate job.yaml")
    check("errors", said, {})


def test_names_that_a_package_has_not() -> None:
    said = {}
    for errors in (run_errors, trainer_errors):
        package = errors.__name__.rpartition(".")[0]
        try:
            importlib.import_module(package).nothing  # noqa: B018
        except AttributeError as error:
            said[package] = str(error)
    check("attributes", said, {})
