"""The job: everything that a run is asked to do, frozen and checked.

`Job.from_file` reads a YAML job file; `Job(...)` takes the same sections from Python. Both list every problem
at once in a `JobError`, and neither imports torch or ray.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PrivateAttr

from tune_jobs.errors import JobError
from tune_jobs.job.checks import check_surroundings, cross_check, notices
from tune_jobs.job.file import apply_overrides, dump_yaml, read_yaml
from tune_jobs.job.messages import find_problems
from tune_jobs.job.rung_epochs import reach_notices, rung_epochs
from tune_jobs.job.settings import (
    LimitSettings,
    ResourceSettings,
    SchedulerSettings,
    SearchSettings,
    TrackingSettings,
)
from tune_jobs.search_spaces import Problem
from tune_jobs.trainers.data.files import SUFFIXES
from tune_jobs.trainers.data.settings import DataSettings
from tune_jobs.trainers.pytorch.settings import ModelSettings, TrainingSettings
from tune_jobs.trainers.settings import ScoreSettings, Settings


class Job(Settings):
    """One tuning job.

    Raises:
        JobError: with every problem that was found.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Of initial weights, batches and the search; Optuna takes 32 bits."""
    data: DataSettings
    model: ModelSettings
    training: TrainingSettings
    search: SearchSettings
    scheduler: SchedulerSettings = SchedulerSettings()
    selection: ScoreSettings = ScoreSettings()
    resources: ResourceSettings = ResourceSettings()
    limits: LimitSettings = LimitSettings()
    tracking: TrackingSettings = TrackingSettings()
    storage: str = "runs"
    """Folder in which the run's own folder is made, relative to the current folder."""

    _folder: Path = PrivateAttr()

    def __init__(self, /, **sections: Any) -> None:
        problems = _problems(sections)
        if problems:
            raise JobError(problems)
        super().__init__(**sections)
        self._folder = Path.cwd()

    @property
    def folder(self) -> Path:
        """Where data files and the user's modules are looked for: the job file's folder."""
        return self._folder

    @property
    def trials(self) -> int:
        """Configurations that will be tried: as many as were asked for, no more than the space holds.

        None is tried twice, whatever the method.
        """
        size = self.search.space.grid_size()
        return self.search.trials if size is None else min(self.search.trials, size)

    @property
    def max_epochs(self) -> int:
        """Return the epochs of a full training."""
        return self.training.max_epochs

    @property
    def rungs(self) -> tuple[int, ...]:
        """Return the epochs below `max_epochs` at which trials are compared, ascending."""
        return rung_epochs(self.scheduler, self.max_epochs)

    def notices(self) -> list[str]:
        """What is allowed and probably not meant."""
        unreached = reach_notices(self.scheduler, self.max_epochs, self.trials)
        return [*notices(self.search.space), *unreached]

    @classmethod
    def from_mapping(cls, sections: Mapping[str, Any], folder: Path | None = None) -> Self:
        """The job that `sections` describe; relative files are looked for in `folder` (default: current)."""
        job = cls(**{str(name): section for name, section in sections.items()})
        if folder is not None:
            job._folder = folder.resolve()
        return job

    @classmethod
    def from_file(cls, path: str | Path, overrides: Sequence[tuple[str, Any]] = ()) -> Self:
        """The job in a YAML file.

        Args:
            path: the job file.
            overrides: pairs of a dotted name and its value, applied in order: `("search.trials", 100)`.

        Raises:
            JobError: with every problem, files and functions that are not there among them.
        """
        path = Path(path)
        sections = apply_overrides(read_yaml(path), overrides)
        problems = _problems(sections, path.parent.resolve())
        if problems:
            raise JobError(problems, name=str(path))
        return cls.from_mapping(sections, path.parent)

    def with_absolute_source(self) -> Self:
        """The same job, from whichever folder it is read."""
        path = self._folder / self.data.source
        if path.suffix.lower() not in SUFFIXES:
            return self
        sections = self.to_mapping()
        sections["data"]["source"] = str(path)
        return self.from_mapping(sections, self._folder)

    def to_mapping(self) -> dict[str, Any]:
        """All keys, defaults included, as plain values; `from_mapping` takes it back."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """The resolved job as the text of a job file."""
        return dump_yaml(self.to_mapping())


def _problems(sections: Mapping[str, Any], folder: Path | None = None) -> list[Problem]:
    """All problems; those of files and modules only where a folder is given."""
    valid, problems = find_problems(Job, sections)
    problems += cross_check(valid)
    if folder is not None:
        problems += check_surroundings(valid, folder)
    return problems
