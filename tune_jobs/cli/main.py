"""The command line: `tune-jobs COMMAND …`.

`commands/` has the commands, a module for each group. Torch and Ray are imported by what needs them, after
everything that can be checked without them.
"""

import argparse
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version

from tune_jobs.cli.commands import cluster, jobs, runs, sweeps, tuning
from tune_jobs.cli.parser import Command, CommandParser, Commands, refuse_leftovers
from tune_jobs.cli.screen import OutputGoneError, make_console, safe_streams
from tune_jobs.errors import EXIT_CODES, ExpectedError, Fault, exit_code_for
from tune_jobs.files import is_of_machine
from tune_jobs.remote.working_copy import address_text
from tune_jobs.text import COMPLAINT, readable, without_long_lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code (0 done, 1 failed, 2 wrong input, 3 holdout opened, 130 interrupted)."""
    with safe_streams():
        options, rest = make_parser().parse_known_args(arguments)
    with safe_streams(must_arrive=options.only_shows):
        return _run_command(options, rest)


def _run_command(options: argparse.Namespace, rest: list[str]) -> int:
    console = make_console()
    command: Command = options.command
    try:
        refuse_leftovers(options.parser, rest, overrides=options.overrides)
        command(options, rest, console)
    except ExpectedError as error:
        return _complain(str(error), exit_code_for(error), debug=options.debug)
    except KeyboardInterrupt:
        return _complain("interrupted", 130, debug=options.debug)
    except OutputGoneError:
        return 0
    except OSError as error:
        if not is_of_machine(error):
            raise
        return _complain(f"{error}; `--debug` shows where", EXIT_CODES[Fault.MACHINE], debug=options.debug)
    return 0


def make_parser() -> CommandParser:
    """Return the parser of the whole command line; the help lists the commands in this order."""
    parser = CommandParser(
        prog="tune-jobs",
        description="Hyperparameter tuning for PyTorch on Ray Tune, with the test set sealed.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('tune-jobs')}")
    commands = Commands(parser)
    for group in (tuning, jobs, runs, cluster, sweeps):
        group.add_commands(commands)
    return parser


def _complain(message: str, exit_code: int, *, debug: bool) -> int:
    """Print the message of the error that is being handled, after its traceback if `debug`; return the exit code."""
    if debug:
        traceback.print_exc()
    print(f"{COMPLAINT}{without_long_lines(readable(address_text(message)))}", file=sys.stderr)  # noqa: T201 (the error stream of a command)
    return exit_code
