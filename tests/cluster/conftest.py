"""Fixtures of the tests on several hosts. The tests are skipped with a reason if no hosts can be made."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.hosts import why_impossible


@pytest.fixture(scope="session", autouse=True)
def possible() -> None:
    reason = why_impossible()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def disks() -> Iterator[Path]:
    """Return a folder for the disks of hosts."""
    folder = Path(tempfile.mkdtemp(prefix="tjh"))
    yield folder
    shutil.rmtree(folder)
