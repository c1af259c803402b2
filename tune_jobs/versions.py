"""Versions of Python and of packages in this process, and differences between two processes."""

import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version

ALIKE = ("tune-jobs", "ray")
"""Packages that must have the same version in all processes of a run, because results and messages depend on them. The
kind of training adds its own."""
_NAMES = {"python": "Python", "ray": "Ray"}


def versions_here(packages: Iterable[str] = ALIKE) -> dict[str, str]:
    """Return the versions of Python and of the `packages` that are installed, by name."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def differences(
    wanted: Mapping[str, str],
    found: Mapping[str, str],
    sides: tuple[str, str] = ("here", "there"),
    *,
    python_numbers: int = 3,
) -> str:
    """Return the versions in which two processes differ, as text; empty if they agree.

    Builds do not count: torch `2.13.0+cpu` computes what `2.13.0+cu130` does.

    Args:
        wanted: Versions by the names of Python and packages. All of these are compared.
        found: Versions of the other process.
        sides: Words for the places of the two processes.
        python_numbers: How many leading numbers of Python's version count. Ray joins only processes that agree in all
            three; 2 are enough if the processes exchange only files and text.
    """

    def counts(name: str, text: str | None) -> str | None:
        if text is None:
            return None
        return ".".join(text.split(".")[:python_numbers]) if name == "python" else text.partition("+")[0]

    return ", ".join(
        f"{_NAMES.get(name, name)} {text} {sides[0]} and {found.get(name, 'none')} {sides[1]}"
        for name, text in wanted.items()
        if counts(name, text) != counts(name, found.get(name))
    )
