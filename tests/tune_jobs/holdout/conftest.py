"""Fixtures of the sealed test rows."""

import numpy as np
import pytest

from tests.tune_jobs.holdout.lines import begin
from tune_jobs.record.folder import RunFolder
from tune_jobs.trainers.data import Rows


@pytest.fixture
def rows() -> Rows:
    generator = np.random.default_rng(0)
    return Rows(generator.normal(size=(5, 3)).astype(np.float32), np.arange(5))


@pytest.fixture
def sealed(folder: RunFolder, rows: Rows) -> RunFolder:
    return begin(folder, rows)
