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
from tune_jobs.tuning.ray_schedulers import JournaledRule, ray_scheduler

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("slope_kind", "ray_running")]

CHANGES: dict[str, Any] = {"search/trials": 9}


def stopped_by_rule(made: Run) -> set[str]:
    """Return the trials that the scheduler stops after the events of the run's journal."""
    job, epochs = made.job, made.job.max_epochs
    scheduler = ray_scheduler(job.scheduler, epochs)
    rungs = job.rungs
    return JournaledRule.replay(scheduler, rungs, job.selection, in_force(events_of(made))).stopped


@pytest.mark.parametrize(("method", "trials"), [("asha_stopping", 8), ("median", 12)])
def test_a_killed_run_ends_as_it_would_have_with_the_schedulers_of_ray(
    method: str, trials: int, tmp_path: Path
) -> None:
    copies = Copies(tmp_path, lambda count, _: count in {17, 39})
    changes = {**CHANGES, "scheduler/method": method, "search/trials": trials}
    expected = run(line_in(tmp_path, changes), listeners=[copies])
    stopped = {event.trial_id for event in events_of(expected) if _is_stop(event)}
    assert stopped == stopped_by_rule(expected) != set()
    assert len(copies.paths) == 2
    for path in copies.paths:
        made = resume(path)
        assert_the_same(made, expected)
        assert stopped_by_rule(made) == stopped


def _is_stop(event: Any) -> bool:
    return isinstance(event, TrialEnded) and event.cause is Cause.STOPPED_BY_SCHEDULER


def test_a_trial_that_was_to_be_stopped_when_the_driver_was_killed_trains_no_further(tmp_path: Path) -> None:
    """The copy is made when the report is in the journal, before Ray Tune receives the decision."""
    doomed: list[Path] = []

    def copy(event: Any) -> None:
        if isinstance(event, EpochsReported):
            (made,) = (tmp_path / "runs").iterdir()
            target = tmp_path / "copies" / f"{event.trial_id}-{event.results[-1]['epoch']}"
            shutil.copytree(made, target, ignore=shutil.ignore_patterns(".*", "*.lock"))
            doomed.append(target)

    job = line_in(tmp_path, {**CHANGES, "search/trials": 8, "scheduler/method": "asha_stopping"})
    expected = run(job, listeners=[copy])
    stops = {event.trial_id for event in events_of(expected) if _is_stop(event)}
    last = next(
        path for path in doomed if path.name.partition("-")[0] in stops and not path.name.endswith("-9")
    )
    assert_the_same(resume(last), expected)


def test_a_journal_that_was_cut_is_trained_on_to_the_same_end(tmp_path: Path) -> None:
    expected = run(line_in(tmp_path, CHANGES))
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
