"""The keys of a job that may change in a run that has begun, and a fingerprint of all others."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from tune_jobs.errors import JobError
from tune_jobs.job.job import Job
from tune_jobs.search_spaces import Problem
from tune_jobs.text import did_you_mean
from tune_jobs.trainers.kinds import known_kinds

CHANGEABLE = ("search.trials", "limits", "tracking", "resources.max_concurrent")
"""Keys of a job, with all below them, that may change in a run that has begun: no trial's curve depends on them.

The kind of training adds its own keys.
"""


def job_fingerprint(job: Job) -> str:
    """Return the SHA-256, in hex digits, of all keys of a job that may not change in a run that has begun."""
    sections = job.to_mapping()
    for key in (*CHANGEABLE, *job.kind_class.changeable, "name", "storage"):
        section, _, name = key.partition(".")
        (sections[section] if name else sections).pop(name or section)
    return hashlib.sha256(json.dumps(sections, sort_keys=True).encode()).hexdigest()


def check_changeable(overrides: Iterable[tuple[str, Any]], run: str) -> None:
    """Refuse overrides of keys that cannot change in a run that has begun. Nothing of the run is read.

    Args:
        overrides: Pairs of a dotted name and its value; the values do not matter here.
        run: Name of the run, for the message.

    Raises:
        JobError: Some keys cannot change, or do not exist.
    """
    changeable = (*CHANGEABLE, *(key for kind in known_kinds() for key in kind.load().changeable))
    valid = f"not a key that can change in a run that has begun; valid: {', '.join(changeable)}"
    known = [key for section in changeable for key in _keys_of(section)]
    problems = [
        Problem(name, valid + did_you_mean(name, known, cutoff=0.8))
        for name, _ in overrides
        if name not in changeable and not any(name == key or name.startswith(f"{key}.") for key in known)
    ]
    if problems:
        raise JobError(problems, name=f"resume {run}")


def _keys_of(name: str) -> list[str]:
    """Return the key itself or, if `name` is a whole section, all its keys."""
    field = Job.model_fields.get(name)
    section: Any = None if field is None else field.annotation
    return [name] if section is None else [f"{name}.{key}" for key in section.model_fields]
