"""Workers that are killed in the middle of their epochs: no trial fails, and no curve differs."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.injection import CHAOS, Tally
from tests.faults.killing import count_lost, results_of
from tests.tune_jobs.runs import assert_curves_are_those_of_training_alone, events_of, line_in, steady_in
from tune_jobs import Job, open_run, resume, run
from tune_jobs.errors import Interrupted
from tune_jobs.record.codes import Status
from tune_jobs.record.events import (
    EpochsReported,
    Event,
    RunEnded,
    TrialEnded,
    TrialPaused,
    WorkerLost,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.usefixtures("slope_kind", "ray_running"),
]

KILLS = 50 if CHAOS else 4
SIGNALS = {"killed (kill -9)": signal.SIGKILL, "segmentation fault": signal.SIGSEGV}
LONG = {"search/trials": 6, "scheduler/grace_epochs": 8, "limits/retries_per_trial": 1000}
"""A run that is long enough to kill its workers."""


def training(folder: Path) -> Job:
    """Return a job with PyTorch whose epochs take a moment."""
    space = {"lr": {"low": 1e-4, "high": 0.3, "log": True}}
    return steady_in(folder, {**LONG, "search/space": space, "training/max_epochs": 18})


def line(folder: Path) -> Job:
    """Return such a job with the small kind."""
    return line_in(folder, {**LONG, "slope": {"epochs": 18, "pause": 0.2}})


class Killer:
    """Kills the worker of a trial in the middle of its epochs, again and again.

    A listener of the run: it knows the workers from their reports and kills them in a separate thread.
    """

    def __init__(self, kills: int, number: int, chance: random.Random) -> None:
        self.killed = 0
        self.received: list[Event] = []
        self._kills = kills
        self._signal = number
        self._chance = chance
        self._busy: dict[str, int] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        with self._lock:
            self.received.append(event)
            match event:
                case EpochsReported():
                    self._busy[event.trial_id] = int(event.worker.rpartition(":")[2])
                case TrialEnded() | TrialPaused() | WorkerLost():
                    self._busy.pop(event.trial_id, None)
                case RunEnded():
                    self._over.set()

    def _work(self) -> None:
        while self.killed < self._kills and not self._over.wait(self._chance.uniform(0.0, 1.0)):
            with self._lock:
                if not self._busy:
                    continue
                trial = self._chance.choice(sorted(self._busy))
                pid = self._busy.pop(trial)
                try:
                    os.kill(pid, self._signal)
                except ProcessLookupError:
                    continue
                self.killed += 1


@pytest.mark.parametrize(("how", "make_job"), [(how, training if CHAOS else line) for how in SIGNALS])
def test_a_killed_worker_costs_time_and_nothing_else(
    how: str, make_job: Callable[[Path], Job], tmp_path: Path
) -> None:
    tally = Tally(f"worker {how}")
    chance = random.Random(time.time_ns() if CHAOS else 3)
    wanted = KILLS // 2
    while tally.injected < wanted:
        folder = tmp_path / f"{tally.injected}"
        folder.mkdir()
        killer = Killer(min(10, wanted - tally.injected), SIGNALS[how], chance)
        made = run(make_job(folder), listeners=[killer])
        lost = count_lost(results_of(killer.received), made)
        losses = [event for event in events_of(made) if isinstance(event, WorkerLost)]
        tally.injected += killer.killed
        tally.results_lost += lost
        assert killer.killed > 0
        assert lost == 0
        assert len(made.trials) == 6
        assert not made.record.with_status(Status.FAILED), made.trials[["status", "reason"]]
        assert_curves_are_those_of_training_alone(made)
        assert len(losses) <= killer.killed
        tally.outcomes["went on from the last checkpoint"] += killer.killed
    tally.report()


def test_workers_that_die_with_an_interruption_are_no_fault_of_their_trials(tmp_path: Path) -> None:
    """A shutdown of the machine interrupts the driver and the workers together. It costs no retry."""
    changes = {
        "slope": {"epochs": 40, "pause": 0.2},
        "search/space": {"rate": {"values": [0.01, 0.02]}},
        "search/method": "grid",
        "scheduler": {"method": "none"},
        "limits/retries_per_trial": 0,
        "resources/max_concurrent": 2,
    }
    job = line_in(tmp_path, changes)
    driver = threading.main_thread().ident
    assert driver is not None
    ended: list[int] = []

    def shut_down(event: Event) -> None:
        if isinstance(event, EpochsReported) and not ended and len(event.results) > 1:
            signal.pthread_kill(driver, signal.SIGTERM)
            ended.append(int(event.worker.rpartition(":")[2]))
            os.kill(ended[0], signal.SIGKILL)

    with pytest.raises(Interrupted):
        run(job, listeners=[shut_down])
    (path,) = (tmp_path / "runs").iterdir()
    assert set(open_run(path).trials["status"]) == {"interrupted"}
    made = resume(path)
    assert list(made.trials["status"]) == ["completed"] * 2
    assert_curves_are_those_of_training_alone(made)
