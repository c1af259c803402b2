"""Reading and writing the text of a job file, and the dotted overrides of the command line.

YAML 1.2 through ruamel.yaml: `1e-4` is a number, `no` is text, and a duplicate key is an error.
"""

import copy
import io
import re
import reprlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError, YAMLWarning
from ruamel.yaml.representer import SafeRepresenter

from tune_jobs.errors import JobError
from tune_jobs.search_spaces import Problem
from tune_jobs.trainers.kinds import known_sections

_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*")
"""Text that needs no quotes; other text is written in double quotes, in which every character can be escaped."""
_ENTRY_KEYS = frozenset({"low", "high", "log", "step", "values", "when", "type"})
"""Keys of a parameter of the search space."""


class _Constructor(SafeConstructor):
    """A constructor that leaves dates as text."""


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)


_FLOAT_1_1 = re.compile(
    r"[-+]?([0-9][0-9_]*)?\.[0-9_]*([eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+\.[0-9_]*"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)


class _Constructor11(_Constructor):
    """A constructor that reads YAML 1.1 as PyYAML does: `1e-3`, which has no dot, and `y` are text."""

    def construct_yaml_float(self, node: Any) -> Any:
        return super().construct_yaml_float(node) if _FLOAT_1_1.fullmatch(node.value) else node.value

    def construct_yaml_bool(self, node: Any) -> Any:
        return node.value if len(node.value) == 1 else super().construct_yaml_bool(node)


_Constructor11.add_constructor("tag:yaml.org,2002:bool", _Constructor11.construct_yaml_bool)
_Constructor11.add_constructor("tag:yaml.org,2002:float", _Constructor11.construct_yaml_float)


class _Document(dict[str, Any]):
    """The whole file, with one key per line."""


class _Representer(SafeRepresenter):
    """A representer that quotes text if that may matter."""

    def represent_document(self, data: _Document) -> Any:
        return self.represent_mapping("tag:yaml.org,2002:map", data, flow_style=False)

    def represent_str(self, data: str) -> Any:
        style = None if _BARE.fullmatch(data) else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Representer.add_representer(_Document, _Representer.represent_document)
_Representer.add_representer(str, _Representer.represent_str)


YAML_1_1 = (1, 1)
"""The version of YAML of other tools: `yes` is true, `010` is 8, `1:30` is 90, `1e-3` is text."""


