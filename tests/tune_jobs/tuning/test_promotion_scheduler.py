"""The scheduler that pauses trials, without Ray Tune's loop, with a controller that records calls."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from tune_jobs.record.codes import Cause, Status
from tune_jobs.record.events import (
    EpochsReported,
    Event,
    TrialCreated,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
    TrialStarted,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal
from tune_jobs.record.live import LiveRun
from tune_jobs.scheduling.journaled_tables import JournaledTables
from tune_jobs.scheduling.rungs import RungTables
from tune_jobs.trainers.settings import ScoreSettings
from tune_jobs.tuning.control import RunControl
from tune_jobs.tuning.promotion_scheduler import PromotionScheduler
from tune_jobs.tuning.report_recorder import ReportRecorder
from tune_jobs.worker.reporting import Report

LOSS = ScoreSettings(metric="val_loss")
CONTINUE, NOOP, STOP = TrialScheduler.CONTINUE, TrialScheduler.NOOP, TrialScheduler.STOP


@dataclass(eq=False)
class FakeTrial:
    """The part of a trial that the scheduler reads."""

    config: dict[str, Any]
    status: str = Trial.PENDING


class Run:
    """Two workers, rungs at 1 and 3, and as much of Ray Tune as the scheduler uses."""

    def __init__(self, folder: RunFolder, score: ScoreSettings = LOSS) -> None:
        self.events: list[Event] = []
        self.journal = Journal(folder.journal, self.events.append)
        live = LiveRun.on(folder, self.journal, score)
        self.record = live.record
        self.append = live.append
        self.exhausted = self.out_of_time = False
        self.trials: list[Any] = []
        self._resetting_trials: set[Any] = set()
        self.scheduler = PromotionScheduler(
            JournaledTables(live, RungTables((1, 3), 3, score)),
            ReportRecorder(live),
            RunControl(max_running=lambda: 2, out_of_time=lambda: self.out_of_time),
            self,
        )

    # The interface of a controller.

    def get_trials(self) -> list[Any]:
        return self.trials

    def pause_trial(self, trial: Any, should_checkpoint: bool = True) -> None:
        assert not should_checkpoint, "the trainable has written its own"
        trial.status = Trial.PAUSED

    def stop_trial(self, trial: Any) -> None:
        trial.status = Trial.TERMINATED
        self.append(
            TrialEnded(
                trial_id=trial.config["trial_id"],
                status=Status.STOPPED_EARLY,
                cause=Cause.NOT_PROMOTED,
                reason="waited",
            )
        )

    def _set_trial_status(self, trial: Any, status: str) -> None:
        trial.status = status

    # Events of the run.

    def create(self) -> Any:
        number = len(self.trials)
        self.trials.append(FakeTrial({"trial_id": f"{number:04d}"}))
        self.append(TrialCreated(trial_id=f"{number:04d}", number=number, configuration={}))
        return self.trials[-1]

    def start(self, trial: Any) -> None:
        trial.status = Trial.RUNNING
        self.append(TrialStarted(trial_id=trial.config["trial_id"]))

    def report(self, trial: Any, *losses: float, first: int = 1, rung: bool = True) -> str:
        results = [
            {"epoch": epoch, "train_loss": 1.0, "val_loss": loss, "seconds": 0.1}
            for epoch, loss in enumerate(losses, start=first)
        ]
        report = Report(epoch=first + len(losses) - 1, results=results, score=min(losses), rung=rung)
        return self.scheduler.on_trial_result(self, trial, {**report.to_result(), "hostname": "n", "pid": 1})

    def report_first_rung(self, loss: float) -> Any:
        trial = self.create()
        self.start(trial)
        self.report(trial, loss)
        return trial

    def choose(self) -> Any:
        return self.scheduler.choose_trial_to_run(self)

    def kinds(self, *kinds: type[Event]) -> list[tuple[str, str]]:
        return [(event.type, event.trial_id) for event in self.events if isinstance(event, kinds)]  # type: ignore[attr-defined]


@pytest.fixture
def run(folder: RunFolder) -> Iterator[Run]:
    run = Run(folder)
    with run.journal:
        yield run


def test_a_report_is_in_the_journal_before_the_decision_on_it(run: Run) -> None:
    run.report_first_rung(0.5)
    assert [type(event) for event in run.events[-2:]] == [EpochsReported, TrialPaused]
    assert run.record.trials["0000"].status is Status.WAITING


def test_reports_between_rungs_are_written_and_the_trial_continues(run: Run) -> None:
    trial = run.create()
    run.start(trial)
    run.report(trial, 0.5)
    assert run.report(trial, 0.4, first=2, rung=False) == CONTINUE
    assert len(run.kinds(EpochsReported)) == 2


def test_trials_are_paused_and_the_best_of_three_is_promoted(run: Run) -> None:
    a, b = run.report_first_rung(0.2), run.report_first_rung(0.3)
    assert (a.status, b.status) == (Trial.PAUSED, Trial.PAUSED)
    assert run.choose() is None
    run.report_first_rung(0.4)
    assert run.choose() is a
    assert run.kinds(TrialPromoted) == [("trial_promoted", "0000")]


def test_a_trial_among_the_best_continues_without_a_pause(run: Run) -> None:
    run.report_first_rung(0.4)
    run.report_first_rung(0.3)
    trial = run.create()
    run.start(trial)
    assert run.report(trial, 0.2) == CONTINUE
    assert run.kinds(TrialPromoted) == [("trial_promoted", "0002")]
    assert run.report(trial, 0.2) == CONTINUE, "the rung again, after its worker was lost"
    assert len(run.kinds(TrialPromoted)) == 1


def test_choosing_twice_promotes_once(run: Run) -> None:
    a, *_ = run.report_first_rung(0.2), run.report_first_rung(0.3), run.report_first_rung(0.4)
    assert run.choose() is a
    assert run.choose() is a
    assert len(run.kinds(TrialPromoted)) == 1


def test_nothing_is_promoted_while_all_workers_are_taken(run: Run) -> None:
    busy = [run.create(), run.create()]
    a, *_ = run.report_first_rung(0.2), run.report_first_rung(0.3), run.report_first_rung(0.4)
    assert run.choose() is busy[0], "a trial that is pending"
    run.start(busy[0])
    run.start(busy[1])
    assert run.choose() is None
    run.report(busy[0], 0.9)
    assert run.choose() is a


def test_waiting_ends_when_nothing_is_left_to_start_or_to_promote(run: Run) -> None:
    a, *others = run.report_first_rung(0.2), run.report_first_rung(0.3), run.report_first_rung(0.4)
    run.exhausted = True
    assert run.choose() is a
    run.start(a)
    assert run.choose() is None
    assert all(trial.status == Trial.PAUSED for trial in others), "`a` may yet fill a rung"
    assert run.report(a, 0.2, 0.2, first=2) == NOOP
    assert run.choose() is None
    assert {trial.status for trial in run.trials} == {Trial.TERMINATED}
    assert len(run.kinds(TrialEnded)) == 3


def test_trials_wait_for_those_that_are_still_to_come(run: Run) -> None:
    run.report_first_rung(0.2)
    assert run.choose() is None
    assert run.kinds(TrialEnded) == []


def test_after_the_deadline_nothing_is_promoted_and_waiting_ends(run: Run) -> None:
    run.report_first_rung(0.3)
    run.report_first_rung(0.4)
    best = run.create()
    run.start(best)
    run.out_of_time = run.exhausted = True
    assert run.report(best, 0.2) == NOOP
    assert run.choose() is None
    assert run.kinds(TrialPromoted) == []
    assert len(run.kinds(TrialEnded)) == 3


def test_a_trial_without_a_finite_score_is_stopped(folder: RunFolder) -> None:
    run = Run(folder, ScoreSettings(metric="r2", mode="max"))
    trial = run.create()
    run.start(trial)
    results = [{"epoch": 1, "train_loss": 1.0, "val_loss": 1.0, "seconds": 0.5, "r2": float("nan")}]
    report = Report(epoch=1, results=results, score=None, rung=True)
    result = {**report.to_result(), "hostname": "n", "pid": 1}
    with run.journal:
        assert run.scheduler.on_trial_result(run, trial, result) == STOP
    assert run.kinds(TrialPaused) == []


def test_a_trial_whose_new_worker_is_dead_is_chosen_again(run: Run) -> None:
    run.report_first_rung(0.2)
    run.report_first_rung(0.3)
    run.report_first_rung(0.4)
    promoted = run.choose()
    promoted.status = Trial.PENDING
    handed_over = run._resetting_trials = {promoted}
    run.scheduler.on_trial_add(run, promoted)
    assert promoted.status == Trial.PAUSED
    assert promoted not in handed_over
    assert run.choose() is promoted
    run.scheduler.on_trial_add(run, run.create())
    assert run.trials[-1].status == Trial.PENDING


def test_the_summary_of_the_rungs(run: Run) -> None:
    run.report_first_rung(0.2)
    assert run.scheduler.debug_string() == (
        "Waiting at rungs: epoch 1: 1 of 1 wait, 0 promoted; epoch 3: 0 of 0 wait, 0 promoted"
    )


def test_another_scheduler_on_replayed_events_continues_in_the_same_way(run: Run, tmp_path: Path) -> None:
    for loss in (0.2, 0.3, 0.4):
        run.report_first_rung(loss)
    again = Run(RunFolder.create(tmp_path / "again", "small"))
    with again.journal:
        for event in run.events:
            again.append(event)
        again.trials = run.trials
        assert again.choose() is run.choose()
    assert again.kinds(TrialPromoted) == run.kinds(TrialPromoted)
