"""Open the checkpoints of a trial, in a folder or an object store."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from tune_jobs.checkpoints.file import check_origin, open_checkpoint
from tune_jobs.checkpoints.local import LocalFiles, checkpoint_paths
from tune_jobs.checkpoints.remote import RemoteFiles
from tune_jobs.checkpoints.trial_checkpoints import Checkpoints, Owner
from tune_jobs.errors import RunFolderError
from tune_jobs.location import Location
from tune_jobs.record.curve import TrialCurve
from tune_jobs.record.folder import RunFolder
from tune_jobs.remote.store import StoreError
from tune_jobs.remote.working_copy import checkpoints_of
from tune_jobs.trainers.errors import CheckpointError
from tune_jobs.trainers.settings import ScoreSettings

T = TypeVar("T")


def open_checkpoints(
    place: Path | Location, owner: Owner, waiting: Callable[[], None] = lambda: None
) -> Checkpoints:
    """Return the checkpoints of a trial.

    Args:
        place: The place of the run's checkpoints. In an object store, trials of two drivers may have the same id.
        owner: The trial.
        waiting: Called repeatedly while an object store fails and is tried again.
    """
    if isinstance(place, Path):
        return Checkpoints(LocalFiles(place, owner.trial_id), replace(owner, driver=None))
    return Checkpoints(RemoteFiles(place, owner.trial_id, waiting), owner)


def checkpoint_files(folder: RunFolder, trial_id: str, configuration: Mapping[str, Any]) -> list[Path]:
    """Return the files of a trial's checkpoints on this machine, the latest first.

    If `folder` is a copy of a run in an object store, they are fetched from there first. Checkpoints of another trial
    with the same id and another configuration are left out.

    Raises:
        RunFolderError: The object store cannot be reached.
    """
    place = checkpoints_of(folder)
    if isinstance(place, Path):
        return checkpoint_paths(folder.checkpoints, trial_id)
    try:
        return fetch_checkpoints(place, folder.checkpoints, trial_id, configuration)
    except StoreError as error:
        raise RunFolderError(f"{place}: cannot be read ({error.strerror})") from error


def fetch_checkpoints(
    place: Location, root: Path, trial_id: str, configuration: Mapping[str, Any]
) -> list[Path]:
    """Copy the checkpoints of a trial from `place` to `root/<trial_id>`; return the files, the latest first.

    Raises:
        StoreError: The object store failed for longer than an outage may last.
    """
    files, folder = RemoteFiles(place, trial_id), root / trial_id
    folder.mkdir(parents=True, exist_ok=True)
    names = Checkpoints(files, Owner(trial_id=trial_id, configuration=configuration)).names()
    for name in names:
        files.fetch(name, folder / name)
    return [folder / name for name in names]


def read_best(
    files: Iterable[Path], owner: Owner, epoch: int, score: ScoreSettings, read: Callable[[BinaryIO], T]
) -> T:
    """Call `read` with the state of the first checkpoint that has the best epoch of its trial; return the result.

    Args:
        files: The checkpoints of the trial.
        owner: The trial. Checkpoints of another one are left out.
        epoch: The best epoch of the trial. It must be the best one of the checkpoint too.
        score: The score by which it is the best.
        read: Takes the state, as `Training.save` wrote it.

    Raises:
        CheckpointError: No file has the weights of that epoch. The message gives a reason for each file.
        LaterVersion: A later version of tune-jobs wrote one of the files.
    """
    reasons = []
    for path in dict.fromkeys(files):
        try:
            with open_checkpoint(path) as checkpoint:
                check_origin(checkpoint, owner.origin, path)
                best = TrialCurve.of(checkpoint.epochs, score).best
                if best is not None and best.epoch == epoch:
                    return read(checkpoint.state)
        except CheckpointError as error:
            reasons.append(str(error).partition(";")[0])
        else:
            reasons.append(f"{path} does not have the weights of epoch {epoch}")
    raise CheckpointError("; ".join(reasons))
