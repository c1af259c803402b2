"""Fixtures of the tests that inject faults: an undisturbed run to compare killed runs with."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.injection import CHAOS
from tests.faults.killing import CommandLine, Undisturbed, wait_until_gone
from tests.trainers.slope import slope_registered
from tune_jobs import open_run

TRAINING = """
name: killed
data: {source: linear_gaussian, arguments: {n: 100, sigma: 0.1}}
model: {name: "user_code:slow"}
training: {max_epochs: 9, loss: mse}
search:
  space:
    lr: {low: 1e-4, high: 0.5, log: true}
    batch_size: {values: [8, 16]}
    optimizer: {values: [sgd, adam]}
  trials: 14
scheduler: {grace_epochs: 1}
resources: {max_concurrent: 1}
"""
"""The job of the full form, with PyTorch and a model that proposes trials."""
LINE = """
name: killed
slope: {epochs: 9, pause: 0.04}
search:
  space:
    rate: {low: 1e-4, high: 0.5, log: true}
    decay: {values: [0.0, 0.01]}
  method: random
  trials: 14
scheduler: {grace_epochs: 1}
selection: {metric: error}
resources: {max_concurrent: 1}
"""
"""The job of the short form: its processes start in a third of the time."""
CODE = """
import time
from torch import nn

class Slow(nn.Linear):
    def train(self, mode=True):
        time.sleep(0.04 * mode)
        return super().train(mode)

def slow(input_shape, outputs):
    return Slow(input_shape[0], outputs)
"""


@pytest.fixture(scope="session")
def ray_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tjk"))
    yield folder
    assert wait_until_gone(folder) == [], "processes were left behind"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def small_kind() -> Iterator[None]:
    """Let this process read runs of the small kind."""
    with slope_registered():
        yield


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    (folder / "job.yaml").write_text(TRAINING if CHAOS else LINE)
    (folder / "user_code.py").write_text(CODE)
    return folder


@pytest.fixture(scope="session")
def undisturbed(home: Path, ray_folder: Path) -> Undisturbed:
    command = CommandLine(home, home / "undisturbed", ray_folder)
    began = time.monotonic()
    assert command.run().wait() == 0, command.said
    seconds = time.monotonic() - began
    made = command.made()
    assert made is not None
    with slope_registered():
        return Undisturbed(open_run(made), seconds)
