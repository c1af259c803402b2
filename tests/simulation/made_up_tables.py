"""Tables of made-up learning curves, as a fixture."""

from collections.abc import Callable

import numpy as np
import pytest

from tests.simulation.curve_tables import Table

MakeTable = Callable[..., Table]


@pytest.fixture(scope="session")
def make_table() -> MakeTable:
    """Return a function that makes tables: configurations near a certain point learn best, and a few diverge."""

    def make(name: str = "toy", *, configurations: int = 80, steps: int = 9, diverging: int = 5) -> Table:
        random = np.random.default_rng(len(name))
        points = np.stack(
            [np.exp(random.uniform(-9, 0, configurations)), random.uniform(0, 1, configurations)], axis=1
        )
        distance = np.abs(np.log(points[:, 0]) + 4) / 5 + np.abs(points[:, 1] - 0.3)
        valid = distance[:, None] + np.exp(-np.arange(steps) / (1 + distance[:, None]))
        for number, configuration in enumerate(random.permutation(configurations)[:diverging]):
            valid[configuration, number % 3 :] = np.nan
        return Table(name, ("lr", "momentum"), points, valid - 0.1, valid, valid + 0.1)

    return make
