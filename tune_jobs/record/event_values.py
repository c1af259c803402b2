"""Which values an event of the journal may have: those that a driver writes and that all readers can use.

Each value of each line is checked when a run is read, so the checks of epochs take whole reports at once.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from types import UnionType
from typing import Any, get_args, get_origin

Check = Callable[[Any], bool]

_END_OF_TIME = 253_402_300_800
"""Unix time of the first second of the year 10,000: no later one can be shown as a date."""
_DEEPEST = 50
"""Levels of lists and mappings that a value may have: more cannot be copied and written again."""
_TRIAL_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
"""Names of trials, which are names of folders too."""
_NUMBERS = frozenset({int, float, bool})
_LISTS = frozenset({list, tuple})
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1
"""Bounds of the whole numbers that a column of a table can hold."""


def check_of(name: str, annotation: Any) -> Check:
    """Return the check of a field of this name and type, for values from JSON.

    Pydantic would refuse text with half a surrogate pair, which the message of an error may hold.
    """
    return _BY_NAME.get(name) or _by_type(annotation)


def count_texts(value: Any) -> int:
    """Return the number of texts in a value from JSON, keys included."""
    if type(value) is dict:
        return len(value) + sum(map(count_texts, value.values()))
    return sum(map(count_texts, value)) if type(value) is list else int(type(value) is str)


def _by_type(annotation: Any) -> Check:
    if isinstance(annotation, UnionType):
        checks = [_by_type(one) for one in get_args(annotation)]
        return lambda value: any(check(value) for check in checks)
    if get_origin(annotation) is Mapping:
        of_value = _by_type(get_args(annotation)[1])
        return lambda value: type(value) is dict and all(map(of_value, value.values()))
    if get_origin(annotation) is Sequence:
        of_item = _by_type(get_args(annotation)[0])
        return lambda value: type(value) in _LISTS and all(map(of_item, value))
    numbers: Mapping[Any, Check] = {float: _is_number, int: _is_whole}
    return numbers.get(annotation) or (lambda value: type(value) is annotation)


def _is_whole(value: Any) -> bool:
    return type(value) is int and _SMALLEST <= value <= _LARGEST


def _is_number(value: Any) -> bool:
    return type(value) is float or _is_whole(value)


def _is_time(value: Any) -> bool:
    return _is_number(value) and 0 <= value < _END_OF_TIME


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST


def _is_trial_id(value: Any) -> bool:
    return type(value) is str and _TRIAL_ID.fullmatch(value) is not None


def _is_winner(value: Any) -> bool:
    return value is None or _is_trial_id(value)


def _is_file(value: Any) -> bool:
    """Return whether the value is a relative path that stays inside the run folder."""
    return type(value) is str and not {"..", ""} & set(value.split("/"))


def _is_shallow_mapping(value: Any) -> bool:
    return type(value) is dict and _depth_is_below(_DEEPEST, value)


def _depth_is_below(levels: int, value: Any) -> bool:
    if not isinstance(value, dict | list):
        return True
    below = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_depth_is_below(levels - 1, one) for one in below)


def _is_results(value: Any) -> bool:
    """Return whether the value is a list of rows of epochs, or the mapping of an evaluation."""
    if type(value) in _LISTS:
        return {dict}.issuperset(map(type, value)) and are_rows(value)
    return type(value) is dict and all(map(_is_number, value.values()))


def are_rows(rows: Sequence[dict[str, Any]]) -> bool:
    """Return whether each row has its epoch, its seconds, and numbers alone."""
    try:
        epochs, _ = [row["epoch"] for row in rows], [row["seconds"] for row in rows]
    except KeyError:
        return False
    types = [*map(type, chain.from_iterable(map(dict.values, rows)))]
    if not _NUMBERS.issuperset(types) or not {int}.issuperset(map(type, epochs)):
        return False
    if types.count(int) > len(epochs) and not all(
        _is_whole(one) for row in rows for one in row.values() if type(one) is int
    ):
        return False
    return not epochs or 0 < min(epochs) <= max(epochs) <= _LARGEST


_BY_NAME: Mapping[str, Check] = {
    "time": _is_time,
    "trial_id": _is_trial_id,
    "winner": _is_winner,
    "file": _is_file,
    "configuration": _is_shallow_mapping,
    "changes": _is_shallow_mapping,
    "results": _is_results,
    "number": _is_count,
    "trials": _is_count,
    "epoch": _is_count,
}
"""Checks of fields whose type does not say all."""
