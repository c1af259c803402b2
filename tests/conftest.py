"""What all tests share: Ray in a folder of its own, gone when the tests are."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator

import pytest

from tests.processes import end_started


@pytest.fixture(scope="session", autouse=True)
def private_ray_folder() -> Iterator[None]:
    """Unix sockets allow 107 characters, so the folder's path is short."""
    folder = tempfile.mkdtemp(prefix="tj")
    os.environ["RAY_TMPDIR"] = folder
    yield
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> Iterator[None]:
    """Give processes that tests start the usual Ctrl-C: a shell starts jobs in the background with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def no_process_stays() -> Iterator[None]:
    yield
    end_started()