def read_yaml(path: Path, version: tuple[int, int] | None = None) -> dict[str, Any]:
    """Read the sections of the job file at `path`, in YAML 1.2 or in another version.

    Raises:
        JobError: There is no such file, or it is not YAML, or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise _file_problem(path, f"no such file; the current folder is {Path.cwd()}") from None
    except IsADirectoryError:
        raise _file_problem(path, "a folder; give the job file in it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise _file_problem(path, f"cannot be read: {error}") from error
    try:
        sections = parse_yaml(text, version)
    except YAMLError as error:
        raise _file_problem(path, f"not valid YAML: {_where(error)}") from error
    if not isinstance(sections, dict):
        found = (
            "nothing"
            if sections is None
            else "a list"
            if isinstance(sections, list)
            else reprlib.repr(sections)
        )
        raise _file_problem(path, f"holds {found}; a job file holds sections such as `data:` and `search:`")
    return sections


def parse_yaml(text: str, version: tuple[int, int] | None = None) -> Any:
    """Return the plain value of the YAML in `text`; raises `YAMLError`."""
    reader = YAML(typ="safe", pure=True)
    reader.version = version
    reader.Constructor = _Constructor11 if version == YAML_1_1 else _Constructor
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", YAMLWarning)  # an anchor may be redefined, and 1e-3 has no dot
            if "*" in text:
                _refuse_growth(YAML(typ="safe", pure=True).compose(text))
            return _plain(reader.load(text))
    except RecursionError:
        raise YAMLError("nested too deeply, or an alias that contains itself") from None
    except (ValueError, KeyError) as error:  # for a value that contradicts its form or tag
        raise YAMLError(f"a value cannot be read ({error})") from error


MOST_VALUES = 200_000
"""Values of a YAML text with aliases, each counted as often as it is named: a few lines can name billions."""
MOST_BITS = 14_000
"""Bits of a whole number, some 4,200 digits: Python refuses to print a little more."""


def _refuse_growth(root: Any) -> None:
    """Raise `YAMLError` if aliases make the value too large, before it is made."""
    sizes: dict[int, int] = {}

    def size(node: Any) -> int:
        if id(node) not in sizes:
            below = node.value if isinstance(node.value, list) else ()
            children = [child for one in below for child in (one if isinstance(one, tuple) else (one,))]
            sizes[id(node)] = 1 + sum(map(size, children))
        return sizes[id(node)]

    if root is not None and size(root) > MOST_VALUES:
        raise YAMLError(f"its aliases stand for more than {MOST_VALUES:,} values; write the values once")


def dump_yaml(sections: Mapping[str, Any]) -> str:
    """Return `sections` as YAML text, in their order."""
    writer = YAML(typ="safe", pure=True)
    writer.Representer = _Representer
    writer.width = 100_000  # lines are never folded
    writer.default_flow_style = None  # innermost lists and mappings on one line
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # ruamel declares its default
    stream = io.StringIO()
    writer.dump(_Document(sections), stream)
    return stream.getvalue()


def parse_overrides(arguments: Sequence[str]) -> list[tuple[str, Any]]:
    """Return pairs of a dotted name and its value from `--a.b value` and `--a.b=value`.

    Values are read as YAML: `64`, `1e-3`, `[32, 64]`, `null`, `true`, and text otherwise.

    Raises:
        JobError: An argument has no name or no value.
    """
    pairs: list[tuple[str, Any]] = []
    problems: list[Problem] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, separator, text = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not name:
            problems.append(Problem(argument, "not understood; an override is `--section.key value`"))
        elif separator:
            pairs.append((name, _value(text)))
        elif rest and not rest[0].startswith("--"):
            pairs.append((name, _value(rest.pop(0))))
        else:
            problems.append(Problem(argument, f"has no value; write `{argument} VALUE`"))
    if problems:
        raise JobError(problems, name="the command line")
    return pairs


def apply_overrides(sections: Mapping[str, Any], overrides: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return a copy of `sections` with each dotted name set; missing and null sections are created.

    Raises:
        JobError: A name leads through a value that is not a section.
    """
    result = copy.deepcopy(dict(sections))
    problems = []
    for name, value in overrides:
        *path, key = _split_name(name)
        below = result
        for part in path:
            if below.get(part) is None:
                below[part] = {}
            if not isinstance(below[part], dict):
                problems.append(
                    Problem(name, f"{part} is {below[part]!r}, not a section that can hold {key!r}")
                )
                break
            below = below[part]
        else:
            below[key] = copy.deepcopy(value)
    if problems:
        raise JobError(problems, name="the command line")
    return result


def _split_name(name: str) -> list[str]:
    """Return the keys of a dotted name; names of search parameters may contain dots (`model.hidden`)."""
    parts = name.split(".")
    if parts[:2] != ["search", "space"] or len(parts) < 4:
        return parts
    first, last = (4, len(parts)) if parts[2] in known_sections() else (3, 3)
    end = next((i for i in range(first, len(parts)) if parts[i] in _ENTRY_KEYS), last)
    split = ["search", "space", ".".join(parts[2:end]), *parts[end:]]
    if split[3:4] == ["when"] and len(split) > 4:
        split[4:] = [".".join(split[4:])]
    return split


def _value(text: str) -> Any:
    try:
        value = parse_yaml(text)
    except YAMLError:
        return text
    return text if value == {text.removesuffix(":"): None} else value  # `module:` is half a reference


def _plain(value: Any) -> Any:
    """Return a plain value: anything except a section, list, number or text becomes text."""
    if isinstance(value, dict):
        return {str(key): _plain(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_plain(below) for below in value]
    if isinstance(value, str):
        value.encode()  # a lone surrogate can be escaped in YAML, but it is not text
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        digits = f"{value.bit_length() * 0.30103:,.0f}"
        raise ValueError(f"a whole number of about {digits} digits; valid: at most 4,200")
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _where(error: YAMLError) -> str:
    if isinstance(error, DuplicateKeyError):
        return str(error.problem).split(" with value")[0].replace("found duplicate", "duplicate") + _line(
            error
        )
    if isinstance(error, MarkedYAMLError):
        whole = f"{error.context}, {error.problem}"
        return f"{whole if str(error.problem).startswith('but ') else error.problem}{_line(error)}"
    return str(error).splitlines()[0]


def _line(error: MarkedYAMLError) -> str:
    return "" if error.problem_mark is None else f" (line {error.problem_mark.line + 1})"


def _file_problem(path: Path, message: str) -> JobError:
    return JobError([Problem(str(path), message)], name="the job file")
