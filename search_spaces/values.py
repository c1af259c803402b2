"""Values of a configuration: any value that JSON can write, distinguished by type.

Here 1, 1.0 and true are three different values, although they are equal in Python.
"""

import json
import math
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, TypeGuard

_PLAIN_WORD = re.compile(r"[A-Za-z_][\w./:-]*")
_OTHER_MEANING = {"true", "false", "null", "nan", "inf", "infinity"}


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether `value` is a number; True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: object) -> TypeGuard[int]:
    """Return whether `value` is an int; True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def plain(value: object) -> Any:
    """Return a deep copy of `value` in dicts, lists and scalars.

    Raises:
        TypeError: JSON cannot write the value; the text names the part.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{value} is not a finite number")
        return value
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        if any(not isinstance(key, str) for key in value):
            raise TypeError(f"{show(value)} has keys that are not text")
        return {key: plain(item) for key, item in value.items()}
    raise TypeError(
        f"{show(value)} is {kind(value)}; valid are text, numbers, true, false, null, lists, mappings"
    )


def canonical(value: object) -> str:
    """Return `value` as JSON with sorted keys: equal texts for equal values of equal types.

    Raises:
        TypeError: JSON cannot write the value.
    """
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"))


def show(value: object) -> str:
    """Return `value` as a job file would write it, for messages."""
    if isinstance(value, str) and _PLAIN_WORD.fullmatch(value) and value.lower() not in _OTHER_MEANING:
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return repr(value)


def kind(value: object) -> str:
    """Return the type of `value` in the words of a job file, for messages."""
    if value is None:
        return "an empty value"
    if isinstance(value, bool):
        return "a truth value"
    names = {str: "text", int: "a whole number", float: "a number", list: "a list", dict: "a mapping"}
    return names.get(type(value), f"a Python {type(value).__name__}")


def exact(number: float) -> Fraction:
    """Return the decimal number as written: 0.1 is a tenth, not the nearest binary fraction."""
    return Fraction(number) if isinstance(number, int) else Fraction(repr(float(number)))
