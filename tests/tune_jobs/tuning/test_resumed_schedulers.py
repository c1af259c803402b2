"""Resumed runs with Ray's own schedulers, and with a cut journal, under a real Ray: they end as undisturbed ones."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.tune_jobs.driver.test_resume import Copies, assert_the_same
from tests.tune_jobs.runs import events_of, line_in
from tune_jobs import Run, resume, run
from tune_jobs.driver.repair import repair
from tune_jobs.errors import DamagedRun
from tune_jobs.record.codes import Cause
from tune_jobs.record.events import (
    EpochsReported,
    TrialEnded,
    in_force,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import read_journal
from tune_jobs.tuning.ray_schedulers import JournaledRule, ray_scheduler

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("slope_kind", "ray_running")]


def stopped_by_rule(made: Run) -> set[str]:
    """Return the trials that the scheduler stops after the events of the run's journal."""
    job, epochs = made.job, made.job.max_epochs
    scheduler = ray_scheduler(job.scheduler, epochs)
    rungs = job.rungs
    return JournaledRule.replay(scheduler, rungs, job.selection, in_force(events_of(made))).stopped


def is_stop(event: Any) -> bool:
    return isinstance(event, TrialEnded) and event.cause is Cause.STOPPED_BY_SCHEDULER


def run_and_copy(folder: Path, method: str, trials: int) -> tuple[Run, list[Path]]:
    """Run a job. Return the run, and copies of its folder at each report, before Ray Tune receives the decision."""
    copies = Copies(folder, lambda _, event: isinstance(event, EpochsReported))
    job = line_in(folder, {"scheduler/method": method, "search/trials": trials})
    return run(job, listeners=[copies]), copies.paths


@pytest.fixture(scope="module")
def stopping(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[Path]]:
    return run_and_copy(tmp_path_factory.mktemp("stopping"), "asha_stopping", 8)


@pytest.mark.parametrize("method", ["asha_stopping", "median"])
def test_a_killed_run_ends_as_it_would_have_with_the_schedulers_of_ray(
    method: str, stopping: tuple[Run, list[Path]], tmp_path: Path
) -> None:
    expected, copies = stopping if method == "asha_stopping" else run_and_copy(tmp_path, method, 12)
    stopped = {event.trial_id for event in events_of(expected) if is_stop(event)}
    assert stopped == stopped_by_rule(expected) != set()
    made = resume(shutil.copytree(copies[len(copies) // 2], tmp_path / "midway"))
    assert_the_same(made, expected)
    assert stopped_by_rule(made) == stopped


def test_a_trial_that_was_to_be_stopped_when_the_driver_was_killed_trains_no_further(
    stopping: tuple[Run, list[Path]],
) -> None:
    expected, copies = stopping
    last = {
        event.trial_id: max(expected.record.trials[event.trial_id].epochs)
        for event in events_of(expected)
        if is_stop(event)
    }
    doomed = next(path for path in copies if reported_by(path) in last.items())
    assert_the_same(resume(doomed), expected)


def reported_by(copy: Path) -> tuple[str, int]:
    """Return the trial and the epoch of the report at which the copy was made."""
    event = read_journal(RunFolder(copy).journal)[-1]
    assert isinstance(event, EpochsReported)
    return event.trial_id, int(event.results[-1]["epoch"])


def test_a_journal_that_was_cut_is_trained_on_to_the_same_end(
    stopping: tuple[Run, list[Path]], tmp_path: Path
) -> None:
    expected, _ = stopping
    path, place = tmp_path / "damaged", len(events_of(expected)) // 2
    shutil.copytree(expected.path, path)
    journal = RunFolder(path).journal
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[place] = lines[place].replace(b":", b";", 1)
    journal.write_bytes(b"".join(lines))
    with pytest.raises(DamagedRun, match=f"line {place + 1} of "):
        resume(path)
    repair(path, cut=True)
    assert_the_same(resume(path), expected)
