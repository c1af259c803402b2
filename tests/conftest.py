"""Fixtures of all tests: Ray in a temporary folder."""

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.processes import end_started

# The collected tests and the modules that they import stay. A look at all of these objects takes a third of a second,
# and garbage collection would look at them again and again.
gc.disable()

# The time to make or run an example means nothing on a machine under load.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

LONGEST = (
    "cluster/test_run_on_a_cluster.py",
    "tune_jobs/tracking/test_wandb_upload.py",
    "tune_jobs/remote/test_remote_run.py",
    "tune_jobs/submission/test_on_a_cluster.py",
    "tune_jobs/driver/test_run.py",
    "tune_jobs/driver/test_resume.py",
    "faults/test_killed_workers.py",
    "faults/test_bad_numbers.py",
    "faults/test_killed_processes.py",
    "tune_jobs/worker/test_group.py",
    "tune_jobs/tuning/test_worker_loss.py",
    "tune_jobs/tracking/test_wandb_run.py",
)
"""Files that take a minute or more."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, then others with slow tests: a process that takes a file last has a short one."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: places.get(item.path, len(places) + (item.path not in slow)))


def pytest_collection_finish() -> None:
    """Collect garbage from now on, except among what is there already."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def private_ray_folder() -> Iterator[None]:
    """Unix sockets allow 107 characters, so the folder's path is short."""
    folder = tempfile.mkdtemp(prefix="tj")
    os.environ["RAY_TMPDIR"] = folder
    os.environ.update(RAY_prestart_worker_first_driver="0")  # also where a test starts the nodes of a cluster
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # many processes import the same modules
    yield
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> Iterator[None]:
    """Give tests and what they start the usual signals: in a shell's background, and by nohup, some are ignored."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def ray_running() -> Iterator[None]:
    """Start one Ray for all runs of a file: a run uses the Ray of its process."""
    from tune_jobs.tuning.ray_session import ray_connection

    with ray_connection():
        yield


@pytest.fixture(scope="module")
def slope_kind() -> Iterator[None]:
    """Make the small kind of training known while the tests of a file run."""
    from tests.trainers.slope import slope_registered

    with slope_registered():
        yield


@pytest.fixture(autouse=True)
def no_process_stays() -> Iterator[None]:
    yield
    end_started()
