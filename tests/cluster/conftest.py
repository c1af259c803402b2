"""What the tests on several hosts share: why they are left out where no hosts can be made."""

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
    """A folder for what hosts keep."""
    folder = Path(tempfile.mkdtemp(prefix="tjh"))
    yield folder
    shutil.rmtree(folder)
