"""The job: everything that a run is asked to do, frozen and checked.

`Job.from_file` reads a YAML job file; `Job(...)` takes the same sections from Python. Both list every problem
at once in a `JobError`, and neither imports torch or ray.

Some sections belong to the kind of training, such as `data`, `model` and `training` to the PyTorch kind. The names
of the sections choose the kind.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PrivateAttr
from pydantic.fields import FieldInfo

from tune_jobs.errors import JobError
from tune_jobs.job.checks import (
    check_surroundings,
    cross_check,
    grid_notices,
    missing_mode,
    notices,
    with_default_metric,
    with_searched_references,
)
from tune_jobs.job.file import apply_overrides, dump_yaml, read_yaml
from tune_jobs.job.rung_epochs import reach_notices, rung_epochs
from tune_jobs.job.sections import check_sections
from tune_jobs.job.settings import (
    LimitSettings,
    ResourceSettings,
    SchedulerSettings,
    SearchSettings,
    TrackingSettings,
)
from tune_jobs.search_spaces import Problem
from tune_jobs.trainers.facts import KindFacts
from tune_jobs.trainers.interface import Seal, TrainerKind
from tune_jobs.trainers.kinds import KindClass, kind_of
from tune_jobs.trainers.settings import ScoreSettings, Settings


class Job(Settings):
    """One tuning job.

    Raises:
        JobError: The job has problems; the error lists all of them.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Seed of initial weights, batches and the search, of 32 bits, as in Optuna."""
    search: SearchSettings
    scheduler: SchedulerSettings = SchedulerSettings()
    selection: ScoreSettings
    """The score of an epoch. If the job names no metric, it is the default metric of the kind of training."""
    resources: ResourceSettings = ResourceSettings()
    limits: LimitSettings = LimitSettings()
    tracking: TrackingSettings = TrackingSettings()
    storage: str = "runs"
    """Folder in which the run's own folder is created, relative to the current folder."""

    _own: dict[str, Settings] = PrivateAttr()
    _folder: Path = PrivateAttr()

    def __init__(self, /, **sections: Any) -> None:
        valid, problems = _check(sections)
        if problems:
            raise JobError(problems)
        shared = {name: sections[name] for name in sections if name in Job.model_fields}
        super().__init__(**{**shared, "selection": valid["selection"]})
        self._own = {name: valid[name] for name in valid if name not in Job.model_fields}
        self._folder = Path.cwd()

    @property
    def own_sections(self) -> Mapping[str, Settings]:
        """Return the sections that belong to the kind of training."""
        return self._own

    @cached_property
    def kind(self) -> TrainerKind:
        """Return the kind of training that the job's sections choose."""
        return self.kind_class(**self._own)

    @property
    def kind_class(self) -> KindClass:
        """Return the class of the kind of training."""
        return kind_of(self._own).load()

    @cached_property
    def facts(self) -> KindFacts:
        """Return the facts of the kind of training about this job, before anything starts."""
        return with_searched_references(self.kind_class.facts(self._own), self.search)

    @property
    def folder(self) -> Path:
        """Return the folder of the job file, in which data files and the user's modules are looked up."""
        return self._folder

    @property
    def trials(self) -> int:
        """Return the number of configurations to try: `search.trials`, but no more than the space holds.

        No method tries a configuration twice.
        """
        size = self.search.space.grid_size()
        return self.search.trials if size is None else min(self.search.trials, size)

    @property
    def max_epochs(self) -> int:
        """Return the epochs of a full training."""
        return self.kind.max_epochs

    @property
    def seals_test(self) -> bool:
        """Return whether tune-jobs keeps test rows for this job; otherwise the trainings read their own data."""
        return self.kind.capabilities.seals_test

    @property
    def seal(self) -> Seal:
        """Return how well the test rows are sealed until the winner is tested."""
        return Seal.ROWS if self.seals_test else self.facts.seal

    @property
    def tests_itself(self) -> bool:
        """Return whether the winner's own code evaluates its own test set."""
        return self.kind.capabilities.tests_itself

    @property
    def rungs(self) -> tuple[int, ...]:
        """Return the epochs below `max_epochs` at which trials are compared, ascending."""
        return rung_epochs(self.scheduler, self.max_epochs)

    def notices(self) -> list[str]:
        """Return sentences about settings that are valid but probably a mistake."""
        unreached = reach_notices(self.scheduler, self.rungs, self.max_epochs, self.trials)
        return [*notices(self.search.space, self.facts), *grid_notices(self.search), *unreached]

    @classmethod
    def from_mapping(cls, sections: Mapping[str, Any], folder: Path | None = None) -> Self:
        """Return the job that `sections` describe; relative paths start in `folder` (default: the current one)."""
        job = cls(**{str(name): section for name, section in sections.items()})
        if folder is not None:
            job._folder = folder.resolve()
        return job

    @classmethod
    def from_file(cls, path: str | Path, overrides: Sequence[tuple[str, Any]] = ()) -> Self:
        """Return the job in a YAML file.

        Args:
            path: The job file.
            overrides: Pairs of a dotted name and its value, applied in order: `("search.trials", 100)`.

        Raises:
            JobError: The job has problems, missing files and functions included; the error lists all of them.
        """
        path = Path(path)
        sections = apply_overrides(read_yaml(path), overrides)
        _, problems = _check(sections, path.parent.resolve())
        if problems:
            raise JobError(problems, name=str(path))
        return cls.from_mapping(sections, path.parent)

    def with_files(self, paths: Mapping[str, str]) -> Self:
        """Return the same job with other paths of its data files, by the keys of `facts.files`."""
        if not paths:
            return self
        sections = apply_overrides(self.to_mapping(), list(paths.items()))
        return self.from_mapping(sections, self._folder)

    def with_absolute_files(self) -> Self:
        """Return the same job with absolute paths of its data files, so it can be read from any folder."""
        return self.with_files({key: str(self._folder / path) for key, path in self.facts.files.items()})

    def to_mapping(self) -> dict[str, Any]:
        """Return all keys, defaults included, as plain values; `from_mapping` reads them back."""
        own = {name: section.model_dump(mode="json") for name, section in self._own.items()}
        sections = self.model_dump(mode="json") | own
        return {name: sections[name] for name in job_fields(self._own)}

    def to_yaml(self) -> str:
        """Return the resolved job as the text of a job file."""
        return dump_yaml(self.to_mapping())


