"""Whether a run may be resumed, as which job, and whether it has work left: answers from events alone."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tune_jobs.driver.preparation import trial_task
from tune_jobs.driver.resumption import is_over, job_to_resume, keep_job, run_resumed
from tune_jobs.errors import DamagedRun, JobError
from tune_jobs.job.fingerprint import CHANGEABLE
from tune_jobs.job.job import Job
from tune_jobs.record.codes import Ending
from tune_jobs.record.events import (
    Event,
    JobChanged,
    RunEnded,
    RunResumed,
    RunStarted,
    TrialCreated,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal, read_journal
from tune_jobs.record.reading import read_run

MakeSections = Callable[..., dict[str, Any]]
MakeRun = Callable[..., RunFolder]


def begun(at: float = 1000.0, versions: dict[str, str] | None = None) -> RunStarted:
    return RunStarted(
        time=at, name="small", job_folder="", trials=2, rows={}, fingerprints={}, versions=versions or {}
    )


def created(number: int) -> TrialCreated:
    return TrialCreated(time=1001.0, trial_id=f"{number:04d}", number=number, configuration={})


def ended(how: Ending, at: float = 1060.0) -> RunEnded:
    return RunEnded(time=at, ending=how)


@pytest.fixture
def job(make_sections: MakeSections) -> Callable[..., Job]:
    return lambda **changes: Job.from_mapping(
        make_sections(
            {"search/trials": 2, **{key.replace("__", "/"): value for key, value in changes.items()}}
        )
    )


TWO: list[Event] = [begun(), created(0), created(1)]


def test_a_run_without_an_end_is_not_over(job: Callable[..., Job]) -> None:
    assert not is_over(job(), TWO)


@pytest.mark.parametrize("ending", Ending)
def test_only_a_run_whose_trials_have_all_ended_is_over(job: Callable[..., Job], ending: Ending) -> None:
    assert is_over(job(), [*TWO, ended(ending)]) is (ending is Ending.ALL_TRIALS)


def test_a_run_that_is_asked_for_more_trials_is_not_over(job: Callable[..., Job]) -> None:
    assert not is_over(job(search__trials=3), [*TWO, ended(Ending.ALL_TRIALS)])


def test_the_time_of_earlier_drivers_counts(job: Callable[..., Job]) -> None:
    events = [*TWO, ended(Ending.TIME_LIMIT, at=1060.0)]
    assert is_over(job(limits__minutes=1), events)
    assert not is_over(job(limits__minutes=2), events)
    assert not is_over(job(limits__minutes=None), events)
    again = [*events, RunResumed(time=9000.0, trials=2, versions={}), ended(Ending.TIME_LIMIT, at=9060.0)]
    assert is_over(job(limits__minutes=2), again)


def test_the_time_that_is_left_is_the_deadline(
    job: Callable[..., Job], folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    limited = job(limits__minutes=2)
    assert trial_task(limited, folder, spent=90).deadline == 1030.0
    assert trial_task(job(), folder, spent=90).deadline is None


def test_keys_that_may_change_are_changed(make_run: MakeRun) -> None:
    folder = make_run([{"losses": [0.5]}])
    with Journal(folder.journal) as journal:
        changed = job_to_resume(
            folder,
            journal.past,
            [("search.trials", 9), ("limits.minutes", 3), ("tracking.wandb.project", "demo")],
        )
        assert job_to_resume(folder, journal.past, []).search.trials == 6
    assert (changed.search.trials, changed.limits.minutes) == (9, 3)
    assert changed.tracking.wandb is not None


@pytest.mark.parametrize(
    "name", ["seed", "search.method", "search.trialsx", "limit.minutes", "data.split.seed"]
)
def test_a_fixed_key_is_named_with_the_keys_that_may_change(make_run: MakeRun, name: str) -> None:
    folder = make_run([{"losses": [0.5]}])
    with Journal(folder.journal) as journal, pytest.raises(JobError) as caught:
        job_to_resume(folder, journal.past, [(name, 1)])
    assert name in str(caught.value)
    assert all(key in str(caught.value) for key in (*CHANGEABLE, "data.source"))


def test_a_wrong_value_is_one_problem(make_run: MakeRun) -> None:
    folder = make_run([{"losses": [0.5]}])
    with Journal(folder.journal) as journal, pytest.raises(JobError, match=r"search\.trials"):
        job_to_resume(folder, journal.past, [("search.trials", "many")])


def test_other_versions_are_a_notice(job: Callable[..., Job], tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with Journal(path) as journal:
        journal.append(begun(versions={"torch": "1.0"}))
    with Journal(path) as journal:
        notices = run_resumed(job(), journal).notices
    assert any(notice.startswith("torch 1.0 is now 2.") for notice in notices)


# The file of the job


def resumed(folder: RunFolder, *overrides: tuple[str, Any]) -> Job:
    """Write the job as a resumption with these overrides does."""
    with Journal(folder.journal) as journal:
        job = job_to_resume(folder, journal.past, overrides)
        keep_job(job, folder, journal, overrides)
    return read_run(folder).job


def changes(folder: RunFolder) -> list[Mapping[str, Any]]:
    return [event.changes for event in read_journal(folder.journal) if isinstance(event, JobChanged)]


def test_the_journal_records_what_a_resumption_changes(make_run: MakeRun) -> None:
    folder = make_run([{"losses": [0.5]}])
    assert resumed(folder) == read_run(folder).job
    assert changes(folder) == []
    assert resumed(folder, ("search.trials", 30)).trials == 30
    assert resumed(folder, ("search.trials", 30)).trials == 30
    assert resumed(folder, ("search.trials", 40), ("limits.minutes", 5.0)).trials == 40
    assert changes(folder) == [{"search.trials": 30}, {"search.trials": 40, "limits.minutes": 5.0}]


def test_a_driver_that_dies_before_it_writes_the_job_leaves_a_run_that_can_be_read(make_run: MakeRun) -> None:
    folder = make_run([{"losses": [0.5]}])
    first = folder.job.read_bytes()
    for trials in (30, 40):
        resumed(folder, ("search.trials", trials))
        folder.job.write_bytes(first)
        assert read_run(folder).job.trials != trials
    assert resumed(folder, ("search.trials", 50)).trials == 50
    assert resumed(folder, ("search.trials", 60)).trials == 60
    folder.job.write_bytes(first)
    with pytest.raises(DamagedRun, match=r"job\.yaml: was changed by hand"):
        read_run(folder)
