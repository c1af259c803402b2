"""A problem in what a user wrote, as every package reports it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem and its place."""

    path: str
    """Dotted path relative to what was checked, such as `lr.low` in a space; empty for the whole."""
    message: str
    """What was given, what is valid, and what to do."""

    def under(self, prefix: str) -> "Problem":
        """Return the same problem with its path seen from one level above."""
        return Problem(f"{prefix}.{self.path}" if self.path else prefix, self.message)

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message
