"""One thing that is wrong with what a user wrote: a leaf that every package reports with."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where it stands."""

    path: str
    """Dotted, relative to what was checked: `lr.low` in a space; empty for the whole."""
    message: str
    """What was given, what is valid, what to do."""

    def under(self, prefix: str) -> "Problem":
        """The same problem as seen from one level above."""
        return Problem(f"{prefix}.{self.path}" if self.path else prefix, self.message)

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message
