"""What all tests share: Ray in a folder of its own, gone when the tests are."""

import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def private_ray_folder() -> Iterator[None]:
    """Unix sockets allow 107 characters, so the folder's path is short."""
    folder = tempfile.mkdtemp(prefix="tj")
    os.environ["RAY_TMPDIR"] = folder
    yield
    shutil.rmtree(folder, ignore_errors=True)
