"""Drivers that are killed at random moments, and again while they resume: every run ends as an undisturbed one."""

import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.injection import CHAOS, Tally
from tests.faults.killing import CommandLine, count_lost, kill_after, reported, same_tables, wait_until_gone
from tune_jobs import Run, open_run
from tune_jobs.events import Ending

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

KILLS = 50 if CHAOS else 3
AGAIN = 0.4
"""Share of the runs whose resumption is killed as well."""
JOB = """
name: killed
data: {source: linear_gaussian, arguments: {n: 100, sigma: 0.1}}
model: {name: "user_code:slow"}
training: {max_epochs: 9, loss: mse}
search:
  space:
    lr: {low: 1e-4, high: 0.5, log: true}
    batch_size: {values: [8, 16]}
    optimizer: {values: [sgd, adam]}
  trials: 24
scheduler: {grace_epochs: 1}
resources: {max_concurrent: 1}
"""
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


@dataclass(frozen=True)
class Undisturbed:
    """What a run comes to, and how long it takes."""

    made: Run
    seconds: float


@pytest.fixture(scope="module")
def ray_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tjk"))
    yield folder
    assert wait_until_gone(folder) == [], "processes were left behind"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    (folder / "job.yaml").write_text(JOB)
    (folder / "user_code.py").write_text(CODE)
    return folder


@pytest.fixture(scope="module")
def undisturbed(home: Path, ray_folder: Path) -> Undisturbed:
    command = CommandLine(home, home / "undisturbed", ray_folder)
    began = time.monotonic()
    assert command.run().wait() == 0, command.said
    seconds = time.monotonic() - began
    made = command.made()
    assert made is not None
    return Undisturbed(open_run(made), seconds)


def test_whenever_the_driver_is_killed_the_run_ends_as_it_would_have(
    home: Path, ray_folder: Path, undisturbed: Undisturbed
) -> None:
    tally = Tally("driver killed (kill -9), some again while they resumed")
    chance = random.Random(None if CHAOS else 8)
    for number in range(KILLS):
        command = CommandLine(home, home / f"killed-{number}", ray_folder)
        at = chance.uniform(0, undisturbed.seconds)
        kill_after(command.run(), at)
        tally.injected += 1
        path = command.made()
        if path is None:  # nothing is half made that a new run would trip over
            tally.outcomes["had not begun"] += 1
            continue
        before = dict(reported(path))
        if chance.random() < AGAIN:
            kill_after(command.resume(), chance.uniform(0, undisturbed.seconds))
            before |= reported(path)
            tally.injected += 1
            tally.outcomes["resumed again"] += 1
        code = command.resume().wait()
        made = open_run(path)
        lost = count_lost(before, made)
        tally.results_lost += lost
        right = code == 0 and made.ending is Ending.ALL_TRIALS and same_tables(made, undisturbed.made)
        assert right, f"killed after {at} s: {path}\n{command.said}"
        assert lost == 0, f"killed after {at} s: {path}"
        tally.outcomes["ended bit for bit as an undisturbed run"] += 1
        shutil.rmtree(path)
    tally.report()
    assert tally.outcomes["ended bit for bit as an undisturbed run"] > 0
