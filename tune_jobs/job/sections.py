"""Check each section of a job by itself, and keep what is valid of the others.

One wrong key must not hide what is wrong elsewhere. So a section with wrong keys is also parsed without them, and the
checks that do not read those keys use the result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from tune_jobs.search_spaces import Problem
from tune_jobs.trainers.kinds import known_sections
from tune_jobs.trainers.messages import problems_of, settings_class, unknown_key

_STRICT = ConfigDict(strict=True)
_ROUNDS = 3
"""Times that wrong keys are removed: without one of them, another one may be found."""
_ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(("trials", "ntrials", "numtrials", "numsamples", "maxtrials", "runcap", "count"), "search.trials"),
    **dict.fromkeys(("method", "sampler", "searchalg", "algorithm"), "search.method"),
    **dict.fromkeys(("parameters", "params", "paramspace", "searchspace", "space", "config"), "search.space"),
    **dict.fromkeys(("metric", "monitor", "objective", "scoring"), "selection.metric"),
    **dict.fromkeys(("mode", "direction", "goal"), "selection.mode"),
    **dict.fromkeys(("graceperiod", "miniter"), "scheduler.grace_epochs"),
    **dict.fromkeys(("reductionfactor", "eta"), "scheduler.reduction_factor"),
    **dict.fromkeys(("pruner", "earlyterminate"), "scheduler.method"),
    **dict.fromkeys(("timeout", "timebudgets", "timebudget", "maxtime", "timelimit"), "limits.minutes"),
    **dict.fromkeys(("maxfailures", "retries"), "limits.retries_per_trial"),
    **dict.fromkeys(("gpu", "gpus", "numgpus"), "resources.gpus_per_trial"),
    **dict.fromkeys(("cpu", "cpus", "numcpus"), "resources.cpus_per_trial"),
    **dict.fromkeys(("njobs", "maxconcurrenttrials", "maxconcurrent", "parallelism"), "resources.max_concurrent"),
    **dict.fromkeys(("wandb", "project", "entity"), "tracking.wandb"),
    **dict.fromkeys(("tensorboard", "logdir"), "tracking.tensorboard"),
    **dict.fromkeys(("output", "outputdir", "storagepath", "savedir"), "storage"),
    **dict.fromkeys(("randomseed", "randomstate", "seed"), "seed"),
    **dict.fromkeys(("points", "pointstoevaluate", "enqueuetrial"), "search.points"),
}  # fmt: skip
"""Names of settings in other tools, without - _ . and in lower case, with their keys in a job."""


@dataclass(frozen=True)
class CheckedSections:
    """The sections of a job, parsed as far as they are valid."""

    valid: dict[str, Any] = field(default_factory=dict)
    """The sections without a wrong value, defaults included. Unknown keys are left out."""
    partial: dict[str, Any] = field(default_factory=dict)
    """All sections that can be parsed without their wrong keys, the valid ones included."""
    wrong: dict[str, frozenset[str]] = field(default_factory=dict)
    """The keys with a wrong value of each section in `partial`."""
    problems: list[Problem] = field(default_factory=list)

    def reading(self, name: str, keys: frozenset[str]) -> Any:
        """Return a section for a check that reads these of its keys; None if one of them is wrong."""
        return None if self.wrong.get(name, frozenset()) & keys else self.partial.get(name)


def check_sections(
    fields: Mapping[str, FieldInfo],
    given: Mapping[str, Any],
    elsewhere: Mapping[str, str] = MappingProxyType({}),
) -> CheckedSections:
    """Check each section by itself.

    Args:
        fields: All sections that the job may have.
        given: The sections as they were read.
        elsewhere: Names of settings in other tools that belong to the kind of training, see `KindFacts`.
    """
    meant = {**_ELSEWHERE, **elsewhere}
    checked = CheckedSections()
    checked.problems.extend(
        Problem(key, _unknown(key, list(fields), meant)) for key in given if key not in fields
    )
    for name, one in fields.items():
        if name in given:
            _check(name, one, given[name], meant, checked)
        elif one.is_required():
            checked.problems.append(Problem(name, "missing; this section is required"))
        else:
            checked.valid[name] = checked.partial[name] = one.get_default()
    return checked


def _check(
    name: str, one: FieldInfo, given: Any, elsewhere: Mapping[str, str], checked: CheckedSections
) -> None:
    annotation: Any = Annotated[one.annotation, *one.metadata] if one.metadata else one.annotation
    settings = settings_class(annotation)
    adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=None if settings else _STRICT)
    wrong: set[str] = set()
    for round_ in range(_ROUNDS):
        try:
            checked.partial[name] = adapter.validate_python(given)
        except ValidationError as error:
            if round_ == 0:
                found = problems_of(error, given, settings, name, elsewhere)
                checked.problems.extend(Problem(*pair) for pair in found)
            if not isinstance(given, Mapping):
                return
            for details in error.errors(include_url=False):
                given, key = _without(given, details)
                wrong |= {key} - {""}
        else:
            checked.wrong[name] = frozenset(wrong)
            if not wrong:
                checked.valid[name] = checked.partial[name]
            return


def _without(given: Mapping[str, Any], details: ErrorDetails) -> tuple[Mapping[str, Any], str]:
    """Return a section without what an error is about, and the key that has the wrong value; empty for unknown keys."""
    first, *below = [str(part) for part in details["loc"]] or [""]
    value = given.get(first)
    if details["type"] == "extra_forbidden" and below and isinstance(value, Mapping):
        inner, _ = _without(value, {**details, "loc": tuple(below)})
        return {**given, first: inner}, ""
    if details["type"] == "search_space" and isinstance(value, Mapping):
        paths = [problem.path for problem in details["ctx"]["problems"]]
        kept = {
            key: entry
            for key, entry in value.items()
            if not any(path == str(key) or path.startswith(f"{key}.") for path in paths)
        }
        if kept and len(kept) < len(value):
            return {**given, first: kept}, first
    kept = {key: one for key, one in given.items() if str(key) != first}
    return kept, "" if details["type"] == "extra_forbidden" else first


def _unknown(key: str, valid: Sequence[str], elsewhere: Mapping[str, str]) -> str:
    if key not in known_sections():
        return unknown_key(key, valid, elsewhere)
    own = ", ".join(name for name in valid if name in known_sections())
    return f"does not go with {own}; a job has sections of one kind of training: remove this one, or those"
