"""What can be wrong with a search space.

    ValueError
    └── SearchSpaceError   a domain, a space or a sweep file cannot be used as written

The user mends what `problems` names; a retry with the same input is pointless.
"""

from collections.abc import Iterable
from difflib import get_close_matches

from tune_jobs.problem import Problem


class SearchSpaceError(ValueError):
    """All the problems of one input; its text lists them, one a line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


def suggestion(given: object, valid: Iterable[object]) -> str:
    """The end of a message about an unknown name: the closest valid one, else all of them."""
    names = list(map(str, valid))
    close = get_close_matches(str(given), names, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"valid are {', '.join(names) or 'none'}"
