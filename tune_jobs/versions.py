"""Versions of Python and of packages: which a process has, and in what two processes differ."""

import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version

ALIKE = ("tune-jobs", "torch", "ray")
"""Must be the same wherever a run is at work: what a trial computes, or how it is told of, depends on them."""
_NAMES = {"python": "Python", "ray": "Ray"}


def versions_here(packages: Iterable[str] = ALIKE) -> dict[str, str]:
    """Of Python and of those of the packages that are installed."""
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
    """In which versions two processes differ; empty if in none.

    Builds are no difference: torch `2.13.0+cpu` computes what `2.13.0+cu130` does.

    Args:
        wanted: versions by the names of Python and packages; all these are looked at.
        found: those of the other process.
        sides: where the two are.
        python_numbers: how many numbers of Python's version count. Ray joins processes of the same three alone; where
            nothing but files and text is exchanged, 2 are enough.
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
