"""Errors of search spaces.

    ExpectedError, ValueError
    └── SearchSpaceError   a domain, a space or a sweep file cannot be used as written

The user corrects the entries that `problems` names; a retry with the same input fails again.
"""

from collections.abc import Iterable

from tune_jobs.errors import ExpectedError
from tune_jobs.problem import Problem
from tune_jobs.text import closest


class SearchSpaceError(ExpectedError, ValueError):
    """All problems of one input; its text lists them, one per line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


def suggestion(given: object, valid: Iterable[object]) -> str:
    """Return the end of a message about an unknown name: the closest valid name, otherwise all of them."""
    names = list(map(str, valid))
    close = closest(str(given), names)
    if close is not None:
        return f"did you mean '{close}'?"
    return f"valid are {', '.join(names) or 'none'}"
