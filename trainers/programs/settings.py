"""The sections `program` and `length` of a job."""

from pathlib import PurePath
from typing import Annotated

from pydantic import Field

from tune_jobs.trainers.settings import Count, NonNegative, Reference, Settings


class ProgramSettings(Settings):
    """The program that trains: a script or a function."""

    script: str | None = None
    """Path of a Python script, such as main.py; a relative path counts from the job's folder."""
    function: Reference | None = None
    """A function of the user, as `module:function`. It takes parameters by name, and `trial`."""
    arguments: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Further arguments of the script, the same for all trials."""
    python: str | None = None
    """The Python interpreter; null is that of tune-jobs. A relative path counts from the job's folder."""
    grace_seconds: NonNegative = 30.0
    """Time between the signal to end and the kill."""
    test_is_validation: bool = False
    """Metrics named test… are validation metrics. Otherwise trials have none, because a test decides nothing."""

    @property
    def label(self) -> str:
        """Return the program by name, for sentences."""
        return self.script or self.function or "the program"

    @property
    def module(self) -> str | None:
        """Return the module with the program's code, in the job's folder; None if a script is elsewhere."""
        if self.script is None:
            return None if self.function is None else self.function.partition(":")[0]
        path = PurePath(self.script)
        return None if path.is_absolute() or ".." in path.parts else ".".join(path.with_suffix("").parts)

    @property
    def problem(self) -> str:
        """Return what is wrong between the keys; empty if nothing is."""
        ways = [name for name in ("script", "function") if getattr(self, name) is not None]
        if len(ways) == 1:
            return ""
        return f"given {' and '.join(ways) or 'neither'}; valid: one of script and function, such as script: main.py"


class LengthSettings(Settings):
    """The length of a full training."""

    epochs: Count
    """Epochs that a trial may train."""


def is_of_test(metric: str) -> bool:
    """Return whether the name says that a metric is measured on test rows."""
    return metric.lower().startswith("test")
