"""Sentences are for people: new wording changes no decision of a run that is read, repaired or resumed."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tune_jobs.driver.resumption import is_over
from tune_jobs.job.job import Job
from tune_jobs.record.codes import CAUSE_SENTENCES, ENDING_SENTENCES, Cause, Ending
from tune_jobs.record.events import (
    EpochsReported,
    Event,
    RunEnded,
    RunStarted,
    TrialCreated,
    TrialEnded,
    TrialStarted,
    in_force,
)
from tune_jobs.record.journal import Journal, read_journal
from tune_jobs.record.run_record import RunRecord
from tune_jobs.record.tables import trials_table
from tune_jobs.scheduling.rungs import RungTables
from tune_jobs.search.history import SearchHistory
from tune_jobs.selection.rule import select_winner
from tune_jobs.trainers.interface import STOP_SENTENCES
from tune_jobs.tuning.callback import trial_ending
from tune_jobs.worker.reporting import Report, Reporter

RUNGS = (1, 3)


@pytest.fixture
def job(make_sections: Callable[..., dict[str, Any]]) -> Job:
    return Job.from_mapping(make_sections({"search/trials": len(Cause), "limits/minutes": 1.0}))


def story(ending: Ending) -> Iterator[Event]:
    """Yield the events of a run with a trial of two epochs for each cause of an end, with the current sentences."""
    yield RunStarted(
        time=0.0, name="a", job_folder="", trials=len(Cause), rows={}, fingerprints={}, versions={}
    )
    for number, cause in enumerate(Cause):
        trial_id = f"{number:04d}"
        losses = [(epoch, 1.0 / (epoch + number)) for epoch in (1, 2)]
        results = [
            {"epoch": epoch, "train_loss": loss, "val_loss": loss, "lr": 0.1, "seconds": 1.0}
            for epoch, loss in losses
        ]
        yield TrialCreated(time=1.0, trial_id=trial_id, number=number, configuration={"lr": 0.1})
        yield TrialStarted(time=1.0, trial_id=trial_id)
        yield EpochsReported(time=2.0, trial_id=trial_id, results=results, worker="a:1")
        reason = ending.sentence if cause is Cause.RUN_ENDED else cause.sentence.format(epoch=2, factor=3)
        yield replace(TrialEnded.by(trial_id, cause, reason), time=100.0)
    yield RunEnded(time=100.0, ending=ending)


def decisions(events: list[Event], job: Job) -> dict[str, Any]:
    """Return all decisions that follow from the events of a run."""
    force = in_force(events)
    record = RunRecord.replay(force, job.selection)
    history = SearchHistory.replay(force, job.search.space, RUNGS, 9, job.selection)
    tables = RungTables.replay(force, RUNGS, 3, job.selection)
    winner = select_winner(record)
    return {
        "trials": {
            name: (trial.status, trial.cause, trial.cut_off, trial.ended, trial.epochs, record.best(name))
            for name, trial in record.trials.items()
        },
        "ending": (record.ending, record.ending and record.ending.cut_off),
        "table": trials_table(record).drop_columns(["reason"]).to_pylist(),
        "history": history.snapshot(),
        "rungs": ([dict(tables.entries(epoch)) for epoch in RUNGS], tables.summary(), tables.open),
        "over": is_over(job, events),
        "continued": [
            event.trial_id for event in events if isinstance(event, TrialEnded) and event.revocable
        ],
        "winner": winner and winner.trial.trial_id,
    }


def reports(job: Job) -> list[Cause]:
    """Return how the driver ends trials after the reports of their workers."""
    ends: list[Cause] = []
    for cause in Cause:
        sent: list[dict[str, Any]] = []
        reporter = Reporter(job.selection, sent.append)
        reporter.add([{"epoch": 1, "train_loss": 1.0, "val_loss": 1.0, "lr": 0.1, "seconds": 1.0}])
        if cause.of_training or cause is Cause.TIME_LIMIT:
            reporter.end(cause)
        else:
            reporter.send(rung=True)
        ends.append(trial_ending(Report.of_result(sent[-1]))[0])
    return ends


@pytest.mark.parametrize("ending", Ending)
def test_reworded_sentences_change_no_decision(
    job: Job, ending: Ending, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = [*story(ending)]
    with Journal(tmp_path / "events.jsonl") as journal:
        for event in written:
            journal.append(event)
    before, ends = decisions(written, job), reports(job)
    for table in (STOP_SENTENCES, CAUSE_SENTENCES, ENDING_SENTENCES):
        for number, code in enumerate(list(table)):
            monkeypatch.setitem(table, code, f"reworded {number}")  # type: ignore[arg-type]
    reworded = [*story(ending)]
    assert [event for event in reworded if event not in written], "the sentences of this story are others"
    assert decisions(read_journal(tmp_path / "events.jsonl"), job) == before
    assert decisions(reworded, job) == before
    assert reports(job) == ends


@pytest.mark.parametrize("table", [STOP_SENTENCES, CAUSE_SENTENCES, ENDING_SENTENCES])
def test_no_code_is_shown_in_place_of_a_sentence(table: dict[Any, str]) -> None:
    assert all(" " in sentence for sentence in table.values())
