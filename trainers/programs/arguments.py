"""Write the values of a configuration as arguments of a program, in the way that its parser reads them.

No spelling serves all parsers, and wrong ones give wrong values in silence: `--k False` is true for absl, and text for
Fire if it is `false`. A value that a style cannot write is an error.
"""

import ast
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

Style = Literal["argparse", "click", "fire", "absl", "hydra", "lightning", "tyro", "json", "env"]
"""The parser of a program: how it takes parameters."""
Words = list[str]


def write_arguments(style: Style, configuration: Mapping[str, Any], file: Path) -> Words:
    """Return the arguments for a configuration; for `json` the path of `file`, and none for `env`."""
    if style == "json":
        return [str(file)]
    if style == "env":
        return []
    write = _STYLES[style]
    return [word for name, value in configuration.items() for word in write(name, value)]


def write_environment(configuration: Mapping[str, Any]) -> dict[str, str]:
    """Return environment variables for a configuration: text as it is, other values as JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in configuration.items()
    }


def _argparse(name: str, value: Any) -> Words:
    if value is None or value is False:
        return []
    if value is True:
        return [f"--{name}"]
    return [f"--{name}", *map(_text, value)] if _is_list(value) else [f"--{name}={_text(value)}"]


def _click(name: str, value: Any) -> Words:
    return [f"--{name}={_text(each)}" for each in value] if _is_list(value) else _argparse(name, value)


def _tyro(name: str, value: Any) -> Words:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}=None"] if value is None else _argparse(name, value)


def _absl(name: str, value: Any) -> Words:
    if value is None:
        return []
    return [f"--{name}={','.join(map(_text, value)) if _is_list(value) else _text(value)}"]


def _fire(name: str, value: Any) -> Words:
    return [f"--{name}={_literal(value)}"]


def _lightning(name: str, value: Any) -> Words:
    return [f"--{name}={value if isinstance(value, str) else json.dumps(value)}"]


def _hydra(name: str, value: Any) -> Words:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return [f"{name}='{escaped}'"]
    return [f"{name}={json.dumps(value)}"] if not _is_list(value) else [f"{name}=[{_hydra_items(value)}]"]


def _hydra_items(values: Sequence[Any]) -> str:
    return ",".join(_hydra("", value)[0].removeprefix("=") for value in values)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _literal(value: Any) -> str:
    """Return a value as Fire reads it: text that looks like another value has quotes."""
    if not isinstance(value, str):
        return repr(list(value) if _is_list(value) else value).replace(" ", "")
    try:
        ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value if value.isidentifier() else repr(value)
    return repr(value)


_STYLES: Mapping[str, Callable[[str, Any], Words]] = {
    "argparse": _argparse,
    "click": _click,
    "fire": _fire,
    "absl": _absl,
    "hydra": _hydra,
    "lightning": _lightning,
    "tyro": _tyro,
}
