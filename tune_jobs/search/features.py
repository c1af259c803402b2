"""Configurations as vectors of a unit cube, for models that measure distances."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tune_jobs.search.history import Configuration
from tune_jobs.search_spaces import Choice, Domain, Float, Int, SearchSpace

INACTIVE = 0.5
"""Feature of an inactive parameter: the middle of its range. Only the parent's feature then tells trials apart."""


class Features:
    """Encodes the configurations of a space.

    A number takes one feature, on a log scale if the space says so. A choice of numbers takes one feature, by the
    position in ascending order. Any other choice takes a feature per value, so that all values are equally far
    apart. A parameter with one value takes none.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._columns: list[tuple[str, Callable[[Any], float]]] = []
        for name in space.order:
            self._columns += [(name, scale) for scale in _scales(space.parameters[name].domain)]

    @property
    def size(self) -> int:
        """Return the number of features of a configuration."""
        return len(self._columns)

    def encode(self, configurations: Sequence[Configuration]) -> np.ndarray:
        """Return the configurations as rows: float64 [n, size], each value from 0 to 1."""
        return np.array(
            [
                [
                    scale(configuration[name]) if name in configuration else INACTIVE
                    for name, scale in self._columns
                ]
                for configuration in configurations
            ],
            dtype=float,
        ).reshape(len(configurations), self.size)


def _scales(domain: Domain) -> list[Callable[[Any], float]]:
    if domain.size() == 1:
        return []
    match domain:
        case Float(low=low, high=high, log=log) | Int(low=low, high=high, log=log):
            return [_number_scale(float(low), float(high), log)]
        case Choice(values=values):
            keys = [domain.key(value) for value in values]
            if all(type(value) in {int, float} for value in values):
                rising = sorted(values)
                places = {domain.key(value): place / (len(values) - 1) for place, value in enumerate(rising)}
                return [lambda value: places[domain.key(value)]]
            return [partial(_is, domain, key) for key in keys]


def _is(choice: Choice, key: str, value: Any) -> float:
    return float(choice.key(value) == key)


def _number_scale(low: float, high: float, log: bool) -> Callable[[Any], float]:
    if log:
        start, span = math.log(low), math.log(high) - math.log(low)
        return lambda value: (
            (math.log(value) - start) / (span or 1.0)
        )  # adjacent doubles share their logarithm
    if math.isinf(high - low):
        return lambda value: (value / 2 - low / 2) / (high / 2 - low / 2)
    return lambda value: (value - low) / (high - low)
