"""Messages about wrong settings, in the words of the job file: dotted key, what was given, what is valid."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tune_jobs.text import did_you_mean

_VALID = {
    "bool_type": "true or false",
    "dict_type": "a section of `key: value` lines",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "a number above {gt:.12g}",
    "greater_than_equal": "a number of at least {ge:.12g}",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "invalid_key": "keys that are text",
    "less_than": "a number below {lt:.12g}",
    "less_than_equal": "a number of at most {le:.12g}",
    "literal_error": "{expected}",
    "model_type": "a section of `key: value` lines",
    "none_required": "null",
    "string_too_long": "text of at most {max_length} characters",
    "string_type": "text",
    "tuple_type": "a list",
}
_PATTERNS = {
    ":[A-Za-z_]": "`package.module:function`",
    "^[A-Za-z0-9][": "letters, digits, - _ and . with a letter or digit first",
    "auto|cpu": "auto, cpu, mps, cuda or cuda:N",
}


def problems_of(
    error: ValidationError,
    given: object,
    model: type[BaseModel] | None,
    prefix: str = "",
    elsewhere: Mapping[str, str] = MappingProxyType({}),
) -> list[tuple[str, str]]:
    """Return what `error` found in `given`: a dotted key and a message for each place in it.

    Args:
        error: The error that `model` raised on `given`.
        given: The raw value, as read from the file.
        model: The settings class. The closest keys are looked for in it.
        prefix: Dotted key of `given` in the job file, such as `training`.
        elsewhere: See `unknown_key`.
    """
    grouped: dict[str, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        grouped.setdefault(_path(details, given), []).append(details)
    problems: list[tuple[str, str]] = []
    for path, errors in grouped.items():
        if any(other.startswith(f"{path}.") for other in grouped):
            continue  # another branch of the union got further: its problem is the one to mend
        if errors[0]["type"] == "search_space":
            problems += [(f"{prefix}.{path}.{p.path}", p.message) for p in errors[0]["ctx"]["problems"]]
        else:
            problems.append(_problem(path, errors, model, prefix, elsewhere))
    return problems


def not_plain(path: str, value: object) -> list[tuple[str, str]]:
    """Return what a job file cannot hold of a value. Most of it can only come from Python."""
    if isinstance(value, dict):
        return [
            problem
            for key, below in value.items()
            for problem in (
                not_plain(f"{path}.{key}", below)
                if isinstance(key, str)
                else [(path, f"given the key {key!r}; valid: keys that are text")]
            )
        ]
    if isinstance(value, list | tuple):
        return [p for index, below in enumerate(value) for p in not_plain(f"{path}.{index}", below)]
    if value is None or type(value) in {bool, int, str} or (type(value) is float and math.isfinite(value)):
        return []
    valid = "text, finite numbers, true, false, null, lists and sections"
    return [(path, f"given {value!r}; valid: {valid}")]


def unknown_key(key: str, valid: Sequence[str], elsewhere: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the message about a key that does not exist: it names the right or the closest one, or else all.

    Args:
        key: The key that was given.
        valid: The keys that exist at this place.
        elsewhere: See `place_of`.
    """
    return "unknown key" + (
        place_of(key, elsewhere) or did_you_mean(key, valid) or f"; valid: {', '.join(sorted(valid))}"
    )


def place_of(key: str, elsewhere: Mapping[str, str]) -> str:
    """Return a clause that ends a message, `; did you mean training.max_epochs?`; empty if the key is unknown there.

    Args:
        key: The key that was given.
        elsewhere: Names that are common in the field, without - _ . and in lower case, with their keys in a job.
    """
    place = elsewhere.get(re.sub(r"[-_. ]", "", key).lower())
    return "" if place is None else f"; did you mean {place!r}?"


def _path(details: ErrorDetails, given: object) -> str:
    """Return the part of pydantic's location that exists in `given`, without the names of union branches."""
    location = details["loc"]
    if details["type"] in {"missing", "extra_forbidden"}:
        return ".".join(str(part) for part in location if not str(part).startswith("function-"))
    path: list[str] = []
    for part in location:
        below = dict(given) if isinstance(given, Mapping) else {}
        if isinstance(given, list | tuple):
            below = dict(enumerate(given))
        if part not in below:
            continue
        given = below[part]
        path.append(str(part))
    return ".".join(path)


def _problem(
    path: str,
    errors: Sequence[ErrorDetails],
    model: type[BaseModel] | None,
    prefix: str,
    elsewhere: Mapping[str, str],
) -> tuple[str, str]:
    first = errors[0]
    dotted = ".".join(part for part in (prefix, path) if part)
    if first["type"] == "missing":
        return (dotted, "missing; this key is required")
    if first["type"] == "extra_forbidden":
        return (dotted, unknown_key(str(first["loc"][-1]), _keys_at(model, first["loc"][:-1]), elsewhere))
    if first["type"] == "value_error":
        return (dotted, str(first["ctx"]["error"]))
    *others, valid = dict.fromkeys(_valid(details) for details in errors)
    if others:
        valid = f"{', '.join(others).replace(' or ', ', ')} or {valid}"
    hint = did_you_mean(first["input"], _literals(errors)) if isinstance(first["input"], str) else ""
    return (dotted, f"given {_show(first['input'])}; valid: {valid}{hint}")


def _valid(details: ErrorDetails) -> str:
    context: Mapping[str, Any] = details.get("ctx", {})
    if details["type"] == "string_pattern_mismatch":
        pattern = context["pattern"]
        return next((text for part, text in _PATTERNS.items() if part in pattern), f"text like {pattern}")
    text = _VALID.get(details["type"])
    if text is None:
        return details["msg"][:1].lower() + details["msg"][1:]
    return text.format(**context).replace("'", "")


def _literals(errors: Iterable[ErrorDetails]) -> list[str]:
    expected = [str(e["ctx"]["expected"]) for e in errors if e["type"] == "literal_error"]
    return [name for text in expected for name in text.split("'")[1::2]]


def _show(value: object) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    text = {"None": "null", "True": "true", "False": "false"}.get(text, text)
    return text if len(text) <= 60 else text[:57] + "..."


def _keys_at(model: type[BaseModel] | None, location: Sequence[int | str]) -> list[str]:
    """Return the valid keys of the settings class to which `location` leads from `model`."""
    if model is None:
        return []
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None:
            break
        below = settings_class(field.annotation)
        if below is not None:
            model = below
    return list(model.model_fields)


def settings_class(annotation: Any) -> type[BaseModel] | None:
    """Return the settings class of a field, or of one branch of its union; None if there is none."""
    candidates = (annotation, *getattr(annotation, "__args__", ()))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
