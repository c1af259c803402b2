"""The sections `program` and `length` of a job."""

from pathlib import PurePath
from typing import Annotated

from pydantic import Field

from tune_jobs.trainers.programs.arguments import Style
from tune_jobs.trainers.settings import Count, NonNegative, Reference, Settings

PARAMETERS = "{parameters}"
"""The word of a command that is replaced by the arguments."""
PYTHON = ("python", "python3")
"""First words of a command that mean the interpreter of the job."""


class ProgramSettings(Settings):
    """The program that trains: a script or a function."""

    script: str | None = None
    """Path of a Python script, such as main.py; a relative path counts from the job's folder."""
    function: Reference | None = None
    """A function of the user, as `module:function`. It takes parameters by name, and `trial`."""
    command: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """A command as a list of words. `{parameters}` is where the arguments go; without it they are the last words."""
    arguments: Style | None = None
    """The parser that takes the parameters; null is `trial.get`."""
    python: str | None = None
    """The Python interpreter; null is that of tune-jobs. A relative path counts from the job's folder."""
    grace_seconds: NonNegative = 30.0
    """Time between the signal to end and the kill."""
    test_is_validation: bool = False
    """Metrics named test… are validation metrics. Otherwise trials have none, because a test decides nothing."""

    @property
    def label(self) -> str:
        """Return the program by name, for sentences."""
        return self.script or self.function or " ".join(self.command) or "the program"

    @property
    def module(self) -> str | None:
        """Return the module with the program's code, in the job's folder; None if a script is elsewhere."""
        script = self.script or self.command_script
        if script is None:
            return None if self.function is None else self.function.partition(":")[0]
        path = PurePath(script)
        return None if path.is_absolute() or ".." in path.parts else ".".join(path.with_suffix("").parts)

    @property
    def problem(self) -> str:
        """Return what is wrong between the keys; empty if nothing is."""
        ways = [name for name in ("script", "function", "command") if getattr(self, name)]
        if len(ways) != 1:
            given = " and ".join(ways) or "none"
            return f"given {given}; valid: one of script, function and command, such as script: main.py"
        if self.function is not None and self.arguments is not None:
            return "a function takes parameters by name; leave arguments out"
        if PARAMETERS in self.command and self.arguments is None:
            return (
                f"the command has {PARAMETERS!r}; name the parser in arguments, such as arguments: argparse"
            )
        return ""

    @property
    def command_script(self) -> str | None:
        """Return the script of a command such as `python main.py`; None for other commands."""
        words = self.command
        is_script = len(words) > 1 and words[0] in PYTHON and words[1].endswith(".py")
        return words[1] if is_script else None


class LengthSettings(Settings):
    """The length of a full training."""

    epochs: Count
    """Epochs that a trial may train."""


def is_of_test(metric: str) -> bool:
    """Return whether the name says that a metric is measured on test rows."""
    return metric.lower().startswith("test")