def job_fields(sections: Mapping[str, Any]) -> dict[str, FieldInfo]:
    """Return all sections of a job of the kind that the names of `sections` choose, in the order of a job file."""
    own = {name: _field(settings) for name, settings in kind_of(sections).load().sections.items()}
    first = {name: Job.model_fields[name] for name in ("name", "seed")}
    return {**first, **own, **Job.model_fields}


def _field(settings: type[Settings]) -> FieldInfo:
    """Return the field of a section, which may be missing if each of its keys has a default."""
    required = any(field.is_required() for field in settings.model_fields.values())
    return FieldInfo(annotation=settings) if required else FieldInfo(annotation=settings, default=settings())


def _check(sections: Mapping[str, Any], folder: Path | None = None) -> tuple[dict[str, Any], list[Problem]]:
    """Return the valid sections, and all problems; file and module problems only if a folder is given."""
    kind, fields = kind_of(sections).load(), job_fields(sections)
    own = check_sections(
        {name: fields[name] for name in kind.sections},
        {name: sections[name] for name in kind.sections if name in sections},
    )
    whole, part = kind.facts(own.valid), kind.facts(own.partial)
    selection = with_default_metric(sections.get("selection", {}), whole)
    checked = check_sections(fields, {**sections, "selection": selection}, whole.elsewhere)
    unsaid = missing_mode(selection, whole)
    problems = [*checked.problems, *unsaid, *cross_check(checked, whole, part, kind.capabilities)]
    if folder is not None:
        tracking = checked.reading("tracking", frozenset())
        search = checked.reading("search", frozenset({"space"}))
        names = () if search is None else tuple(search.space.parameters)
        problems += check_surroundings(with_searched_references(part, search), tracking, folder, names)
    return checked.valid, problems
