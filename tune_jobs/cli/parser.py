"""The parser of the command line: commands, their options, and what is left over for the job.

argparse reads commands and their few options. What is left over are dotted overrides of the job file, which the
job's own settings check, so all problems come in one list.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console

from tune_jobs.errors import JobError
from tune_jobs.job.job import Job
from tune_jobs.search_spaces import Problem
from tune_jobs.text import closest
from tune_jobs.trainers.kinds import known_sections

Command = Callable[[argparse.Namespace, list[str], Console], None]
"""A function that carries out a command, given its options, the arguments that are left over, and a console."""

JOB = ("JOB", "job file; keys are overridden by `--section.key value`")
RUN = ("RUN", "run folder, as `tune-jobs run` prints it")
"""Positional arguments of several commands: name and explanation."""


class CommandParser(argparse.ArgumentParser):
    """A parser that takes no abbreviated options, and knows the names of those that it has."""

    def __init__(self, **settings: Any) -> None:
        self.options: list[str] = []
        super().__init__(allow_abbrev=False, **settings)

    def add_argument(self, *names: Any, **settings: Any) -> argparse.Action:
        """See `argparse.ArgumentParser.add_argument`."""
        action = super().add_argument(*names, **settings)
        self.options += [name.removeprefix("--") for name in action.option_strings if name.startswith("--")]
        return action


class Commands:
    """Adds commands to the command line.

    Args:
        parser: The parser of the command line.
    """

    def __init__(self, parser: CommandParser) -> None:
        self._parsers = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(
        self,
        name: str,
        command: Command,
        text: str,
        *positional: tuple[str, str],
        overrides: bool = False,
    ) -> CommandParser:
        """Add one command, and return its parser, for its options and for the default of `only_shows`.

        Args:
            name: The name that users type.
            command: The function that carries it out.
            text: One sentence for the help.
            *positional: Name and explanation of each positional argument.
            overrides: Whether it takes overrides of the job file.
        """
        added = self._parsers.add_parser(name, help=text, description=text)
        for argument, explanation in positional:
            added.add_argument(argument.lower(), metavar=argument, help=explanation)
        added.add_argument(
            "--debug", action="store_true", help="show the traceback of an error, for a report of it"
        )
        added.set_defaults(command=command, parser=added, overrides=overrides, only_shows=False)
        return added


def refuse_leftovers(parser: CommandParser, rest: Sequence[str], *, overrides: bool) -> None:
    """Refuse what is left over if the command takes no overrides, or if it is a misspelt option.

    It is a misspelt option if it is closer to an option of the command than to a key of a job.

    Raises:
        JobError: Something is refused; the message names the options that were meant.
    """
    options = [name for name in parser.options if name != "help"]
    names = [argument.partition("=")[0] for argument in rest if argument.startswith("-")]
    close = {
        name: closest(name.lstrip("-"), [*Job.model_fields, *known_sections(), *options])
        for name in names
        if "." not in name
    }
    problems = [
        Problem(name, f"no option of `{parser.prog}`; did you mean --{found}?")
        for name, found in close.items()
        if found in options
    ]
    if rest and not overrides and not problems:
        problems = [Problem(rest[0], f"not understood; see `{parser.prog} --help`")]
    if problems:
        raise JobError(problems, name="the command line")


def count(text: str) -> int:
    """Read a whole number of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"given {text!r}; valid: a whole number of at least 0")
    return int(text)


def port(text: str) -> int:
    """Read the number of a port."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"given {text!r}; valid: 0 to 65535, where 0 takes a free one")
    return int(text)
