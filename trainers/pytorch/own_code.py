"""Call the user's functions that build models, losses, optimizers and schedules, and explain what they refuse."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from tune_jobs.trainers.errors import ModelError
from tune_jobs.trainers.references import calling


def select_accepted(function: Callable[..., object], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `given` that the signature of the function names."""
    parameters = inspect.signature(function).parameters.values()
    takes = {p.name for p in parameters if p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY}}
    return {name: value for name, value in given.items() if name in takes}


def check_arguments(
    what: str, function: Callable[..., object], arguments: Mapping[str, Any], *positional: object
) -> None:
    """Check that a function can be called with these arguments.

    Args:
        what: What the function is in the job, such as `model my_code:network`.
        function: The function of the user.
        arguments: The keyword arguments.
        positional: The arguments in front of them; their values do not matter.

    Raises:
        ModelError: It cannot.
    """
    try:
        inspect.signature(function).bind(*positional, **arguments)
    except TypeError as error:
        raise ModelError(
            f"{what} cannot be called with arguments {sorted(arguments)}: {error}; its "
            f"signature is {inspect.signature(function)}"
        ) from error
    except ValueError:  # compiled functions may have no signature
        pass


def build(
    what: str,
    reference: str,
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    *positional: object,
) -> Any:
    """Return what the function of a loaded reference returns.

    Args:
        what: What it builds: `model`, for example.
        reference: The reference.
        function: The function.
        arguments: The keyword arguments.
        positional: The arguments in front of them.

    Raises:
        ModelError: It cannot be called with these arguments, or fails.
    """
    check_arguments(f"{what} {reference}", function, arguments, *positional)
    try:
        with calling(reference):
            return function(*positional, **arguments)
    except (Exception, SystemExit) as error:  # the user's code may do anything
        raise ModelError(
            f"{what} {reference} could not be built with {dict(arguments)}: {type(error).__name__}: {error}"
        ) from error
